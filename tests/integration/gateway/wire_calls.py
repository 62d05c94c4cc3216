"""One provider against one scripted server, without a gateway around it: what tests of single wire formats stand on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from pop_actors.core.chat import ChatRequest
from pop_actors.providers.catalogue import VENDORS
from pop_actors.providers.http_transport import Endpoint, HttpProvider, Streaming
from pop_actors.providers.prices import Prices
from pop_actors.providers.registry import WIRES
from pop_actors.providers.types import AttemptFailed, ProviderReply
from support.wire_server import WireServer

KEY = "key-very-secret-1234567890"
SECONDS = 30.0
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    },
}


def ask(
    provider: str,
    server: WireServer,
    model: str,
    *,
    stream: Streaming = "never",
    idle: float = 10.0,
    drop: bool = True,
    **request: Any,
) -> ProviderReply:
    """Ask and wait for the reply."""
    request.setdefault("messages", [{"role": "user", "content": "hello"}])
    vendor = VENDORS[provider]
    endpoint = Endpoint(provider, server.base_url, SecretStr(KEY), vendor, idle, stream, drop)

    async def call() -> ProviderReply:
        made = HttpProvider(endpoint, WIRES[vendor.kind, "chat"], Prices(vendor.prices))
        try:
            deadline = asyncio.get_running_loop().time() + SECONDS
            return await made.chat(ChatRequest(**request), model, deadline)
        finally:
            await made.close()

    return asyncio.run(call())


def failure_of(provider: str, server: WireServer, model: str, **how: Any) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as failed:
        ask(provider, server, model, **how)
    return failed.value
