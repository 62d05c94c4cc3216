"""The provider for everything that speaks OpenAI's chat completions over HTTP: one POST per call, nothing repeated.

Owns its connections. Never logs a header, a key or a prompt.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import SecretStr

from pop_actors.core.chat import ChatRequest
from pop_actors.providers import failures, openai_wire
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.prices import Prices
from pop_actors.providers.types import AttemptFailed, ProviderReply

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 10.0
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_ERROR_BYTES = 64 * 1024
KEPT_CONNECTIONS = 20  # the pool looks at every idle connection at every request, 20 µs each


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how to ask. `base_url` has the version in its path. `idle_seconds`: longest silence within a body."""

    name: str
    base_url: str
    key: SecretStr | None
    vendor: Vendor
    idle_seconds: float
    headers: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # identity: replies are small, and a compressed one could unpack to more than its limit in one step
        headers = {"content-type": "application/json", "accept": "application/json", "accept-encoding": "identity"}
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key.get_secret_value()}"
        object.__setattr__(self, "headers", headers)


class OpenAIProvider:
    """Chat completions at one endpoint; a `Provider`."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._url = f"{endpoint.base_url.rstrip('/')}/chat/completions"
        self._prices = Prices(endpoint.vendor.prices)
        self._client: httpx2.AsyncClient | None = None
        self._opening: asyncio.Task[httpx2.AsyncClient] | None = None

    async def chat(self, request: ChatRequest, model: str, deadline: float) -> ProviderReply:
        """One request. The wait for the first byte ends by the deadline, silence after it by the idle time too."""
        client = self._client or await self._open()
        body = openai_wire.request_body(request, model, self._endpoint.vendor)
        answer = await self._post(client, body, deadline)
        try:
            content, usage, finish = openai_wire.parse_reply(answer)
        except AttemptFailed as failure:
            if failure.usage is not None:
                failure.cost_usd = self._prices.cost(model, failure.usage)
            raise
        return ProviderReply(content, usage, finish, self._prices.cost(model, usage))

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _open(self) -> httpx2.AsyncClient:
        # in a thread: the imports and the TLS certificates take 0.2 s, in which other providers' calls must go on
        if self._opening is None:
            self._opening = asyncio.create_task(asyncio.to_thread(self._make_client))
        try:
            self._client = await asyncio.shield(self._opening)
        except (ValueError, OSError) as error:  # a wrong proxy or certificate file in the environment
            self._opening = None
            raise AttemptFailed("connect", self._said(error), "permanent") from None
        return self._client

    def _make_client(self) -> httpx2.AsyncClient:
        import httpx2  # 14 MB that a daemon which only idles or works offline must not carry

        self._prices.load()
        return httpx2.AsyncClient(
            headers=self._endpoint.headers,
            # reads have no limit of their own: a model may think for minutes before its first byte
            timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS, write=self._endpoint.idle_seconds),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS),
        )

    async def _post(self, client: httpx2.AsyncClient, body: bytes, deadline: float) -> bytes:
        import httpx2  # already loaded by `_open`

        try:
            async with asyncio.timeout_at(deadline) as limit:
                response = await client.send(client.build_request("POST", self._url, content=body), stream=True)
                try:
                    return await self._read(response, deadline, limit)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise self._too_slow(deadline) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            raise AttemptFailed("connect", self._said(error), "never_sent") from None
        except httpx2.TimeoutException as error:
            raise AttemptFailed("timeout", self._said(error), "ambiguous") from None
        except httpx2.DecodingError as error:
            raise AttemptFailed("bad_reply", self._said(error), "permanent") from None
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
            raise AttemptFailed("connect", self._said(error), "permanent") from None
        except httpx2.TransportError as error:
            raise AttemptFailed("disconnected", self._said(error), "ambiguous") from None

    async def _read(self, response: httpx2.Response, deadline: float, limit: asyncio.Timeout) -> bytes:
        fine = HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES
        most = MAX_BODY_BYTES if fine else MAX_ERROR_BYTES
        chunks: list[bytes] = []
        size = 0
        clock = asyncio.get_running_loop().time
        limit.reschedule(min(deadline, clock() + self._endpoint.idle_seconds))
        async for chunk in response.aiter_bytes():
            limit.reschedule(min(deadline, clock() + self._endpoint.idle_seconds))
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                break
        if not fine:
            raise self._refused(response, b"".join(chunks)[:MAX_ERROR_BYTES])
        if size > MAX_BODY_BYTES:
            raise AttemptFailed("bad_reply", f"a reply of over {MAX_BODY_BYTES} bytes was not taken", "permanent")
        return b"".join(chunks)

    def _refused(self, response: httpx2.Response, body: bytes) -> AttemptFailed:
        body = self._without_key(body.decode("utf-8", "replace")).encode()
        return failures.from_status(response.status_code, response.headers, body, time.time())

    def _too_slow(self, deadline: float) -> AttemptFailed:
        if asyncio.get_running_loop().time() >= deadline:
            return AttemptFailed("timeout", "no whole reply before the call's deadline", "ambiguous")
        silence = self._endpoint.idle_seconds
        return AttemptFailed("timeout", f"the reply stopped in the middle for {silence:g} s", "ambiguous")

    def _said(self, error: Exception) -> str:
        server = urlsplit(self._endpoint.base_url).netloc.rpartition("@")[2]  # a password may stand before the @
        return self._without_key(f"{server}: {str(error) or type(error).__name__}")

    def _without_key(self, text: str) -> str:
        # some providers repeat the key they were given in their complaint
        key = self._endpoint.key
        return text if key is None else text.replace(key.get_secret_value(), "***")
