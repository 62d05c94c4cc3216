"""A tap of the disk's seam that knows what would survive a power cut, file by file, and can fail to sync."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


class LossyDisk:
    """What is written is dirty until synced. A failed sync makes it clean without saving it, as Linux does."""

    def __init__(self) -> None:
        self.failing_syncs = 0
        self.syncs = 0
        self._dirty: dict[int, list[tuple[int, bytes]]] = {}
        self._saved: dict[int, bytearray] = {}
        self._names: dict[int, str] = {}

    def __call__(self, act: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if act in {os.fsync, os.fdatasync}:
            return self._sync(arguments[0])
        made = act(*arguments, **options)
        if act in {os.write, os.pwrite}:
            descriptor, content, *offset = arguments
            at = offset[0] if offset else os.lseek(descriptor, 0, os.SEEK_CUR) - made
            self._dirty.setdefault(self._inode(descriptor), []).append((at, bytes(content[:made])))
        elif act is os.rename:
            self._names[os.stat(arguments[1]).st_ino] = os.fspath(arguments[1])
        return made

    def cut_the_power(self) -> None:
        """Leave in each file that was written what was saved of it."""
        for inode in self._dirty.keys() | self._saved.keys():
            path = Path(self._names[inode])
            if path.exists() and path.stat().st_ino == inode:
                path.write_bytes(self._saved.get(inode, b""))

    def _sync(self, descriptor: int) -> None:
        self.syncs += 1
        inode = self._inode(descriptor)
        dirty = self._dirty.pop(inode, [])
        if self.failing_syncs:
            self.failing_syncs -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        saved = self._saved.setdefault(inode, bytearray())
        for at, content in dirty:
            saved.extend(b"\0" * (at + len(content) - len(saved)))
            saved[at : at + len(content)] = content

    def _inode(self, descriptor: int) -> int:
        inode = os.fstat(descriptor).st_ino
        self._names[inode] = os.readlink(f"/proc/self/fd/{descriptor}")
        return inode
