"""Disks that refuse, for tests: taps of the seam (`disk.py`), armed by `fault_points.py` and by nothing else."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Any

REFUSED_CHANGES = 2
_SYNCS = {"fsync", "fdatasync"}
_ALWAYS_GROW = {"write", "pwrite", "link"}


class Refusals:
    """A tap that lets everything pass until told otherwise. Thread-safe."""

    def __init__(self, full_while: str | None = None) -> None:
        """`full_while`: the disk is full as long as there is a file of that name."""
        self._full_while = full_while
        self._lock = threading.Lock()
        self._error = 0
        self._left = 0

    def refuse(self, error: int) -> None:
        """Refuse the next few changes that need room; with EIO syncs too."""
        with self._lock:
            self._error, self._left = error, REFUSED_CHANGES

    def __call__(self, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        error = self._refused(act.__name__, arguments)
        if error is None:
            return act(*arguments, **options)
        if error.errno == errno.ENOSPC and act.__name__ == "write" and len(arguments[1]) > 1 and self._is_first():
            return act(arguments[0], arguments[1][: len(arguments[1]) // 2])  # what fits is written, as systems do
        raise error

    def _refused(self, change: str, arguments: tuple[Any, ...]) -> OSError | None:
        if not (_grows(change, arguments) or (change in _SYNCS and self._error == errno.EIO)):
            return None
        if self._full_while is not None and os.path.exists(self._full_while):
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), _name(arguments))
        with self._lock:
            if not self._left:
                return None
            self._left -= 1
            return OSError(self._error, os.strerror(self._error), _name(arguments))

    def _is_first(self) -> bool:
        return self._left == REFUSED_CHANGES - 1


def _grows(change: str, arguments: tuple[Any, ...]) -> bool:
    """Whether it needs room on the disk."""
    if change == "open":
        path, flags, *_ = arguments
        return bool(flags & os.O_CREAT) and not os.path.lexists(path)
    if change == "mkdir":
        return not os.path.lexists(arguments[0])
    return change in _ALWAYS_GROW


def _name(arguments: tuple[Any, ...]) -> str:
    """What is changed, as the error says it: a path, or the path of a descriptor."""
    what = arguments[0]
    return os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else str(what)
