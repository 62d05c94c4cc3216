"""One cheap call to a provider, to see whether it answers. An operator asks; it is paid, and booked as any other."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

from pop_actors.core.budgets import Payer
from pop_actors.core.chat import ChatRequest, Message
from pop_actors.errors import CallFailed
from pop_actors.providers.keys import KeyedProvider
from pop_actors.providers.types import AttemptFailed, ProviderReply
from pop_actors.system.gateway.desk import Turn
from pop_actors.system.gateway.ledger import Entry
from pop_actors.system.gateway.shop import Shop

REQUEST = ChatRequest(messages=[Message(role="user", content="Reply with the word OK.")], max_tokens=16)
SIZE = 100  # bytes, about


async def probe(shop: Shop, provider: str, model: str | None, seconds: float) -> dict[str, Any]:
    """{provider, model, ok, ms, code, message, costUsd}. A model that only thinks within so few tokens has answered."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    told: dict[str, Any] = {"code": None, "message": None, "costUsd": 0.0}
    try:
        reply = await _call(shop, provider, model, begun + seconds)
        told["costUsd"] = reply.cost_usd
    except CallFailed as failure:
        answered = failure.code == "truncated"
        told |= {"code": None if answered else failure.code, "message": None if answered else failure.message}
        told["costUsd"] = getattr(failure, "cost_usd", 0.0)
    ms = round((loop.time() - begun) * 1000, 1)
    return {"provider": provider, "model": model, "ok": told["code"] is None, "ms": ms, **told}


async def _call(shop: Shop, provider: str, model: str | None, deadline: float) -> ProviderReply:
    if model is None:
        raise CallFailed("bad_request", f"provider {provider} has no default model: set gateway.default_model")
    desk = shop.desk(provider)
    opened = desk.provider()
    if isinstance(opened, KeyedProvider):
        opened.restore()  # whoever asks may have paid a bill just now
    payer = Payer("", "", provider)
    shop.spending.check(payer)
    granted = await desk.enter(Turn("", model, SIZE, REQUEST.max_tokens, deadline, patient=False))
    account = desk.account(model)
    account.requests += 1
    result: ProviderReply | AttemptFailed | None = None
    try:
        result = reply = await opened.chat(REQUEST, model, deadline)
    except AttemptFailed as failure:
        result = failure
        account.failed += 1
        account.note(failure, shop.now())
        raise
    finally:
        desk.leave(granted, result)
        if result is not None and result.usage is not None:
            account.book(result.usage, result.cost_usd)
            shop.spending.book(payer, Entry(uuid4().hex, "", "", provider, model, result.cost_usd, shop.now()))
            shop.spending.write()  # no journal has it
    return reply
