"""Whole files, written atomically: a reader sees the old one or the new one; after `durable`, so does a power cut."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import orjson

from pop_actors.errors import Damaged
from pop_actors.storage import disk

TEMPORARY = ".popd-tmp-"
READABLE = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def readable_json(document: Any) -> bytes:
    """JSON as people read it: UTF-8, indented by two spaces, a newline at the end."""
    return orjson.dumps(document, option=READABLE)


def write_all(descriptor: int, content: bytes, offset: int | None = None) -> None:
    """Write every byte, at `offset` where one is given; one write alone may write fewer (a full disk then fails on the
    rest)."""
    view = memoryview(content)
    while view:
        if offset is None:
            written = disk.write(descriptor, view)
        else:
            written = disk.pwrite(descriptor, view, offset)
            offset += written
        view = view[written:]


def replace(path: Path | str, content: bytes, *, durable: bool = False) -> None:
    """Put `content` at `path` through a temporary file beside it and a rename. OSError where the disk refuses.

    `durable` also fsyncs the file before the rename; the rename itself is durable after `sync_directory`.
    The temporary file is removed when anything fails.
    """
    temporary = f"{path}{TEMPORARY}{os.getpid()}"
    descriptor = disk.open_file(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        try:
            write_all(descriptor, content)
            if durable:
                disk.fsync(descriptor)
        finally:
            os.close(descriptor)
        disk.rename(temporary, path)
    except BaseException:
        _unlink_quietly(temporary)
        raise


def write_first(path: Path | str, content: bytes) -> None:
    """Write a file that nobody relies on before a later step says so: in place, which costs no rename and, where the
    file was there, frees no inode (ext4 searches past each freed one for minutes)."""
    descriptor = disk.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def write_new(path: Path | str, content: bytes, *, durable: bool = False) -> None:
    """Write a file nobody reads before its directory is published; FileExistsError where it is there already. It is
    removed when anything fails."""
    descriptor = disk.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        try:
            write_all(descriptor, content)
            if durable:
                disk.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        _unlink_quietly(path)
        raise


def sync_directory(path: Path | str) -> None:
    """Make the names in a folder durable: files created in it, renamed into it or out of it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_temporaries(folder: Path | str) -> None:
    """Remove, in this folder, what `replace` left half done when other processes were killed. To be called when those
    that write there are dead."""
    for name in os.listdir(folder):
        _, mark, pid = name.rpartition(TEMPORARY)
        if mark and pid.isdecimal() and int(pid) != os.getpid():
            _unlink_quietly(os.path.join(folder, name))


def read_json(path: Path | str) -> Any:
    """The JSON of a file this package wrote. FileNotFoundError where it is missing, Damaged where it is not JSON."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Damaged(f"{path}: not JSON: {error}") from None


def _unlink_quietly(path: Path | str) -> None:
    """The error that made it necessary is the one to be told."""
    with contextlib.suppress(OSError):
        disk.unlink(path)
