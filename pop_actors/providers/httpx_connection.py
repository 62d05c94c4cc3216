"""The way through a proxy, for those who have one in their environment: httpx2 knows its rules, and makes the tunnels.

The only module here that loads httpx2 (6 MB), and only where the environment names a proxy. Costs four times the CPU
of the straight way.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pop_actors.providers.address import Address
from pop_actors.providers.http_connection import Broken, Head, Header, NotSent, Unsendable, joined

if TYPE_CHECKING:
    import httpx2

_PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})

T = TypeVar("T")


def names_a_proxy(environment: Mapping[str, str]) -> bool:
    """Whether it is worth while to ask httpx2."""
    return any(value and name.lower() in _PROXIES for name, value in environment.items())


def proxied_line(address: Address, certificates: ssl.SSLContext | None, connect_seconds: float) -> ProxiedLine | None:
    """A `Line` through the environment's proxy; None where that server is to be asked without.

    ValueError for a proxy whose address is none. ImportError, which teaches its cure, for a SOCKS proxy.
    """
    import httpx2

    line = ProxiedLine(address, certificates, connect_seconds)
    try:
        client = line.client()
    except httpx2.InvalidURL as error:
        raise ValueError(f"the proxy in the environment: {error}") from None
    # its rules of who goes through which proxy have no other door
    straight = client._transport_for_url(httpx2.URL(address.origin)) is client._transport  # noqa: SLF001
    return None if straight else line


class ProxiedLine:
    """A client for each request under way: one pool for all would look at all its connections at each request."""

    def __init__(self, address: Address, certificates: ssl.SSLContext | None, connect_seconds: float) -> None:
        self._origin = address.origin
        self._certificates = certificates
        self._connect_seconds = connect_seconds

    def client(self) -> httpx2.AsyncClient:
        import httpx2

        return httpx2.AsyncClient(
            timeout=httpx2.Timeout(None, connect=self._connect_seconds),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=1),
            verify=self._certificates or True,
        )

    async def open(self, deadline: float) -> ProxiedConnection:  # noqa: ARG002  # connected by the first request
        return ProxiedConnection(self.client(), self._origin)


class ProxiedConnection:
    """A `Connection` over a client of httpx2. What httpx2 raises is said in the seam's words."""

    def __init__(self, client: httpx2.AsyncClient, origin: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._client = client
        self._origin = origin
        self._reply: httpx2.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._doing: asyncio.Task[Any] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.is_ready = False
        self.is_sending = False
        self.moved = self._loop.time()

    async def post(self, target: str, headers: list[Header], body: bytes) -> Head:
        self.is_ready = False
        self.moved = self._loop.time()
        request = self._client.build_request(
            "POST", self._origin + target, content=body, headers=headers, extensions={"trace": self._hear}
        )
        reply = self._reply = await self._do(self._client.send(request, stream=True))
        self.moved = self._loop.time()
        self._chunks = reply.aiter_raw()
        return Head(reply.status_code, joined(reply.headers.raw))

    async def chunk(self) -> bytes:
        assert self._chunks is not None
        came = await self._do(_next(self._chunks))
        self.moved = self._loop.time()
        self.is_ready = came == b""
        return came

    def abort(self) -> None:
        self.is_ready = False
        if self._doing is not None:
            self._doing.cancel()
        if self._closing is None:
            self._closing = self._loop.create_task(self._close())

    async def closed(self) -> None:
        if self._closing is not None:
            await self._closing

    async def _hear(self, event: str, _: Mapping[str, Any]) -> None:
        """What httpx2 tells of its steps: a request has to leave within the idle time."""
        if event.endswith("send_request_headers.started"):
            self.is_sending, self.moved = True, self._loop.time()
        elif event.endswith(("send_request_body.complete", "send_request_body.failed")):
            self.is_sending = False

    async def _do(self, asked: Coroutine[Any, Any, T]) -> T:
        """In a task of its own, so that `abort` can end it."""
        import httpx2

        self._doing = self._loop.create_task(asked)
        try:
            done: T = await self._doing
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            if self._closing is None or (ours is not None and ours.cancelling()):
                raise
            raise Broken("given up") from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise NotSent(_said(error)) from None
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
            raise Unsendable(_said(error)) from None
        except httpx2.TransportError as error:
            raise Broken(_said(error)) from None
        finally:
            self._doing = None
        return done

    async def _close(self) -> None:
        if self._reply is not None:
            await self._reply.aclose()
        await self._client.aclose()


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    async for chunk in chunks:
        if chunk:
            return chunk
    return b""


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
