"""Where the daemon's own temporary files go (multiprocessing's sockets): one folder for each workspace, so that the
next start removes what a killed daemon left. Used by the service, which holds the workspace's lock; jobs do not use it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from multiprocessing import util
from pathlib import Path

LONGEST_PATH_BYTES = 70  # multiprocessing puts 32 bytes behind it, and a socket's path may have 107
LAST = -200  # at the interpreter's exit: behind multiprocessing, which removes what it put there at -100

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def temporary_folder(state: Path) -> Iterator[None]:
    """`tempfile` works in a private folder while this lasts: empty at the beginning, gone by the interpreter's end.

    Where there is none to be had, in the usual place, and leftovers are the system's to remove.
    """
    before = tempfile.tempdir
    name = f"popd-{os.getuid()}-{hashlib.sha256(os.fsencode(state.absolute())).hexdigest()[:12]}-tmp"
    folder = Path(tempfile.gettempdir()) / name
    if not _is_made(folder):
        yield
        return
    tempfile.tempdir = str(folder)
    util.Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=LAST)
    try:
        yield
    finally:
        tempfile.tempdir = before
        with contextlib.suppress(OSError):
            folder.rmdir()  # where nothing is in it any more, there is nothing to wait for


def _is_made(folder: Path) -> bool:
    """Whether it is there, ours alone, and empty."""
    if len(os.fsencode(folder)) > LONGEST_PATH_BYTES:
        return False
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        _log.warning("%s cannot be made: %s; temporary files go beside it", folder, error)
        return False
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        _log.warning("%s is not a private folder of this user; remove it. Temporary files go beside it", folder)
        return False
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry, ignore_errors=True)
        else:
            os.unlink(entry)
    return True
