"""Keeps the daemon's secrets from other processes of the same user, a task's among them, and out of core dumps.

They could read its memory, and the block the kernel shows as /proc/PID/environ, which unsetting a variable leaves as it
was.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

ENV_START_FIELD = 50  # of /proc/self/stat, counted from 1; proc(5)
FIELDS_BEFORE_STATE = 2
PR_SET_DUMPABLE = 4  # Linux, <sys/prctl.h>


def blot_out(names: Iterable[str]) -> None:
    """Overwrite the values these variables had when the process started. The variables must be unset already."""
    with open("/proc/self/environ", "rb") as file:
        block = file.read()
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    start = int(fields[ENV_START_FIELD - FIELDS_BEFORE_STATE - 1])
    for name in names:
        for place, length in _values(block, f"{name}=".encode()):
            ctypes.memset(start + place, ord("x"), length)


def close_memory() -> None:
    """From now on this process leaves no core dump, and only root may read its memory, environment and descriptors.

    What it starts is not concerned, once that has executed a program of its own. See prctl(2), PR_SET_DUMPABLE.
    """
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def _values(block: bytes, prefix: bytes) -> Iterable[tuple[int, int]]:
    """Offset and length of each value behind `prefix`."""
    place = 0
    for entry in block.split(b"\0"):
        if entry.startswith(prefix):
            yield place + len(prefix), len(entry) - len(prefix)
        place += len(entry) + 1
