"""Who owns a workspace: a lock on `state/popd.lock`, held by popd while it runs, or by doctor while it repairs.

The kernel lets go of it when the process dies; the pid in the file is for people.
"""

from __future__ import annotations

import fcntl
import os
import time

from pop_actors.errors import RootTaken
from pop_actors.storage.layout import Workspace

ASKING_SECONDS = 0.05
"""Whoever asks whether it is owned holds it for a moment; that is no owner."""


class WorkspaceLock:
    """The workspace belongs to this process while it lasts. Use it as a context; RootTaken where somebody has it."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.lock

    def __enter__(self) -> None:
        self._file = self._path.open("a+", encoding="utf-8", errors="replace")
        if not (self._is_taken() or self._is_taken(after=ASKING_SECONDS)):
            self._file.seek(0)
            owner = self._file.read(100).strip() or "unknown"
            self._file.close()
            raise RootTaken(
                f"{self._path}: another popd (pid {owner}) owns this workspace; stop it or choose another --root"
            )
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _is_taken(self, after: float = 0.0) -> bool:
        """Whether it is this process's now."""
        time.sleep(after)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def is_owned(workspace: Workspace) -> bool:
    """Whether a process holds the lock now; nothing is made or changed by asking."""
    try:
        descriptor = os.open(workspace.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
