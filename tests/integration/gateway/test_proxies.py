"""Calls through the proxies of the environment, by the rules that everybody knows, and straight where there is none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pop_actors.core.chat import ChatRequest
from pop_actors.providers.address import address_of
from pop_actors.providers.catalogue import COMPATIBLE, VENDORS
from pop_actors.providers.http_transport import Endpoint, HttpProvider, Streaming
from pop_actors.providers.httpx_connection import proxied_line
from pop_actors.providers.prices import Prices
from pop_actors.providers.registry import WIRES
from pop_actors.providers.types import AttemptFailed, ProviderReply
from support.provider_server import ProviderServer
from support.raw_server import Proxy
from support.tls_front import TlsFront

SECONDS = 20.0
NAMES = [name for known in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY") for name in (known, known.lower())]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as made:
        yield made


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as made:
        yield made


def ask(
    base_url: str, *models: str, stream: Streaming = "never", vendor: str | None = None, seconds: float = SECONDS
) -> list[ProviderReply]:
    """One call after the other, by one provider."""

    async def go() -> list[ProviderReply]:
        known = VENDORS[vendor] if vendor else COMPATIBLE["openai"]
        provider = HttpProvider(
            Endpoint("mine", base_url, None, known, 0.3, stream), WIRES["openai", "chat"], Prices(None)
        )
        request = ChatRequest.model_validate({"messages": [{"role": "user", "content": "hello"}]})
        clock = asyncio.get_running_loop().time
        try:
            return [await provider.chat(request, model, clock() + seconds) for model in models]
        finally:
            await provider.close()

    return asyncio.run(go())


def failure(base_url: str, *models: str, seconds: float = SECONDS) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as failed:
        ask(base_url, *models, seconds=seconds)
    return failed.value


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("stream", ["never", "always"])
def test_a_plain_address_is_asked_through_the_proxy(
    environment: pytest.MonkeyPatch, server: ProviderServer, proxy: Proxy, name: str, stream: Streaming
) -> None:
    """Whole, as a stream or not, and on one connection."""
    environment.setenv(name, proxy.url)
    replies = ask(server.base_url, "ok", "ok", "ok", stream=stream)
    assert all(reply.content.startswith("reply") for reply in replies)
    assert (proxy.opened, server.connections) == (1, 1)
    assert proxy.heads[0].startswith(f"POST {server.base_url}/chat/completions ".encode())


def test_https_goes_through_a_tunnel(
    environment: pytest.MonkeyPatch, server: ProviderServer, proxy: Proxy, tmp_path: Path
) -> None:
    """The proxy sees a name and a port, and nothing that is said."""
    with TlsFront(tmp_path, server.port) as front:
        environment.setenv("SSL_CERT_FILE", str(front.authority))
        environment.setenv("HTTPS_PROXY", proxy.url)
        assert ask(f"https://localhost:{front.port}/v1", "ok")[0].content.startswith("reply")
        assert [head.split(b"\r\n")[0] for head in proxy.heads] == [f"CONNECT localhost:{front.port} HTTP/1.1".encode()]


@pytest.mark.parametrize(("name", "value"), [("NO_PROXY", "127.0.0.1"), ("no_proxy", "*"), ("NO_PROXY", "127.0.0.0/8")])
def test_who_is_excepted_is_asked_straight(
    environment: pytest.MonkeyPatch, server: ProviderServer, proxy: Proxy, name: str, value: str
) -> None:
    """By address, by network, or everybody."""
    environment.setenv("ALL_PROXY", proxy.url)
    environment.setenv(name, value)
    assert ask(server.base_url, "ok")[0].content.startswith("reply")
    assert (proxy.opened, server.connections) == (0, 1)


def test_a_proxy_for_others_is_not_used(environment: pytest.MonkeyPatch, server: ProviderServer, proxy: Proxy) -> None:
    """One for https has nothing to do with a plain address."""
    environment.setenv("HTTPS_PROXY", proxy.url)
    assert ask(server.base_url, "ok")[0].content.startswith("reply")
    assert proxy.opened == 0


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_sends_nothing(environment: pytest.MonkeyPatch, scheme: str) -> None:
    """It can be asked again without regret."""
    environment.setenv("ALL_PROXY", "http://127.0.0.1:1")
    failed = failure(f"{scheme}://localhost/v1", "ok")
    assert (failed.code, failed.fate) == ("connect", "never_sent")


def test_a_proxy_that_refuses_the_tunnel_sends_nothing(environment: pytest.MonkeyPatch) -> None:
    """It wants to know who asks."""
    with Proxy(b"HTTP/1.1 407 Who Are You\r\nContent-Length: 0\r\n\r\n") as proxy:
        environment.setenv("ALL_PROXY", proxy.url)
        failed = failure("https://localhost/v1", "ok")
    assert (failed.code, failed.fate) == ("connect", "never_sent")


@pytest.mark.parametrize("value", ["nonsense://x", "http://127.0.0.1:x", "socks5://127.0.0.1:1"])
def test_a_proxy_nobody_can_use_is_named_before_anything_is_sent(environment: pytest.MonkeyPatch, value: str) -> None:
    """It is for a person to mend."""
    environment.setenv("ALL_PROXY", value)
    failed = failure("http://127.0.0.1:1/v1", "ok")
    assert (failed.code, failed.fate) == ("connect", "permanent")


@pytest.mark.parametrize(
    ("model", "code", "fate"),
    [
        ("fail-503", "overloaded", "refused"),
        ("hangup", "disconnected", "ambiguous"),
        ("cut", "disconnected", "ambiguous"),
        ("stall", "timeout", "ambiguous"),
        ("garbage", "bad_reply", "permanent"),
    ],
)
def test_failures_are_the_same_through_a_proxy(
    environment: pytest.MonkeyPatch, server: ProviderServer, proxy: Proxy, model: str, code: str, fate: str
) -> None:
    """Who asks need not know the way."""
    environment.setenv("HTTP_PROXY", proxy.url)
    failed = failure(server.base_url, model)
    assert (failed.code, failed.fate) == (code, fate)


def test_the_deadline_holds_through_a_proxy(
    environment: pytest.MonkeyPatch, server: ProviderServer, proxy: Proxy
) -> None:
    """Whatever becomes of the request behind it."""
    environment.setenv("HTTP_PROXY", proxy.url)
    failed = failure(server.base_url, "ok", "hole", seconds=1.5)
    assert (failed.code, failed.fate) == ("timeout", "ambiguous")


def test_a_cancelled_call_hangs_up_through_a_proxy(
    environment: pytest.MonkeyPatch, server: ProviderServer, proxy: Proxy
) -> None:
    """The proxy hears it at once."""
    environment.setenv("HTTP_PROXY", proxy.url)

    async def go() -> None:
        endpoint = Endpoint("mine", server.base_url, None, COMPATIBLE["openai"], 10.0)
        provider = HttpProvider(endpoint, WIRES["openai", "chat"], Prices(None))
        request = ChatRequest.model_validate({"messages": [{"role": "user", "content": "hello"}]})
        call = asyncio.ensure_future(provider.chat(request, "hole", asyncio.get_running_loop().time() + SECONDS))
        await asyncio.to_thread(server.wait_for_calls, 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.to_thread(proxy.wait_until_open, 0)
        await provider.close()

    asyncio.run(go())


def test_a_cancelled_call_is_cancelled_although_its_time_was_over_too(
    environment: pytest.MonkeyPatch, server: ProviderServer, proxy: Proxy
) -> None:
    """Else it would be taken for one that failed, and be made again."""
    environment.setenv("HTTP_PROXY", proxy.url)

    async def go() -> None:
        line = proxied_line(address_of(server.base_url), None, SECONDS)
        assert line is not None
        connection = await line.open(SECONDS)
        body = b'{"model": "hole", "messages": [{"role": "user", "content": "hello"}]}'
        call = asyncio.ensure_future(connection.post("/v1/chat/completions", [], body))
        await asyncio.to_thread(server.wait_for_calls, 1)
        connection.abort()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await connection.closed()

    asyncio.run(go())


def test_who_needs_no_proxy_carries_no_httpx2(server: ProviderServer) -> None:
    """It takes 6 MB, and serves only those who go through a proxy."""
    script = """
import asyncio, sys
from pop_actors.core.chat import ChatRequest
from pop_actors.providers.catalogue import COMPATIBLE
from pop_actors.providers.http_transport import Endpoint, HttpProvider
from pop_actors.providers.prices import Prices
from pop_actors.providers.registry import WIRES

async def main():
    endpoint = Endpoint("mine", sys.argv[1], None, COMPATIBLE["openai"], 1.0)
    provider = HttpProvider(endpoint, WIRES["openai", "chat"], Prices(None))
    request = ChatRequest.model_validate({"messages": [{"role": "user", "content": "hello"}]})
    await provider.chat(request, "ok", asyncio.get_running_loop().time() + 20)
    await provider.close()

asyncio.run(main())
print([name for name in ("httpx2", "httpcore2", "anyio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script, server.base_url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
