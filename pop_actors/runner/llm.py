"""`ctx.llm`: a stage's calls to the gateway.

Settles provider and model, sends a call until it is answered, and has a structured reply that breaks its schema
corrected once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pop_actors.errors import Refused, Unavailable
from pop_actors.runner.llm_call import Call, Caller, Reply, Terms
from pop_actors.runner.llm_choice import Choice, settle
from pop_actors.runner.llm_request import Asked, request_of, seconds_of
from pop_actors.runner.structured import Misfit, check

ResponseFormat = Literal["text", "json"] | Mapping[str, Any]


class Llm:
    """`ctx.llm`. `ctx.llm.openai.chat(…)` and so on fix the provider (`_` stands for `-`)."""

    def __init__(self, caller: Caller, provider: str | None = None) -> None:
        self._caller = caller
        self._provider = provider

    def __getattr__(self, name: str) -> Llm:
        if name.startswith("_"):
            raise AttributeError(name)
        return Llm(self._caller, name.replace("_", "-"))

    def chat(
        self,
        messages: Any,
        *,
        provider: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        response_format: ResponseFormat = "text",
        stop: str | Sequence[str] | None = None,
        timeout: float | None = None,
        reasoning_effort: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
    ) -> Reply:
        """One completion. CallFailed where there is none, or where a structured reply is not what was asked for, also
        not when its faults were shown."""
        wish = Choice(provider or self._provider, model, temperature, max_tokens, reasoning_effort)
        call = self._call(wish, Asked(messages, response_format, stop, tools, tool_choice), timeout)
        try:
            return self._complete(call)
        except Misfit as misfit:
            return self._complete(call.repair(misfit))

    async def achat(
        self,
        messages: Any,
        *,
        provider: str | None = None,
        model: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        response_format: ResponseFormat = "text",
        stop: str | Sequence[str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  (the contract's name; the gateway keeps it, not the event loop)
        reasoning_effort: str | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        tool_choice: str | Mapping[str, Any] | None = None,
    ) -> Reply:
        """`chat` for async stages."""
        wish = Choice(provider or self._provider, model, temperature, max_tokens, reasoning_effort)
        call = self._call(wish, Asked(messages, response_format, stop, tools, tool_choice), timeout)
        try:
            return await self._acomplete(call)
        except Misfit as misfit:
            return await self._acomplete(call.repair(misfit))

    def _call(self, wish: Choice, asked: Asked, timeout: float | None) -> Call:
        choice = settle((wish, *self._caller.levels), self._caller.override)
        request = request_of(choice, asked)
        check(asked.response_format)
        seconds = min(seconds_of(timeout, self._caller.request_timeout), self._caller.deadline.remaining)
        return Call(
            self._caller, request, Terms(choice.fallback or (), wish.left_open(choice)), asked.response_format, seconds
        )

    def _complete(self, call: Call) -> Reply:
        with contextlib.closing(call), self._caller.room.wait(self._caller.deadline) as wait:
            while True:
                try:
                    document = call.send().result(call.patience)
                except (Unavailable, Refused, TimeoutError) as error:
                    if reason := call.waits_for(error):
                        wait.pause(reason)
                        call.begin_again()
                    else:
                        time.sleep(call.pause_after(error))
                else:
                    return call.reply(document)

    async def _acomplete(self, call: Call) -> Reply:
        import asyncio  # an async stage has loaded it

        with contextlib.closing(call), self._caller.room.wait(self._caller.deadline) as wait:
            while True:
                try:
                    document = await asyncio.wait_for(asyncio.wrap_future(call.send()), call.patience)
                except (Unavailable, Refused, TimeoutError) as error:
                    if reason := call.waits_for(error):
                        await wait.apause(reason)
                        call.begin_again()
                    else:
                        await asyncio.sleep(call.pause_after(error))
                else:
                    return call.reply(document)
