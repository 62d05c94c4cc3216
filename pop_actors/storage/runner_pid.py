"""runner.pid: which process runs a job, and how the next start of the service ends one that was left behind.

A pid alone may belong to somebody else by now. The file names the process that led its own group and had started when
the file was written; anything else is left alone.
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from pop_actors.storage.files import write_first
from pop_actors.storage.moves import unlink_if_there

_TICKS = os.sysconf("SC_CLK_TCK")
_START_FIELD = 22
_GROUP_FIELD = 5
LARGEST_PID = 4_194_304  # the kernel's own limit
CLOCK_SLACK_SECONDS = 2.0  # /proc/stat tells the time of boot in whole seconds


@dataclass(frozen=True, slots=True)
class _Process:
    """`start` in clock ticks since boot (field 22 of /proc/PID/stat)."""

    pid: int
    group: int
    start: int


def write_runner_pid(path: Path, pid: int) -> None:
    """Say that `pid`, which is running now, runs the job."""
    write_first(path, f"{pid}\n".encode())


def kill_left_behind(path: Path, timeout: float) -> int | None:
    """Kill the process group a runner.pid names, where it is still that one, and wait until it is dead; then remove the
    file. The pid that was killed, or None. TimeoutError where it does not die within `timeout` seconds."""
    named = _read(path)
    if named is None:
        return None
    pid, start, written = named
    killed = _kill(pid, start, written, timeout)
    unlink_if_there(path)
    return pid if killed else None


def process_left_behind(path: Path) -> int | None:
    """The process a runner.pid names, where it is still that one; nothing is done to it."""
    try:
        named = _read(path)
        process = _look_at(named[0]) if named is not None and 1 < named[0] <= LARGEST_PID else None
    except OSError:
        return None
    if named is None or process is None or not _is_the_one(process, named[1], named[2]):
        return None
    return process.pid


def _read(path: Path) -> tuple[int, int | None, float] | None:
    """(pid, start in ticks where the file says it, when the file was written); None where it says nothing usable."""
    try:
        fields = path.read_bytes().split()
        written = path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not fields or not fields[0].isdigit():
        return (0, None, written)
    start = int(fields[1]) if len(fields) > 1 and fields[1].isdigit() else None
    return int(fields[0]), start, written


def _kill(pid: int, start: int | None, written: float, timeout: float) -> bool:
    if not 1 < pid <= LARGEST_PID:
        return False
    try:
        handle = os.pidfd_open(pid)  # opened before the check, so that the pid cannot change hands in between
    except ProcessLookupError:
        return False
    try:
        process = _look_at(pid)
        if process is None or not _is_the_one(process, start, written):
            return False
        _kill_group(process.group)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise TimeoutError(f"process {pid} did not die within {timeout} s after SIGKILL")
        return True
    finally:
        os.close(handle)


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return  # it ended by itself meanwhile


def _look_at(pid: int) -> _Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # what follows the name in brackets begins with field 3
    return _Process(pid, int(fields[_GROUP_FIELD - 3]), int(fields[_START_FIELD - 3]))


def _is_the_one(process: _Process, start: int | None, written: float) -> bool:
    if process.group != process.pid or process.group == os.getpgrp():
        return False
    if start is not None:
        return process.start == start
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    started = time.time() - uptime + process.start / _TICKS
    return started <= written + CLOCK_SLACK_SECONDS
