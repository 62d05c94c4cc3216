"""One POST per call to one endpoint, whatever its wire format: deadline, silences, sizes, errors. Nothing is repeated.

Owns its connections, and has one key: several keys are several of these. Never logs a header, a key or a prompt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from pop_actors.core.chat import ChatRequest, Usage
from pop_actors.core.rate_news import RateNews, read_rate_news
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.connections import Connections
from pop_actors.providers.fitting import fit
from pop_actors.providers.sse import EventDecoder
from pop_actors.providers.types import AttemptFailed, Parsed, ProviderReply, StreamParser, Wire, WireRequest

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 10.0
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_STREAM_BYTES = 256 * 1024 * 1024  # a token's event is some 200 bytes
MAX_ERROR_BYTES = 64 * 1024
LONG_REPLY_TOKENS = 4096
SHORTEST_SECRET = 8  # what is shorter is no secret, and may be any word of a message
FAREWELL_SECONDS = 0.2  # for the end of a body after the reply's end, so that the connection can serve again

_VERSION = re.compile(r"/v\d\w*\Z")
_LEADING_VERSION = re.compile(r"\A/v\d\w*(?=/)")

Streaming = Literal["auto", "always", "never"]

_log = logging.getLogger("pop_actors.providers")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to ask. `base_url` as settings have it. `idle_seconds`: longest silence within a reply.

    `stream`: replies come as streams always, never, or where they may be long. `drop_unsupported`: what a model refuses
    is left out with a warning; else the call fails. `headers` (names in lower case) go with every request.
    """

    name: str
    base_url: str
    key: SecretStr | None
    vendor: Vendor
    idle_seconds: float
    stream: Streaming = "auto"
    drop_unsupported: bool = True
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    server: str = field(init=False)

    def __post_init__(self) -> None:
        # a password may stand before the @
        object.__setattr__(self, "server", urlsplit(self.base_url).netloc.rpartition("@")[2])


class PriceList(Protocol):
    """What calls cost. `load` may take long and runs in a thread."""

    def load(self) -> None: ...
    def cost(self, model: str, usage: Usage) -> float | None: ...


class HttpProvider:
    """A `Provider` at one endpoint that speaks one `Wire`."""

    def __init__(self, endpoint: Endpoint, wire: Wire, prices: PriceList) -> None:
        self._endpoint = endpoint
        self._base_url = endpoint.base_url.rstrip("/")
        self._wire = wire
        self._prices = prices
        self._connections: Connections | None = None
        self._opening: asyncio.Task[Connections] | None = None
        self._warned: set[tuple[str, str]] = set()

    async def chat(self, request: ChatRequest, model: str, deadline: float) -> ProviderReply:
        """One request. The wait for the first byte ends by the deadline, silence after it by the idle time too."""
        request, left_out = fit(request, model, self._endpoint.vendor, drop=self._endpoint.drop_unsupported)
        self._warn_of(model, left_out)
        stream = self._streams(request, model)
        outgoing = self._wire.request(request, model, self._endpoint.vendor, stream=stream)
        connections = self._connections or await self._open()
        exchange = Exchange(self._endpoint, self._wire, stream=stream)
        try:
            with connections.one() as client:
                parsed = await exchange.run(client, address(self._base_url, outgoing.path), outgoing, deadline)
        except AttemptFailed as failure:
            failure.rate_news = exchange.rate_news
            if failure.usage is not None:
                failure.cost_usd = self._cost(model, failure.usage)
            raise
        cost = self._cost(model, parsed.usage)
        return ProviderReply(
            parsed.content, parsed.usage, parsed.finish_reason, cost, parsed.tool_calls, exchange.rate_news
        )

    async def close(self) -> None:
        connections, self._connections = self._connections, None
        if connections is not None:
            await connections.close()

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

    async def _open(self) -> Connections:
        # in a thread: the imports and the TLS certificates take 0.2 s, in which other providers' calls must go on
        if self._opening is None:
            self._opening = asyncio.create_task(asyncio.to_thread(self._make_connections))
        try:
            self._connections = await asyncio.shield(self._opening)
        except (ValueError, OSError) as error:  # a wrong proxy or certificate file in the environment
            self._opening = None
            raise AttemptFailed("connect", _said(self._endpoint, error), "permanent") from None
        return self._connections

    def _make_connections(self) -> Connections:
        import httpx2  # 14 MB that a daemon which only idles or works offline must not carry

        self._prices.load()
        # identity: replies are small, and a compressed one could unpack to more than its limit in one step
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self._endpoint.key is not None:
            headers |= self._wire.auth(self._endpoint.key.get_secret_value())
        headers |= {name: value.get_secret_value() for name, value in self._endpoint.headers.items()}
        # reads have no limit of their own: a model may think for minutes before its first byte
        timeout = httpx2.Timeout(None, connect=CONNECT_SECONDS, write=self._endpoint.idle_seconds)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=1)
        certificates = httpx2.create_ssl_context()

        def make() -> httpx2.AsyncClient:  # not a partial, whose repr would tell the key
            return httpx2.AsyncClient(headers=headers, timeout=timeout, limits=limits, verify=certificates)

        return Connections(make(), make)

    def __repr__(self) -> str:
        return f"HttpProvider({self._endpoint.name} at {self._endpoint.server})"


class Exchange:
    """One request and its reply. `rate_news`: what the reply's headers said of limits, once they are here."""

    def __init__(self, endpoint: Endpoint, wire: Wire, *, stream: bool) -> None:
        self.rate_news: RateNews | None = None
        self._endpoint = endpoint
        self._wire = wire
        self._parser: StreamParser | None = wire.open_stream() if stream else None
        self._clock = asyncio.get_running_loop().time

    async def run(self, client: httpx2.AsyncClient, url: str, outgoing: WireRequest, deadline: float) -> Parsed:
        import httpx2  # already loaded by whoever made the client

        try:
            async with asyncio.timeout_at(deadline) as limit:
                accept = "text/event-stream" if self._parser else "application/json"
                headers = {"accept": accept, **outgoing.headers}
                sent = client.build_request("POST", url, content=outgoing.body, headers=headers)
                response = await client.send(sent, stream=True)
                try:
                    return await self._read(response, deadline, limit)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise self._broken("timeout", self._why_too_slow(deadline)) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise AttemptFailed("connect", _said(self._endpoint, error), "never_sent") from None
        except httpx2.TimeoutException as error:
            raise self._broken("timeout", _said(self._endpoint, error)) from None
        except httpx2.DecodingError as error:
            raise AttemptFailed("bad_reply", _said(self._endpoint, error), "permanent") from None
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
            raise AttemptFailed("connect", _said(self._endpoint, error), "permanent") from None
        except httpx2.TransportError as error:
            raise self._broken("disconnected", _said(self._endpoint, error)) from None
        except AttemptFailed as failure:
            failure.usage = failure.usage or self._billed()
            failure.message = _without_key(self._endpoint, failure.message)
            failure.args = (failure.message,)
            raise

    async def _read(self, response: httpx2.Response, deadline: float, limit: asyncio.Timeout) -> Parsed:
        self.rate_news = read_rate_news(response.headers, time.time())
        if not HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES:
            body = (await self._body(response, MAX_ERROR_BYTES, deadline, limit))[:MAX_ERROR_BYTES]
            raise self._refused(response, body)
        # a server that does not stream, although it was asked to, answers as it can
        if self._parser is not None and _media_type(response) == "text/event-stream":
            return await self._stream(response, self._parser, deadline, limit)
        self._parser = None
        body = await self._body(response, MAX_BODY_BYTES, deadline, limit)
        if len(body) > MAX_BODY_BYTES:
            raise _too_long("reply", MAX_BODY_BYTES)
        return self._wire.parse_reply(body)

    async def _body(self, response: httpx2.Response, most: int, deadline: float, limit: asyncio.Timeout) -> bytes:
        """The body; of one that is longer than `most`, more than that. No part of it comes later than the idle time."""
        chunks: list[bytes] = []
        size = 0
        limit.reschedule(self._end_of_silence(deadline))
        async for chunk in response.aiter_bytes():
            limit.reschedule(self._end_of_silence(deadline))
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                break
        return b"".join(chunks)

    def _refused(self, response: httpx2.Response, body: bytes) -> AttemptFailed:
        body = _without_key(self._endpoint, body.decode("utf-8", "replace")).encode()
        return self._wire.parse_error(response.status_code, response.headers, body, time.time())

    async def _stream(
        self, response: httpx2.Response, parser: StreamParser, deadline: float, limit: asyncio.Timeout
    ) -> Parsed:
        decoder = EventDecoder()
        size = 0
        chunks = response.aiter_bytes()
        limit.reschedule(self._end_of_silence(deadline, parser))
        async for chunk in chunks:
            size += len(chunk)
            if size > MAX_STREAM_BYTES:
                raise _too_long("stream", MAX_STREAM_BYTES)
            for event in decoder.feed(chunk):
                parser.feed(event)
            if parser.done:
                break
            limit.reschedule(self._end_of_silence(deadline, parser))
        else:
            for event in decoder.end():
                parser.feed(event)
        limit.reschedule(None)
        reply = parser.close()
        await self._see_off(chunks)
        return reply

    def _end_of_silence(self, deadline: float, parser: StreamParser | None = None) -> float:
        """A model may think in silence before its stream begins, unless its vendor keeps streams alive meanwhile."""
        if parser is not None and not parser.began and not self._endpoint.vendor.keeps_alive:
            return deadline
        return min(deadline, self._clock() + self._endpoint.idle_seconds)

    async def _see_off(self, chunks: AsyncIterator[bytes]) -> None:
        """Read to the end of the body, if it is near: a connection is kept only then. The reply is here already."""
        import httpx2  # already loaded by whoever made the client

        with contextlib.suppress(TimeoutError, httpx2.TransportError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                async for _ in chunks:
                    pass

    def _why_too_slow(self, deadline: float) -> str:
        if self._clock() >= deadline:
            return "no whole reply before the call's deadline"
        return f"the reply stopped in the middle for {self._endpoint.idle_seconds:g} s"

    def _broken(self, code: str, message: str) -> AttemptFailed:
        """It may have been worked on, and what a stream has told of its bill till then was billed."""
        return AttemptFailed(code, message, "ambiguous", usage=self._billed())

    def _billed(self) -> Usage | None:
        return self._parser.usage() if self._parser else None


def _too_long(what: str, most: int) -> AttemptFailed:
    return AttemptFailed("bad_reply", f"a {what} of over {most} bytes was not taken", "permanent")


def _media_type(response: httpx2.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def address(base_url: str, path: str) -> str:
    """Where to post. A base URL that names an API version already keeps it."""
    if _VERSION.search(base_url):
        path = _LEADING_VERSION.sub("", path)
    return base_url + path


def _said(endpoint: Endpoint, error: Exception) -> str:
    return _without_key(endpoint, f"{endpoint.server}: {str(error) or type(error).__name__}")


def _without_key(endpoint: Endpoint, text: str) -> str:
    # some providers repeat the key they were given in their complaint
    for secret in (endpoint.key, *endpoint.headers.values()):
        if secret is not None and len(secret.get_secret_value()) >= SHORTEST_SECRET:
            text = text.replace(secret.get_secret_value(), "***")
    return text
