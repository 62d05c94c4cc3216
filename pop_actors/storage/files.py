"""Whole files, written atomically: a reader sees the old one or the new one; after `durable`, so does a power cut."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from pop_actors.errors import Damaged

READABLE = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def readable_json(document: Any) -> bytes:
    """JSON as people read it: UTF-8, indented by two spaces, a newline at the end."""
    return orjson.dumps(document, option=READABLE)


def write_all(descriptor: int, content: bytes) -> None:
    """Write every byte; os.write alone may write fewer (a full disk then fails on the rest)."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def replace(path: Path | str, content: bytes, *, durable: bool = False) -> None:
    """Put `content` at `path` through a temporary file beside it and a rename. OSError where the disk refuses.

    `durable` also fsyncs the file before the rename; the rename itself is durable after `sync_directory`.
    The temporary file is removed when anything fails.
    """
    temporary = f"{path}.tmp-{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        try:
            write_all(descriptor, content)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except BaseException:
        _unlink_quietly(temporary)
        raise


def write_first(path: Path | str, content: bytes) -> None:
    """Write a file that nobody relies on before a later step says so: in place, which costs no rename and, where the
    file was there, frees no inode (ext4 searches past each freed one for minutes)."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)


def write_new(path: Path | str, content: bytes, *, durable: bool = False) -> None:
    """Write a file nobody reads before its directory is published; FileExistsError where it is there already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(descriptor, content)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path | str) -> None:
    """Make the names in a folder durable: files created in it, renamed into it or out of it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path | str) -> Any:
    """The JSON of a file this package wrote. FileNotFoundError where it is missing, Damaged where it is not JSON."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise Damaged(f"{path}: not JSON: {error}") from None


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
