"""How damage is met: what was there is kept beside as `NAME.damaged-<n>`, and the end of a log is made whole.

Called by recovery, repair and the attempts of tasks, which own the files they hand over. Nothing here deletes what a
person might want back.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import orjson

from pop_actors.storage import disk
from pop_actors.storage.files import sync_directory, write_all

MARK = ".damaged-"
LONGEST_LINE = 64 * 1024 * 1024
_BEGINNING = b'{"'


def keep_copy(path: Path) -> Path:
    """Copy a file to the first free `NAME.damaged-<n>` beside it, durably; where it is. A copy that is the same already
    counts. What is no regular file is renamed instead. OSError where the disk refuses; then no half copy stays."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return put_aside(path)
    copy = next(copy for copy in _names(path) if not os.path.lexists(copy) or _are_alike(path, copy))
    if not os.path.lexists(copy):
        _copy(path, copy)
    sync_directory(path.parent)
    return copy


def put_aside(path: Path) -> Path:
    """Rename it, whatever it is, to the first free `NAME.damaged-<n>` beside it, durably; where it is."""
    aside = next(name for name in _names(path) if not os.path.lexists(name))
    disk.rename(path, aside)
    sync_directory(path.parent)
    return aside


def make_way(path: Path) -> Path | None:
    """Let a file be written there: what is no file, or one this user cannot read and write, is put aside; where to."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.R_OK | os.W_OK):
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return put_aside(path)


def copies_of(path: Path) -> list[Path]:
    """The copies that were kept of a file, oldest first."""
    found = path.parent.glob(f"{path.name}{MARK}*")
    return sorted(found, key=lambda copy: (len(copy.name), copy.name))


def cut(path: Path, length: int) -> None:
    """Shorten a log, durably."""
    descriptor = disk.open_file(path, os.O_WRONLY)
    try:
        disk.ftruncate(descriptor, length)
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def mend_end(path: Path) -> str | None:
    """Let a log end with a whole line; what was done about it, in words, None where nothing was. OSError as the disk.

    A last line that lacks its newline only gets it. Zeros, and the beginning of a line, are what a power cut or a kill
    leaves of a write that was confirmed to nobody: they are cut. Anything else is cut after a copy was kept.
    """
    try:
        end, tail = _tail(path)
    except FileNotFoundError:
        return None
    if not tail:
        return None
    if is_object(tail):
        _append_newline(path)
        return "its last line lacked a newline"
    zeros, torn = not tail.strip(b"\0"), is_torn_line(tail)
    if not (zeros or torn):
        keep_copy(path)
    cut(path, end)
    return f"{os.path.getsize(path)} bytes are left after a {'zero-filled' if zeros else 'torn'} end was cut"


def is_object(line: bytes) -> bool:
    """Whether it is one whole JSON object."""
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def is_torn_line(tail: bytes) -> bool:
    """Whether it may be the beginning of a line this package wrote; zeros may follow it."""
    text = tail.rstrip(b"\0")
    begins = text.startswith(_BEGINNING) or _BEGINNING.startswith(text)
    return begins and not any(byte < ord(" ") for byte in text)


def _names(path: Path) -> Iterator[Path]:
    return (path.with_name(f"{path.name}{MARK}{number}") for number in count(1))


def _tail(path: Path) -> tuple[int, bytes]:
    """Where the last whole line ends, and what follows it."""
    with open(path, "rb") as file:
        size = position = file.seek(0, os.SEEK_END)
        pieces: list[bytes] = []
        while position > 0 and size - position < LONGEST_LINE:
            start = max(0, position - 65536)
            file.seek(start)
            piece = file.read(position - start)
            newline = piece.rfind(b"\n")
            if newline >= 0:
                return start + newline + 1, b"".join([piece[newline + 1 :], *reversed(pieces)])
            pieces.append(piece)
            position = start
    return position, b"".join(reversed(pieces))


def _append_newline(path: Path) -> None:
    descriptor = disk.open_file(path, os.O_WRONLY | os.O_APPEND)
    try:
        disk.write(descriptor, b"\n")
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: Path, target: Path) -> None:
    descriptor = disk.open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with open(source, "rb") as reader:
            while piece := reader.read(1 << 20):
                write_all(descriptor, piece)
            facts = os.fstat(reader.fileno())
        disk.fchmod(descriptor, stat.S_IMODE(facts.st_mode))
        disk.utime(descriptor, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        disk.fsync(descriptor)
    except BaseException:
        disk.unlink(target)
        raise
    finally:
        os.close(descriptor)


def _are_alike(one: Path, other: Path) -> bool:
    if os.path.getsize(one) != os.path.getsize(other):
        return False
    with open(one, "rb") as first, open(other, "rb") as second:
        while piece := first.read(1 << 20):
            if piece != second.read(1 << 20):
                return False
    return True
