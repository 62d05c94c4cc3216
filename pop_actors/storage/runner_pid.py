"""runner.pid: which process runs a job, and how the next start of the service ends one that was left behind.

A pid alone may belong to somebody else by now. The one that was meant leads its own group and carries its workspace's
mark in its environment, as every process below a job does; anything else is left alone. No clock has a say in it.
"""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from pop_actors.process_table import WORKSPACE, carries
from pop_actors.storage.files import write_first
from pop_actors.storage.moves import unlink_if_there

LARGEST_PID = 4_194_304  # the kernel's own limit


def write_runner_pid(path: Path, pid: int) -> None:
    """Say that `pid`, which is running now, runs the job."""
    write_first(path, f"{pid}\n".encode())


def kill_left_behind(path: Path, mark: str, timeout: float) -> int | None:
    """Kill the process group a runner.pid names, where it is still that one, and wait until it is dead; then remove the
    file. The pid that was killed, or None. `mark` is the workspace's (`left_behind.mark_of`). TimeoutError where it
    does not die within `timeout` seconds."""
    pid = _read(path)
    if pid is None:
        return None
    killed = _kill(pid, mark, timeout)
    unlink_if_there(path)
    return pid if killed else None


def process_left_behind(path: Path, mark: str) -> int | None:
    """The process a runner.pid names, where it is still that one; nothing is done to it."""
    try:
        pid = _read(path)
        return pid if pid is not None and _is_the_one(pid, mark) else None
    except OSError:
        return None


def _read(path: Path) -> int | None:
    """The pid, 0 where the file says nothing usable; None where there is no file."""
    try:
        fields = path.read_bytes().split()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return int(fields[0]) if fields and fields[0].isdigit() else 0


def _kill(pid: int, mark: str, timeout: float) -> bool:
    if not 1 < pid <= LARGEST_PID:
        return False
    try:
        handle = os.pidfd_open(pid)  # opened before the check, so that the pid cannot change hands in between
    except ProcessLookupError:
        return False
    try:
        if not _is_the_one(pid, mark):
            return False
        _kill_group(pid)
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


def _is_the_one(pid: int, mark: str) -> bool:
    if not 1 < pid <= LARGEST_PID:
        return False
    try:
        group = os.getpgid(pid)
    except ProcessLookupError:
        return False
    return group == pid != os.getpgrp() and carries(pid, WORKSPACE, mark)
