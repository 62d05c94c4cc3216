"""Connections to a provider: as many as there are requests under way, used again, and let go when they are not."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pop_actors.core.chat import ChatRequest
from pop_actors.providers.catalogue import COMPATIBLE
from pop_actors.providers.http_transport import Endpoint, HttpProvider
from pop_actors.providers.prices import Prices
from pop_actors.providers.registry import WIRES
from pop_actors.providers.types import AttemptFailed, ProviderReply
from support.provider_server import ProviderServer
from support.raw_server import Peer, RawServer

SECONDS = 30.0
IDLE_SECONDS = 1.0
MANY = 40


REPLY = b'{"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(REPLY), REPLY)


async def at_once(provider: HttpProvider, number: int, model: str) -> list[ProviderReply | BaseException]:
    request = ChatRequest.model_validate({"messages": [{"role": "user", "content": "hello"}]})
    deadline = asyncio.get_running_loop().time() + SECONDS
    return await asyncio.gather(
        *(provider.chat(request, model, deadline) for _ in range(number)), return_exceptions=True
    )


def provider_at(base_url: str, **how: float) -> HttpProvider:
    endpoint = Endpoint("mine", base_url, None, COMPATIBLE["openai"], IDLE_SECONDS)
    return HttpProvider(endpoint, WIRES["openai", "chat"], Prices(None), **how)


def rounds(server: ProviderServer, *numbers: int, model: str = "slow-50ms") -> list[ProviderReply | BaseException]:
    """So many calls of one provider at once, and then so many, and so on: what came of each."""

    async def go() -> list[ProviderReply | BaseException]:
        provider = provider_at(server.base_url)
        try:
            return [outcome for number in numbers for outcome in await at_once(provider, number, model)]
        finally:
            await provider.close()

    return asyncio.run(go())


def test_each_request_under_way_has_its_own_and_leaves_it_to_the_next() -> None:
    """Forty at once, three times: forty connections in all."""
    with ProviderServer() as server:
        outcomes = rounds(server, MANY, MANY, MANY)
        assert all(isinstance(outcome, ProviderReply) for outcome in outcomes)
        assert (server.most_at_once, server.connections) == (MANY, MANY)


def test_what_is_not_used_is_closed_by_itself() -> None:
    """After a rush and a call the provider stays, and is not asked again: none of its connections does."""

    def serve(peer: Peer) -> None:
        while peer.request() is not None:
            everybody.wait(SECONDS)
            peer.say(ANSWER)

    everybody = threading.Event()

    async def rush(server: RawServer) -> None:
        provider = provider_at(server.base_url, kept=0.05)
        rushing = asyncio.ensure_future(at_once(provider, MANY, "m"))
        await asyncio.to_thread(server.wait_until_open, MANY)
        everybody.set()
        assert all(isinstance(outcome, ProviderReply) for outcome in await rushing)
        await at_once(provider, 1, "m")
        await asyncio.to_thread(server.wait_until_open, 0)
        assert all(isinstance(outcome, ProviderReply) for outcome in await at_once(provider, 2, "m"))
        await provider.close()

    with RawServer(serve) as server:
        asyncio.run(rush(server))


@pytest.mark.parametrize("fault", ["hangup", "reset", "cut", "stall"])
def test_one_that_broke_is_no_trouble_to_the_next(fault: str) -> None:
    """The first two calls fail in the middle; those after them are answered by the same provider."""
    with ProviderServer() as server:
        outcomes = rounds(server, 2, 4, model=f"{fault}-2")
        assert [isinstance(outcome, AttemptFailed) for outcome in outcomes] == [True] * 2 + [False] * 4
