"""How much memory some processes hold, and how much disk a directory takes. Reads only."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

KB = 1024
BLOCK_BYTES = 512
_GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


def memory_of(pids: Iterable[int], enough: int) -> int:
    """Bytes these processes hold together: anonymous and shared memory, in RAM and swapped out; files they map are the
    kernel's to drop and do not count.

    First a bound that costs some 30 µs a process and counts a page once for each process that shares it. Only where
    that is over `enough` is each page's share told exactly, which has the kernel walk all of them.
    """
    known = list(pids)
    bound = sum(_sum(f"/proc/{pid}/status", (b"RssAnon:", b"RssShmem:", b"VmSwap:")) or 0 for pid in known)
    return bound if bound <= enough else sum(_share(pid) for pid in known)


def _share(pid: int) -> int:
    exact = _sum(f"/proc/{pid}/smaps_rollup", (b"Pss_Anon:", b"Pss_Shmem:", b"SwapPss:"))
    if exact is None:  # another user's process; the bound is all there is
        exact = _sum(f"/proc/{pid}/status", (b"RssAnon:", b"RssShmem:", b"VmSwap:"))
    return exact or 0


def _sum(path: str, fields: tuple[bytes, ...]) -> int | None:
    """The sum of these lines, in bytes; None where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            return sum(int(line.split()[1]) * KB for line in file if line.startswith(fields))
    except _GONE:
        return None


def disk_of(directory: str) -> int:
    """Bytes everything below takes on disk: a sparse file's holes do not count, a file with two names counts once.
    What vanishes on the way is left out."""
    total, folders, linked = 0, [directory], set()
    while folders:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            for entry in os.scandir(folders.pop()):
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    elif found.st_nlink > 1:
                        if found.st_ino in linked:
                            continue
                        linked.add(found.st_ino)
                    total += found.st_blocks * BLOCK_BYTES
    return total
