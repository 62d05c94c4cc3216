"""One POST per call to one endpoint, whatever its wire format: what to send, over which line, at what price. Nothing is
repeated.

Owns its connections, and has one key: several keys are several of these. Never logs a header, a key or a prompt.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass, field
from typing import Protocol

from pop_actors.core.chat import ChatRequest, Usage
from pop_actors.providers import certificates
from pop_actors.providers.address import address_of, target
from pop_actors.providers.connections import KEPT_SECONDS, Connections
from pop_actors.providers.endpoint import Endpoint, Streaming, headers_of_all
from pop_actors.providers.exchange import Exchange, Post
from pop_actors.providers.fitting import fit
from pop_actors.providers.h11_connection import CONNECT_SECONDS, DirectLine
from pop_actors.providers.http_connection import Line
from pop_actors.providers.httpx_connection import names_a_proxy, proxied_line
from pop_actors.providers.types import AttemptFailed, ProviderReply, Wire, WireRequest

__all__ = ["Endpoint", "HttpProvider", "PriceList", "Streaming"]

LONG_REPLY_TOKENS = 4096

_log = logging.getLogger("pop_actors.providers")


class PriceList(Protocol):
    """What calls cost. `load` may take long and runs in a thread."""

    def load(self) -> None: ...
    def cost(self, model: str, usage: Usage) -> float | None: ...


@dataclass(frozen=True, slots=True)
class _Way:
    """What is made once, with the first call. `headers`: of every request; their values may be secrets."""

    headers: dict[bytes, bytes] = field(repr=False)
    connections: Connections


class HttpProvider:
    """A `Provider` at one endpoint that speaks one `Wire`. `kept` (s): how long a connection stays without work."""

    def __init__(self, endpoint: Endpoint, wire: Wire, prices: PriceList, *, kept: float = KEPT_SECONDS) -> None:
        self._endpoint = endpoint
        self._base_url = endpoint.base_url.rstrip("/")
        self._wire = wire
        self._prices = prices
        self._kept = kept
        self._way: _Way | None = None
        self._opening: asyncio.Task[_Way] | None = None
        self._warned: set[tuple[str, str]] = set()

    async def chat(self, request: ChatRequest, model: str, deadline: float) -> ProviderReply:
        """One request. The wait for the first byte ends by the deadline, silence after it by the idle time too."""
        request, left_out = fit(request, model, self._endpoint.vendor, drop=self._endpoint.drop_unsupported)
        if left_out:
            self._warn_of(model, left_out)
        stream = self._streams(request, model)
        outgoing = self._wire.request(request, model, self._endpoint.vendor, stream=stream)
        way = self._way or await self._open(deadline)
        exchange = Exchange(self._endpoint, self._wire, deadline, self._wire.open_stream() if stream else None)
        try:
            parsed = await exchange.run(way.connections, self._post(way, outgoing, stream=stream))
        except AttemptFailed as failure:
            failure.rate_news = exchange.rate_news
            if failure.usage is not None:
                failure.cost_usd = self._cost(model, failure.usage)
            raise
        cost = self._cost(model, parsed.usage)
        return ProviderReply(
            parsed.content,
            parsed.usage,
            parsed.finish_reason,
            cost,
            parsed.tool_calls,
            exchange.rate_news,
            parsed.model,
        )

    async def close(self) -> None:
        way, self._way = self._way, None
        self._opening = None
        if way is not None:
            await way.connections.close()

    def _post(self, way: _Way, outgoing: WireRequest, *, stream: bool) -> Post:
        headers = way.headers | {
            b"accept": b"text/event-stream" if stream else b"application/json",
            b"content-length": b"%d" % len(outgoing.body),
        }
        for name, value in outgoing.headers.items():
            headers[name.encode()] = value.encode()
        return Post(target(self._base_url, outgoing.path), list(headers.items()), outgoing.body)

    def _cost(self, model: str, usage: Usage) -> float | None:
        # who counts no tokens has not worked for nothing: the cost is unknown
        return self._prices.cost(model, usage) if usage.input_tokens or usage.output_tokens else None

    def _warn_of(self, model: str, left_out: tuple[str, ...]) -> None:
        for what in left_out:
            if (model, what) not in self._warned:
                self._warned.add((model, what))
                _log.warning("%s, %s: not sent, since the model does not take it: %s", self._endpoint.name, model, what)

    def _streams(self, request: ChatRequest, model: str) -> bool:
        if self._endpoint.stream != "auto":
            return self._endpoint.stream == "always"
        if request.max_tokens is not None:
            return request.max_tokens > LONG_REPLY_TOKENS
        return self._endpoint.vendor.model(model).thinks

    async def _open(self, deadline: float) -> _Way:
        if self._opening is None:
            self._opening = asyncio.create_task(self._make_way())
        opening = self._opening
        try:
            async with asyncio.timeout_at(deadline):
                self._way = await asyncio.shield(opening)
        except TimeoutError:
            raise AttemptFailed("timeout", "not sent before the call's deadline", "never_sent") from None
        except (ValueError, OSError, ImportError) as error:  # a wrong proxy, certificate file or header
            if self._opening is opening:
                self._opening = None  # by the next call it may be mended
            raise AttemptFailed("connect", self._endpoint.said(error), "permanent") from None
        return self._way

    async def _make_way(self) -> _Way:
        # in a thread: prices and certificates take 0.1 s, in which other providers' calls must go on
        headers, line = await asyncio.to_thread(self._prepare)
        return _Way(headers, Connections(line, self._kept))

    def _prepare(self) -> tuple[dict[bytes, bytes], Line]:
        self._prices.load()
        address = address_of(self._base_url)
        auth = {} if self._endpoint.key is None else self._wire.auth(self._endpoint.key.get_secret_value())
        headers = headers_of_all(self._endpoint, address, auth)
        has_proxy = names_a_proxy(os.environ)
        believed = certificates.believed() if has_proxy or address.scheme == "https" else None
        line = proxied_line(address, believed, CONNECT_SECONDS) if has_proxy else None
        return headers, line or DirectLine(address, believed)

    def __repr__(self) -> str:
        return f"HttpProvider({self._endpoint.name} at {self._endpoint.server})"
