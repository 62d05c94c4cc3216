"""Where the control socket is: one choice, made by the daemon, found again by popctl.

A socket's path may have at most 107 bytes. Where the default does not fit, or settings name another, the daemon writes
the path it took to `state/popd.sock.path`. Environment values are handed in.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from pop_actors.errors import SettingsError
from pop_actors.storage import files

SOCKET = "popd.sock"
POINTER = "popd.sock.path"
LONGEST_PATH_BYTES = 107
BUILDING_SUFFIX = "~"


def fits(path: Path) -> bool:
    """Whether a socket can be bound there, also under the name it has while it is being made."""
    return len(os.fsencode(path)) + len(BUILDING_SUFFIX) <= LONGEST_PATH_BYTES


def find(state: Path) -> Path:
    """popctl: the socket of the daemon of this workspace, whether or not one runs."""
    try:
        noted = (state / POINTER).read_bytes().strip()
    except OSError:
        return state / SOCKET
    return Path(os.fsdecode(noted)) if noted.startswith(b"/") and b"\0" not in noted else state / SOCKET


def take(state: Path, configured: str | None, runtime_dir: str | None, temporary: str) -> Path:
    """The daemon: choose the path, make its folder, and leave word of it. SettingsError where it cannot be.

    `runtime_dir` is XDG_RUNTIME_DIR, `temporary` the folder for temporary files.
    """
    state.mkdir(parents=True, exist_ok=True)
    default = state / SOCKET
    path = _configured(configured) if configured else default
    if not configured and not fits(default):
        path = _private_folder(state, runtime_dir, temporary) / SOCKET
    if path == default:
        (state / POINTER).unlink(missing_ok=True)
    else:
        _leave_word(state / POINTER, os.fsencode(path) + b"\n")
    return path


def _leave_word(pointer: Path, word: bytes) -> None:
    """A start on a full disk that changes nothing needs no room."""
    with contextlib.suppress(OSError):
        if pointer.read_bytes() == word:
            return
    files.replace(pointer, word)


def _configured(configured: str) -> Path:
    path = Path(configured).absolute()
    if not fits(path):
        allowed = LONGEST_PATH_BYTES - len(BUILDING_SUFFIX)
        raise SettingsError(f"control.socket = {configured!r}: {allowed} bytes are allowed; choose a shorter path")
    return path


def _private_folder(state: Path, runtime_dir: str | None, temporary: str) -> Path:
    """A folder of our own, the same one for the same workspace at every start; nobody else may enter it."""
    import hashlib  # 3 ms that popctl, which only finds the path, need not pay

    name = f"popd-{os.getuid()}-{hashlib.sha256(os.fsencode(state.absolute())).hexdigest()[:12]}"
    for base in (runtime_dir, temporary):
        folder = Path(base) / name if base else None
        if folder is None or not Path(folder.parent).is_dir() or not fits(folder / SOCKET):
            continue
        _make_private(folder)
        return folder
    raise SettingsError(f"{state / SOCKET}: too long for a socket, and no shorter place was found; set control.socket")


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise SettingsError(
                f"{folder}: not a private folder of this user; remove it or set control.socket"
            ) from None
