"""Append-only logs, one JSON object a line. A torn last line (a kill in the middle of a write) is cut at opening."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from pop_actors.errors import Damaged
from pop_actors.storage import disk
from pop_actors.storage.files import write_all

UNSYNCED_BYTES = 4 * 1024 * 1024  # what is kept to be written again; beyond it, an append syncs first


def json_line(document: Any) -> bytes:
    """A document as a line of a log."""
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


class AppendLog:
    """A log opened for appending; one process writes it at a time.

    A line is written by one `write` to an O_APPEND descriptor, so a kill leaves at most a torn end. `path` is where it
    was opened: the descriptor follows the file when its directory is renamed. One thread appends; another may sync.

    After a failed fsync the kernel may hold the pages for clean, and the next one succeeds without them. So what is not
    known to be on disk is kept, and written again, at its place, before the next sync.
    """

    def __init__(self, path: Path | str, *, fresh: bool = False) -> None:
        """Open or create it; with `fresh`, FileExistsError where it exists. Else a torn last line is cut off."""
        self.path = Path(path)
        mode = os.O_EXCL if fresh else 0
        self._syncing = threading.Lock()
        self._unsynced = _Unsynced()
        self._last_sync_failed = False
        self._refused_at: int | None = None
        self._descriptor = disk.open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | mode)
        try:
            if not fresh:
                cut_torn_end(self._descriptor)
            self._end = os.fstat(self._descriptor).st_size
        except BaseException:
            self.close()
            raise

    def append(self, documents: Sequence[Any]) -> int:
        """Append each as a line; the offset in bytes at which the first begins. OSError leaves no half line behind."""
        self._cut_what_was_refused()
        if self._unsynced.bytes > UNSYNCED_BYTES:
            self.sync()
        offset = self._end
        lines = b"".join(map(json_line, documents))
        try:
            write_all(self._descriptor, lines)
        except OSError:
            self._refused_at = offset
            with contextlib.suppress(OSError):  # a disk that refuses this too is asked again before the next line
                self._cut_what_was_refused()
            raise
        self._unsynced.add(offset, lines)
        self._end = offset + len(lines)
        return offset

    def sync(self) -> None:
        """Return once everything appended is on disk. OSError where the disk refuses: call it again."""
        with self._syncing:
            end = self._end
            if self._last_sync_failed:
                self._write_again()
            self._last_sync_failed = True
            disk.fdatasync(self._descriptor)
            self._last_sync_failed = False
            self._unsynced.forget(end)

    def read_line(self, offset: int) -> Any:
        """The document whose line begins at `offset`."""
        chunks: list[bytes] = []
        while chunk := os.pread(self._descriptor, 65536, offset):
            end = chunk.find(b"\n")
            if end >= 0:
                return orjson.loads(b"".join([*chunks, chunk[:end]]))
            chunks.append(chunk)
            offset += len(chunk)
        raise Damaged(f"{self.path}: no whole line at byte {offset}")

    def close(self) -> None:
        """Close it; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cut_what_was_refused(self) -> None:
        if self._refused_at is not None:
            disk.ftruncate(self._descriptor, self._refused_at)
            self._refused_at = None

    def _write_again(self) -> None:
        """Make the pages dirty once more. By a descriptor of its own: one with O_APPEND writes at the end only."""
        descriptor = disk.open_file(f"/proc/self/fd/{self._descriptor}", os.O_WRONLY)
        try:
            for offset, lines in self._unsynced.parts():
                write_all(descriptor, lines, offset)
        finally:
            os.close(descriptor)

    def __repr__(self) -> str:
        return f"AppendLog({str(self.path)!r}{', closed' if self._descriptor < 0 else ''})"


class _Unsynced:
    """What was appended and is not known to be on disk: (offset, lines), oldest first. Thread-safe."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.Lock()
        self._parts: deque[tuple[int, bytes]] = deque()

    def add(self, offset: int, lines: bytes) -> None:
        with self._lock:
            self._parts.append((offset, lines))
            self.bytes += len(lines)

    def forget(self, end: int) -> None:
        """Everything before byte `end` of the file is on disk."""
        with self._lock:
            while self._parts and self._parts[0][0] < end:
                _, lines = self._parts.popleft()
                self.bytes -= len(lines)

    def parts(self) -> list[tuple[int, bytes]]:
        with self._lock:
            return list(self._parts)


def cut_torn_end(descriptor: int) -> int:
    """Truncate an open log to its last newline; the number of bytes cut."""
    size = os.fstat(descriptor).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(descriptor, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        disk.ftruncate(descriptor, end)
    return size - end


def read_lines(path: Path | str) -> Iterator[tuple[int, Any]]:
    """Each whole line as (offset in bytes, document). A torn end is passed over; Damaged for a broken line before it.

    FileNotFoundError where there is no such file.
    """
    offset = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                yield offset, orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise Damaged(f"{path}, line {number}: not JSON: {error}") from None
            offset += len(line)


def read_last_lines(path: Path | str, count: int) -> list[Any]:
    """The newest `count` documents, newest first, read from the end: flat in the length of the log. Broken lines are
    passed over; an absent file has none."""
    return list(islice(read_backwards(path), count))


def read_backwards(path: Path | str) -> Iterator[Any]:
    """The documents from the newest to the oldest, read from the end as far as they are asked for. Broken lines are
    passed over; an absent file has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        yield from _backwards(descriptor)
    finally:
        os.close(descriptor)


def _backwards(descriptor: int) -> Iterator[Any]:
    position = os.fstat(descriptor).st_size
    rest = b""
    while position > 0:
        start = max(0, position - 262144)
        rest = os.pread(descriptor, position - start, start) + rest
        position = start
        lines = rest.split(b"\n")
        rest = lines[0]
        whole = lines[1:] if start > 0 else lines
        for line in reversed(whole):
            document = _loads_or_none(line)
            if document is not None:
                yield document


def _loads_or_none(line: bytes) -> Any:
    """None for a line that is broken, or no object, as every line of a log is."""
    if not line:
        return None
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None
