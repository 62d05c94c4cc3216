"""Small durable steps that claims, rejections and finishes are made of. Nothing here replaces or loses a file."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from itertools import count
from pathlib import Path

from pop_actors.errors import StorageError

# Where a hard link is not to be had: another user's file under fs.protected_hardlinks, another file system, no links.
_NO_LINK = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.EOPNOTSUPP}
_NAME_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


class NotASeed(StorageError):
    """What lies there is a symlink, a folder or another thing that is no readable file; it is never touched."""


def take(source: Path, target: Path) -> os.stat_result:
    """Let `target` be the file at `source` too: a hard link, or a copy like it. Returns what `source` was.

    FileExistsError where `target` is there, FileNotFoundError where `source` is not, NotASeed where it is no file.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return _copy(source, target)
    taken = os.lstat(target)
    if not stat.S_ISREG(taken.st_mode):
        os.unlink(target)
        raise NotASeed(f"{source}: is not a file")
    return taken


def open_regular(path: Path) -> int:
    """A descriptor for reading a regular file, never through a symlink and never waiting for a pipe's writer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotASeed(f"{path}: is not a file that can be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotASeed(f"{path}: is not a file")
    return descriptor


def _copy(source: Path, target: Path) -> os.stat_result:
    with open(open_regular(source), "rb") as reader, open(target, "xb") as writer:
        original = os.fstat(reader.fileno())
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fchmod(writer.fileno(), stat.S_IMODE(original.st_mode))
        os.utime(writer.fileno(), ns=(original.st_atime_ns, original.st_mtime_ns))
    return original


def is_same_file(one: Path, other: Path) -> bool:
    """Whether one was taken from the other: the same inode; or, where no link could be made because owner or file
    system differ, a copy (same time to the nanosecond, same bytes)."""
    try:
        first, second = os.lstat(one), os.lstat(other)
    except FileNotFoundError:
        return False
    if os.path.samestat(first, second):
        return True
    if (first.st_uid, first.st_dev) == (second.st_uid, second.st_dev):
        return False
    alike = (first.st_mode, first.st_mtime_ns, first.st_size) == (second.st_mode, second.st_mtime_ns, second.st_size)
    return alike and stat.S_ISREG(first.st_mode) and one.read_bytes() == other.read_bytes()


def unlink_if_there(path: Path) -> None:
    """Remove the name; no error where it is gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_to_free_name(source: Path, folder: Path, name: str) -> Path:
    """Rename it into `folder` as `name`, `name.2`, `name.3`, …: the first that is free. Where it went.

    Only popd puts things there, so the check before the rename decides; should somebody be faster with a directory that
    has content, the rename fails and the next name is tried.
    """
    for number in count(1):
        target = folder / (name if number == 1 else f"{name}.{number}")
        if os.path.lexists(target):
            continue
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno not in _NAME_TAKEN:
                raise
        else:
            return target
    raise AssertionError("unreachable: names do not run out")
