"""Blots secrets out of the memory the kernel shows as /proc/PID/environ, which unsetting a variable does not touch.

Any process of the same user, a task's among them, may read that file of the daemon.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

ENV_START_FIELD = 50  # of /proc/self/stat, counted from 1; proc(5)
FIELDS_BEFORE_STATE = 2


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


def _values(block: bytes, prefix: bytes) -> Iterable[tuple[int, int]]:
    """Offset and length of each value behind `prefix`."""
    place = 0
    for entry in block.split(b"\0"):
        if entry.startswith(prefix):
            yield place + len(prefix), len(entry) - len(prefix)
        place += len(entry) + 1
