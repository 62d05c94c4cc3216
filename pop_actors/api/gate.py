"""What a request must pass before a route sees it: its Host, its Origin, whether it may change anything, its size.

On the Unix socket only the size counts: who may open the socket may do everything. Pure ASGI around the app.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pop_actors.api.envelope import fault

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

READING = frozenset({"GET", "HEAD", "OPTIONS"})
DISCARDED_BYTES = 16 * 1024 * 1024


def is_loopback(host: str) -> bool:
    """Whether a Host header names this machine itself: localhost, 127.0.0.0/8 or ::1, with or without a port."""
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    elif host.count(":") > 1:
        name = host
    else:
        name = host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refusal(method: str, host: str | None, origin: str | None, *, allow_mutations: bool) -> tuple[str, str] | None:
    """Why a request from TCP is turned away, as (code, message); None where it may pass."""
    if host is None or not is_loopback(host):
        return "forbidden", f"Host {host!r} is not this machine; ask 127.0.0.1 or localhost"
    if origin is not None and origin != f"http://{host}":
        return "forbidden", f"a page of {origin} may not ask popd"
    if method not in READING and not allow_mutations:
        return "read_only", "this address only reads; use popctl (the Unix socket) or set http.allow_mutations"
    return None


class Gate:
    """The app, behind its checks. `tcp`: whether requests come from a TCP address and not from the Unix socket."""

    def __init__(self, app: App, *, tcp: bool, allow_mutations: bool, max_body_bytes: int) -> None:
        self._app = app
        self._tcp = tcp
        self._allow_mutations = allow_mutations
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self._tcp:
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            method: str = scope["method"]
            turned_away = refusal(
                method, headers.get(b"host"), headers.get(b"origin"), allow_mutations=self._allow_mutations
            )
            if turned_away is not None:
                await fault(*turned_away)(scope, receive, send)
                return
        if scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        body = await self._body(receive)
        if body is None:
            message = f"a body of more than {self._max_body_bytes} bytes; jobs.seed_max_bytes sets what is allowed"
            await fault("too_large", message)(scope, receive, send)
            return
        await self._app(scope, _replaying(body, receive), send)

    async def _body(self, receive: Receive) -> bytes | None:
        """The whole body, or None where it is too large; then it is read and thrown away: the answer must arrive."""
        chunks: list[bytes] = []
        size = 0
        while size <= DISCARDED_BYTES:
            message = await receive()
            if message["type"] != "http.request":
                break
            chunk = message.get("body", b"")
            size += len(chunk)
            if size <= self._max_body_bytes:
                chunks.append(chunk)
            if not message.get("more_body", False):
                break
        return b"".join(chunks) if size <= self._max_body_bytes else None


def _replaying(body: bytes, receive: Receive) -> Receive:
    """A `receive` that hands over a body already read, then whatever comes after it."""
    pending = [body]

    async def replay() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return replay
