"""Binds the two addresses the API listens at.

A path or port that cannot be had is a wrong setting, said before the start.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from pop_actors.errors import SettingsError
from pop_actors.storage.control_socket import BUILDING_SUFFIX

SOCKET_MODE = 0o660
BACKLOG = 128
PROBE_SECONDS = 1.0


def bind_unix(path: Path) -> socket.socket:
    """A listening socket that appears at `path` complete, with its mode; a stale file there is replaced by it."""
    _refuse_if_taken(path)
    building = f"{path}{BUILDING_SUFFIX}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        Path(building).unlink(missing_ok=True)
        listener.bind(building)
        os.chmod(building, SOCKET_MODE)
        listener.listen(BACKLOG)
        os.rename(building, path)
    except OSError as error:
        listener.close()
        raise SettingsError(f"control.socket = {str(path)!r}: {error.strerror or error}") from None
    listener.setblocking(False)  # noqa: FBT003  (the standard library's signature)
    return listener


def _refuse_if_taken(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISSOCK(mode):
        raise SettingsError(f"control.socket = {str(path)!r}: something else than a socket is there; remove it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise SettingsError(f"control.socket = {str(path)!r}: {error.strerror or error}") from None
    raise SettingsError(
        f"control.socket = {str(path)!r}: another program listens there; stop it or choose another path"
    )


def bind_tcp(host: str, port: int) -> socket.socket:
    """A listening socket at host and port; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        hint = "choose another, or 0 for any free one" if port else "check http.host"
        raise SettingsError(f"http.port = {port} at {host}: {error.strerror or error}; {hint}") from None
    listener.setblocking(False)  # noqa: FBT003
    return listener


def remove_unix(path: Path, listener_inode: int) -> None:
    """Remove the socket file where it is still the one we made."""
    try:
        if path.lstat().st_ino == listener_inode:
            path.unlink()
    except FileNotFoundError:
        return
