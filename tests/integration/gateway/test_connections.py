"""Connections to a provider: as many as there are requests under way, used again, and let go when they are not."""

from __future__ import annotations

import asyncio

import pytest

from pop_actors.core.chat import ChatRequest
from pop_actors.providers import connections
from pop_actors.providers.catalogue import COMPATIBLE
from pop_actors.providers.http_transport import Endpoint, HttpProvider
from pop_actors.providers.prices import Prices
from pop_actors.providers.registry import WIRES
from pop_actors.providers.types import AttemptFailed, ProviderReply
from support.provider_server import ProviderServer

SECONDS = 30.0
IDLE_SECONDS = 1.0
MANY = 40


def rounds(server: ProviderServer, *at_once: int, model: str = "slow-50ms") -> list[ProviderReply | BaseException]:
    """So many calls of one provider at once, and then so many, and so on: what came of each."""

    async def go() -> list[ProviderReply | BaseException]:
        endpoint = Endpoint("mine", server.base_url, None, COMPATIBLE["openai"], IDLE_SECONDS)
        provider = HttpProvider(endpoint, WIRES["openai", "chat"], Prices(None))
        request = ChatRequest(messages=[{"role": "user", "content": "hello"}])
        deadline = asyncio.get_running_loop().time() + SECONDS
        outcomes: list[ProviderReply | BaseException] = []
        try:
            for number in at_once:
                calls = (provider.chat(request, model, deadline) for _ in range(number))
                outcomes += await asyncio.gather(*calls, return_exceptions=True)
        finally:
            await provider.close()
        return outcomes

    return asyncio.run(go())


def test_each_request_under_way_has_its_own_and_leaves_it_to_the_next() -> None:
    """Forty at once, three times: forty connections in all."""
    with ProviderServer() as server:
        outcomes = rounds(server, MANY, MANY, MANY)
        assert all(isinstance(outcome, ProviderReply) for outcome in outcomes)
        assert (server.most_at_once, server.connections) == (MANY, MANY)


def test_what_is_not_used_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a rush, one call at a time keeps one; the next rush opens others."""
    monkeypatch.setattr(connections, "KEPT_SECONDS", 0.0)
    with ProviderServer() as server:
        rounds(server, MANY, 1, 1, MANY)
        assert server.connections == 2 * MANY - 1


@pytest.mark.parametrize("fault", ["hangup", "reset", "cut", "stall"])
def test_one_that_broke_is_no_trouble_to_the_next(fault: str) -> None:
    """The first two calls fail in the middle; those after them are answered by the same provider."""
    with ProviderServer() as server:
        outcomes = rounds(server, 2, 4, model=f"{fault}-2")
        assert [isinstance(outcome, AttemptFailed) for outcome in outcomes] == [True] * 2 + [False] * 4
