"""Processes as the kernel shows them in /proc: who is whose child, what they carry in their environment, and how all of
them are ended. Used by whoever started them, and by the next start for what an earlier one left behind.

Nothing here trusts a pid: a signal goes through a pidfd, to a process that was looked at while it was held by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator

PR_SET_CHILD_SUBREAPER = 36  # Linux, <sys/prctl.h>
WORKSPACE = "POP_ACTORS_WORKSPACE"
"""The variable that every process of a workspace's jobs carries, whatever it executes: the data folder's real path."""

FIRST_PAUSE_SECONDS = 0.0005
LONGEST_PAUSE_SECONDS = 0.02
LOOKS = 10
READ_BYTES = 16384
MOST_AT_ONCE = 128  # each is held by a descriptor, and those are scarce
_GONE = (FileNotFoundError, ProcessLookupError)
_STATE, _PARENT, _THREADS, _MEMORY = 0, 1, 17, 20  # places in `_fields`

_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """From now on an orphan below this process becomes its child, wherever it has put its session or its group."""
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_CHILD_SUBREAPER): {os.strerror(number)}")


def children_of(pid: int) -> list[int]:
    """The process's children, zombies among them; none where it is gone."""
    try:
        return [child for thread in os.listdir(f"/proc/{pid}/task") for child in _children_of_thread(pid, thread)]
    except FileNotFoundError:
        if os.path.isdir(f"/proc/{pid}/task"):  # a kernel without CONFIG_PROC_CHILDREN
            return [other for other in everybody() if parent_of(other) == pid]
        return []
    except ProcessLookupError:
        return []


def _children_of_thread(pid: int, thread: str) -> list[int]:
    try:
        return [int(child) for child in _read(f"/proc/{pid}/task/{thread}/children").split()]
    except ProcessLookupError:
        return []  # a thread that ended meanwhile; its children are another one's now
    except FileNotFoundError:
        if os.path.isdir(f"/proc/{pid}/task/{thread}"):
            raise
        return []


def descendants_of(pid: int) -> list[int]:
    """Its children, their children and so on, the nearer first."""
    found = children_of(pid)
    for child in found:  # grows on the way
        found += children_of(child)
    return found


def everybody() -> list[int]:
    """Every process there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def parent_of(pid: int) -> int | None:
    """Its parent; None where it is gone."""
    fields = _fields(pid)
    return None if fields is None else int(fields[_PARENT])


def is_alive(pid: int) -> bool:
    """Whether anything of that process still runs: it is no zombie, or one whose other threads live on."""
    fields = _fields(pid)
    return fields is not None and (fields[_STATE] not in {b"Z", b"X"} or int(fields[_THREADS]) > 1)


def _fields(pid: int) -> list[bytes] | None:
    """What follows the name in /proc/PID/stat, from its third field on."""
    try:
        return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    except _GONE:
        return None


def _read(path: str) -> bytes:
    """With half the system calls that `open` makes: in a busy daemon each one lets another thread go first."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = [os.read(descriptor, READ_BYTES)]
        while parts[-1]:
            parts.append(os.read(descriptor, READ_BYTES))
    finally:
        os.close(descriptor)
    return b"".join(parts)


def carries(pid: int, variable: str, value: str) -> bool:
    """Whether the environment its program was started with has that variable. A zombie's shows nothing, nor does that
    of another user's process."""
    try:
        return f"{variable}={value}".encode() in _environment(pid).split(b"\0")
    except (*_GONE, PermissionError):
        return False


def _environment(pid: int) -> bytes:
    """It shows nothing for a moment while its process begins to execute another program."""
    for look in range(LOOKS):
        environment = _read(f"/proc/{pid}/environ")
        fields = _fields(pid)
        if environment or fields is None or fields[_MEMORY] == b"0":
            break
        time.sleep(min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**look))
    return environment


def carriers(variable: str, value: str) -> list[int]:
    """Every process that carries it, but this one and those it descends from."""
    own = set(_line_of(os.getpid()))
    return [pid for pid in everybody() if pid not in own and carries(pid, variable, value)]


def _line_of(pid: int) -> Iterator[int]:
    current: int | None = pid
    while current:
        yield current
        current = parent_of(current)


def kill_if(pid: int, still: Callable[[int], bool]) -> bool:
    """SIGKILL where `still(pid)` holds, looked at when the pid can no longer become another process. False where it
    does not, or the process is gone or not ours to kill."""
    return bool(_strike([pid], lambda: [pid] if still(pid) else []))


def _strike(pids: Iterable[int], find: Callable[[], Iterable[int]]) -> set[int]:
    """SIGKILL to those that `find()` names now that they are held by pidfds; those that were struck. A process that
    had taken over a dead one's pid before is not named, and one that does so later is not the one that is held."""
    with contextlib.ExitStack() as open_handles:
        handles: dict[int, int] = {}
        for pid in pids:
            with contextlib.suppress(OSError):  # gone, or no descriptor is left: the next round tries again
                handles[pid] = os.pidfd_open(pid)
                open_handles.callback(os.close, handles[pid])
        return {pid for pid in find() if pid in handles and _kill(handles[pid])}


def _kill(handle: int) -> bool:
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def end_all(find: Callable[[], Iterable[int]], seconds: float) -> set[int]:
    """Kill whoever `find()` names, again and again until nobody of them lives, since some may be forking meanwhile.

    Those that died; this process's own children among them are reaped. Left out are processes of other users, which
    are not ours to kill. TimeoutError names those that do not die.
    """
    deadline = time.monotonic() + seconds
    killed: set[int] = set()
    dying: set[int] = set()  # what is dying may not be named any more: it has let go of its environment already
    tried: set[int] = set()
    pause = FIRST_PAUSE_SECONDS
    while True:
        living = [pid for pid in find() if is_alive(pid)]
        dying = set(filter(is_alive, dying))
        if not living and not dying:
            break
        batch = sorted(living, key=tried.__contains__)[:MOST_AT_ONCE]  # the new ones first
        tried.update(batch)
        struck = _strike(batch, find)
        killed |= struck
        dying |= struck
        if not dying and tried.issuperset(living):  # what is left is not ours to kill
            break
        if time.monotonic() > deadline:
            left = sorted({*living, *dying})
            raise TimeoutError(f"these processes did not die within {seconds:g} s after SIGKILL: {left}")
        time.sleep(pause)
        pause = min(LONGEST_PAUSE_SECONDS, pause * 1.5)
    for pid in killed:
        reap(pid)
    return killed


def reap(pid: int) -> int | None:
    """The exit code of a dead child of this process that nobody waits for (negative: the signal); None where it is no
    child of this process, or lives."""
    try:
        reaped, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if reaped else None
