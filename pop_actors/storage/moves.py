"""Small durable steps that claims, rejections and finishes are made of. Nothing here replaces or loses a file."""

from __future__ import annotations

import errno
import os
import stat
from itertools import count
from pathlib import Path

from pop_actors.errors import StorageError
from pop_actors.storage import disk
from pop_actors.storage.fault_points import reach
from pop_actors.storage.files import sync_directory, write_all

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
        disk.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return _copy(source, target)
    taken = os.lstat(target)
    if not stat.S_ISREG(taken.st_mode):
        disk.unlink(target)
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
    with open(open_regular(source), "rb") as reader:
        original = os.fstat(reader.fileno())
        writer = disk.open_file(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            while block := reader.read(1 << 20):
                write_all(writer, block)
            disk.fchmod(writer, stat.S_IMODE(original.st_mode))
            disk.utime(writer, ns=(original.st_atime_ns, original.st_mtime_ns))
        except BaseException:
            disk.unlink(target)  # a torn copy would pass for the seed
            raise
        finally:
            os.close(writer)
    return original


def is_same_file(one: Path, other: Path) -> bool:
    """Whether one was taken from the other: the same inode; or, where no link could be made because owner or file
    system differ, a copy (same time to the nanosecond, same bytes)."""
    try:
        second, first = os.lstat(other), os.lstat(one)  # the other is what is mostly missing
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
        disk.unlink(path)
    except FileNotFoundError:
        return


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        disk.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename_durably(source: Path, target: Path, point: str) -> None:
    """Rename a directory, and return when that is on disk. OSError where the disk refuses: then it is where it was, so
    that it can be tried again; only where that is refused too it stays at `target`, until a start of the service.

    `point` is the fault point between the rename and its fsyncs.
    """
    disk.rename(source, target)
    try:
        reach(point)
        for folder in dict.fromkeys((target.parent, source.parent)):
            sync_directory(folder)
    except OSError:
        disk.rename(target, source)
        raise


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
            disk.rename(source, target)
        except OSError as error:
            if error.errno not in _NAME_TAKEN:
                raise
        else:
            return target
    raise AssertionError("unreachable: names do not run out")
