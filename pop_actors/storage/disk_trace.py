"""A record of every change of the disk, by all processes of the service: what a power cut is computed from.

One file, for tests; armed by `fault_points.py`. A lock on the file puts the changes of all processes in one order, so a
traced service is slower, and never to be stopped (SIGSTOP) in the middle.
"""

from __future__ import annotations

import base64
import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson


class Recorder:
    """A tap that makes each change, through `inner`, and appends a line about it. Thread-safe.

    Lines are JSON objects with `op`, `pid`, `at` (seconds since the epoch) and, by op: create, truncate, write, sync
    {`file`: "device:inode", `path`: its name then; `offset`, `data` (base64), `length`, `ok`}; mkdir, rmdir, unlink,
    sync-folder {`path`}; rename, link {`path`, `target`}; mark {`name`}, a fault point that was passed.
    """

    def __init__(self, path: str, inner: Callable[..., Any]) -> None:
        self._inner = inner
        self._threads = threading.Lock()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def __call__(self, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self._alone():
            was_there = act.__name__ == "open" and os.path.lexists(arguments[0])
            try:
                made = self._inner(act, *arguments, **options)
            except OSError:
                if act.__name__ in {"fsync", "fdatasync"}:
                    self._append(_sync(arguments[0], ok=False))
                raise
            line = _line(act.__name__, arguments, made, was_there=was_there)
            if line is not None:
                self._append(line)
            return made

    def mark(self, name: str) -> None:
        """A fault point is passed."""
        with self._alone():
            self._append({"op": "mark", "name": name})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._threads:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _append(self, line: dict[str, Any]) -> None:
        os.write(
            self._descriptor,
            orjson.dumps(line | {"pid": os.getpid(), "at": time.time()}, option=orjson.OPT_APPEND_NEWLINE),
        )


def _line(change: str, arguments: tuple[Any, ...], made: Any, *, was_there: bool) -> dict[str, Any] | None:
    """None for what changes neither names nor content."""
    line: dict[str, Any] | None
    match change:
        case "mkdir" | "rmdir" | "unlink":
            line = {"op": change, "path": os.fspath(arguments[0])}
        case "rename" | "link":
            line = {"op": change, "path": os.fspath(arguments[0]), "target": os.fspath(arguments[1])}
        case "open":
            line = _opened(made, arguments[1], was_there=was_there)
        case "write" | "pwrite":
            line = _written(arguments, made)
        case "ftruncate":
            line = {"op": "truncate", **_file(arguments[0]), "length": arguments[1]}
        case "fsync" | "fdatasync":
            line = _sync(arguments[0], ok=True)
        case _:
            line = None
    return line


def _opened(descriptor: int, flags: int, *, was_there: bool) -> dict[str, Any] | None:
    if not was_there:
        return {"op": "create", **_file(descriptor)}
    return {"op": "truncate", **_file(descriptor), "length": 0} if flags & os.O_TRUNC else None


def _written(arguments: tuple[Any, ...], count: int) -> dict[str, Any]:
    descriptor, content, *offsets = arguments
    if offsets:
        offset = offsets[0]
    elif fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_APPEND:
        offset = os.fstat(descriptor).st_size - count
    else:
        offset = os.lseek(descriptor, 0, os.SEEK_CUR) - count
    data = base64.b64encode(bytes(content[:count])).decode()
    return {"op": "write", **_file(descriptor), "offset": offset, "data": data}


def _sync(descriptor: int, *, ok: bool) -> dict[str, Any]:
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        return {"op": "sync-folder", "path": _path(descriptor), "ok": ok}
    return {"op": "sync", **_file(descriptor), "ok": ok}


def _file(descriptor: int) -> dict[str, Any]:
    facts = os.fstat(descriptor)
    return {"file": f"{facts.st_dev}:{facts.st_ino}", "path": _path(descriptor)}


def _path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")
