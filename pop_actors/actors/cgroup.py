"""A cgroup for each worker, where cgroup v2 lets this process make some: everything in it is killed by one write.

It comes on top of process groups and adoption, which hold everywhere; where there is none, nothing else changes. The
folders are the process host's; those left by a host that was killed are ended by the next host that starts there.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import logging
import os
import time

PREFIX = "pop_actors-"
TRIES = 3
END_SECONDS = 2.0
PAUSE_SECONDS = 0.001
_KILL, _MEMBERS = "cgroup.kill", "cgroup.procs"

_log = logging.getLogger(__name__)


class Cgroups:
    """The folder in which a host's workers have their cgroups, locked while the host lives. Thread-safe."""

    def __init__(self, folder: str, lock: int) -> None:
        """`folder` exists, `lock` is the descriptor it is locked by; see `prepare`."""
        self.folder = folder
        self._lock: int | None = lock
        self._numbers = itertools.count(1)

    def make(self) -> str | None:
        """A new empty cgroup; None where the kernel refuses one more."""
        folder = f"{self.folder}/worker-{next(self._numbers)}"
        try:
            os.mkdir(folder)
        except OSError as error:
            _log.debug("no cgroup: %s", error)
            return None
        return folder

    def close(self) -> None:
        """End all that is left and remove the folder. A second call does nothing."""
        if self._lock is not None:
            _remove(self.folder)
            os.close(self._lock)
            self._lock = None


def prepare(workspace: str) -> Cgroups | None:
    """The folder for a workspace's cgroups, empty; None where there is no cgroup v2 that is ours to divide.

    Folders of hosts that are dead, whichever workspace they were of, are ended and removed first.
    """
    own = own_cgroup()
    if own is None:
        return None
    folder = f"{own}/{PREFIX}{hashlib.sha256(workspace.encode()).hexdigest()[:12]}"
    for _ in range(TRIES):
        _end_left_behind(own)
        try:
            os.mkdir(folder)
            lock = _lock(folder)
        except FileNotFoundError:  # another host that starts now took it for left behind
            continue
        except OSError as error:
            _log.debug("cgroups are not ours to make: %s", error)
            return None
        cgroups = Cgroups(folder, lock)
        if os.path.exists(f"{folder}/{_KILL}"):
            return cgroups
        cgroups.close()  # before Linux 5.14
    return None


def _end_left_behind(own: str) -> None:
    for name in _folders(own):
        if name.startswith(PREFIX):
            with contextlib.suppress(OSError):  # its host lives, or it is gone this moment
                lock = _lock(f"{own}/{name}")
                try:
                    _remove(f"{own}/{name}")
                finally:
                    os.close(lock)


def _lock(folder: str) -> int:
    """The descriptor that locks it until it is closed, at the latest by this process's death. BlockingIOError where
    another holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(folder)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _remove(folder: str) -> None:
    for name in _folders(folder):
        end(f"{folder}/{name}")
    with contextlib.suppress(OSError):  # somebody sits there whom we may not kill; the next host tries again
        os.rmdir(folder)


def own_cgroup() -> str | None:
    """The folder of this process's cgroup in the v2 hierarchy, wherever that is mounted; None where it is not."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        path = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), None)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split() for line in file]
    for fields in mounts:
        root, place = fields[3], fields[4]
        is_within = path is not None and (path == root or path.startswith(f"{root.rstrip('/')}/"))
        if path is not None and is_within and fields[fields.index("-") + 1] == "cgroup2":
            return os.path.normpath(f"{place}/{os.path.relpath(path, root)}")
    return None


def enter(folder: str | None) -> None:
    """Move this process into the cgroup; what it starts from now on is born there. It stays out where that fails."""
    if folder is not None:
        with contextlib.suppress(OSError):
            _write(f"{folder}/{_MEMBERS}", "0")


def kill(folder: str | None) -> None:
    """SIGKILL to everybody in it."""
    if folder is not None:
        with contextlib.suppress(OSError):
            _write(f"{folder}/{_KILL}", "1")


def end(folder: str | None) -> None:
    """Remove it, and those that were made in it; as long as somebody is left there, they are killed."""
    deadline = time.monotonic() + END_SECONDS
    while folder is not None:
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                _log.warning("the cgroup %s cannot be removed: %s; the next start tries again", folder, error.strerror)
                return
            kill(folder)
            _remove_below(folder)
            time.sleep(PAUSE_SECONDS)
        else:
            return


def _remove_below(folder: str) -> None:
    for path, inner, _ in os.walk(folder, topdown=False):
        for name in inner:
            with contextlib.suppress(OSError):  # somebody is dying there; the next round removes it
                os.rmdir(f"{path}/{name}")


def _folders(folder: str) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    except FileNotFoundError:
        return []


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
