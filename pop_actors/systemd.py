"""Telling the service manager how we are: sd_notify(3), without a library. Silent where nobody listens."""

from __future__ import annotations

import contextlib
import socket


class ServiceManager:
    """Whoever started us, if it wants to be told (`notify_socket` is NOTIFY_SOCKET)."""

    def __init__(self, notify_socket: str | None) -> None:
        self._address = None
        if notify_socket:
            self._address = "\0" + notify_socket[1:] if notify_socket.startswith("@") else notify_socket

    def tell(self, *states: str) -> None:
        """`READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=…`: one datagram; lost where it cannot be taken."""
        if self._address is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto("\n".join(states).encode(), self._address)
