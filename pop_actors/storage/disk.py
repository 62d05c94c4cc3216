"""The one seam through which this package changes the disk: os calls, by name, and nothing more.

Everybody who writes, renames, links or syncs goes through here, so that a test can refuse a change, or record it with
its data. Nothing taps in production: a change costs one comparison more than the call itself. Reading goes past it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
AnyPath = Path | str
Buffer = bytes | bytearray | memoryview


class Tap(Protocol):
    """Makes a change in the seam's stead: `act` is the function of os, and its `__name__` says what is to be done."""

    def __call__(self, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any: ...


class _Seam:
    """The one tap of this process; None: there is none."""

    tap: Tap | None = None


def tap(other: Tap | None) -> None:
    """Let `other` make every change from here on; None takes it away."""
    _Seam.tap = other


def open_file(path: AnyPath, flags: int, mode: int = 0o644) -> int:
    """A descriptor to write with, closed in what is executed; `flags` say whether it creates or cuts."""
    return _do(os.open, path, flags | os.O_CLOEXEC, mode)


def write(descriptor: int, content: Buffer) -> int:
    """How many bytes were written: it may be fewer than asked."""
    return _do(os.write, descriptor, content)


def pwrite(descriptor: int, content: Buffer, offset: int) -> int:
    """`write` at an offset; not for a descriptor opened with O_APPEND, which appends all the same."""
    return _do(os.pwrite, descriptor, content, offset)


def ftruncate(descriptor: int, length: int) -> None:
    _do(os.ftruncate, descriptor, length)


def fsync(descriptor: int) -> None:
    """Return when a file's content, or a folder's names, are on disk. After an OSError what was written since the last
    one may be lost although the next one succeeds: write it again before that."""
    _do(os.fsync, descriptor)


def fdatasync(descriptor: int) -> None:
    """`fsync` without the times."""
    _do(os.fdatasync, descriptor)


def rename(source: AnyPath, target: AnyPath) -> None:
    _do(os.rename, source, target)


def link(source: AnyPath, target: AnyPath) -> None:
    """A second name for the same file; a symlink is linked as such."""
    _do(os.link, source, target, follow_symlinks=False)


def unlink(path: AnyPath) -> None:
    _do(os.unlink, path)


def mkdir(path: AnyPath, mode: int = 0o777) -> None:
    _do(os.mkdir, path, mode)


def rmdir(path: AnyPath) -> None:
    _do(os.rmdir, path)


def fchmod(descriptor: int, mode: int) -> None:
    _do(os.fchmod, descriptor, mode)


def utime(descriptor: int, *, ns: tuple[int, int]) -> None:
    """Set (access, modification), in nanoseconds since the epoch."""
    _do(os.utime, descriptor, ns=ns)


def make_folder(path: AnyPath) -> None:
    """The folder and what is missing above it; no error where it is there. Its names are not durable by that."""
    try:
        mkdir(path)
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent in {"", str(path)}:
            raise
        make_folder(parent)
        make_folder(path)
    except FileExistsError:
        if not os.path.isdir(path):
            raise


def _do(act: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    if _Seam.tap is None:
        return act(*arguments, **options)
    made: T = _Seam.tap(act, *arguments, **options)
    return made
