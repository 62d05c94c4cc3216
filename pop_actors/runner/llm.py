"""`ctx.llm`: a stage's calls to the gateway.

Settles provider and model, numbers calls so that replays line up, and holds structured replies against their schema.

A call's number (`ordinal`) counts how often the stage has asked this very request before: calls made concurrently, in
whatever order, find their own replies again after a crash.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from pydantic import ValidationError

from pop_actors.actors.process_actor import Ref
from pop_actors.core.chat import ChatReply, ChatRequest
from pop_actors.core.job_spec import LlmOverride
from pop_actors.core.messages import Chat
from pop_actors.errors import DISK_FULL, CallFailed, Refused, Unavailable
from pop_actors.runner.clockwork import Deadline
from pop_actors.runner.context import Fields
from pop_actors.runner.room import Room
from pop_actors.storage.fault_points import reach

ASK_AGAIN_SECONDS = 0.1
GRACE_SECONDS = 2.0  # the gateway keeps the call's deadline itself, and knows better than "no answer" why
# These may have been billed: what was said once for that number stands in the journal, and is said again.
BILLED_CODES = frozenset({"bad_reply", "blocked", "truncated"})
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)

ResponseFormat = Literal["text", "json"] | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion. `parsed` is the JSON value of a structured reply; `cost_usd` is None where the price is unknown."""

    content: str
    parsed: Any
    usage: Fields
    cost_usd: float | None
    provider: str
    model: str
    finish_reason: str
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What one level (call, task config, pipeline) wishes for."""

    provider: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None


def choice_of_config(config: Mapping[str, Any]) -> Choice:
    """What a task's config says of calls; what is not of the right type is left out."""
    llm = config.get("llm")
    table = {**llm, **config} if isinstance(llm, Mapping) else config
    provider, model = table.get("provider"), table.get("model")
    temperature = table.get("temperature")
    max_tokens = table.get("maxTokens", table.get("max_tokens"))
    return Choice(
        provider if isinstance(provider, str) else None,
        model if isinstance(model, str) else None,
        float(temperature) if isinstance(temperature, int | float) and not isinstance(temperature, bool) else None,
        max_tokens if isinstance(max_tokens, int) and not isinstance(max_tokens, bool) else None,
    )


def settle(levels: Sequence[Choice], override: LlmOverride) -> Choice:
    """One choice out of the levels, the strongest first; the override beats them all.

    A model counts only for the provider its own level means: a wish for another provider does not take along a weaker
    level's model.
    """
    strongest = Choice(override.provider, override.model)
    ranked = [strongest, *levels]
    provider = _first(level.provider for level in ranked)
    model = None
    for index, level in enumerate(ranked):
        meant = _first(weaker.provider for weaker in ranked[index:])
        if level.model is not None and (level is strongest or meant in {provider, None}):
            model = level.model
            break
    return Choice(
        provider,
        model,
        _first(level.temperature for level in levels),
        _first(level.max_tokens for level in levels),
    )


def _first(values: Any) -> Any:
    return next((value for value in values if value is not None), None)


class Ordinals:
    """Numbers the calls of one stage, from 1, for each request on its own. Thread-safe.

    A call that failed gives its number back: asked again it is the same call, and finds the same reply after a crash.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[bytes, set[int]] = {}

    def take(self, request: dict[str, Any]) -> tuple[bytes, int]:
        """The request's fingerprint and the lowest number that is free for it."""
        print_ = hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).digest()
        with self._lock:
            taken = self._taken.setdefault(print_, set())
            number = next(n for n in range(1, len(taken) + 2) if n not in taken)
            taken.add(number)
            return print_, number

    def give_back(self, ticket: tuple[bytes, int]) -> None:
        with self._lock:
            self._taken[ticket[0]].discard(ticket[1])


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: one stage of one attempt. `paid` gets each reply's provider, model, tokens and cost."""

    gateway: Ref
    job_id: str
    run_id: str
    epoch: int
    task: str
    attempt: int
    stage: str
    round: int
    deadline: Deadline
    request_timeout: float
    paid: list[dict[str, Any]]
    levels: tuple[Choice, ...]
    override: LlmOverride
    room: Room
    ordinals: Ordinals = field(default_factory=Ordinals)


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
    ) -> Reply:
        """One completion. CallFailed where there is none, or where a structured reply is not what was asked for."""
        wish = Choice(provider or self._provider, model, temperature, max_tokens)
        call = _Call(self._caller, wish, messages, response_format, stop, timeout)
        with self._caller.room.wait(self._caller.deadline) as wait:
            while True:
                try:
                    return call.reply(call.send().result(call.patience))
                except (Unavailable, Refused, TimeoutError) as error:
                    if call.waits_for_room(error):
                        wait.pause()
                        call.begin_again()
                    else:
                        time.sleep(call.pause_after(error))

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
    ) -> Reply:
        """`chat` for async stages."""
        import asyncio  # an async stage has loaded it

        wish = Choice(provider or self._provider, model, temperature, max_tokens)
        call = _Call(self._caller, wish, messages, response_format, stop, timeout)
        with self._caller.room.wait(self._caller.deadline) as wait:
            while True:
                try:
                    document = await asyncio.wait_for(asyncio.wrap_future(call.send()), call.patience)
                    return call.reply(document)
                except (Unavailable, Refused, TimeoutError) as error:
                    if call.waits_for_room(error):
                        await wait.apause()
                        call.begin_again()
                    else:
                        await asyncio.sleep(call.pause_after(error))


class _Call:
    """One call on its way: the message that may be sent again, and what its answer means."""

    def __init__(
        self, caller: Caller, wish: Choice, messages: Any, response_format: Any, stop: Any, timeout: float | None
    ) -> None:
        self._caller = caller
        self._format = response_format
        request = _request(settle((wish, *caller.levels), caller.override), messages, response_format, stop)
        self._ticket = caller.ordinals.take(request)
        seconds = min(timeout or caller.request_timeout, caller.deadline.remaining)
        self._seconds = seconds
        self.begin_again()
        self._message = Chat(
            caller.job_id,
            caller.run_id,
            caller.epoch,
            caller.task,
            caller.attempt,
            caller.stage,
            caller.round,
            self._ticket[1],
            request,
            seconds,
        )

    def begin_again(self) -> None:
        """Its time counts from now."""
        self._until = time.monotonic() + self._seconds

    def waits_for_room(self, error: Exception) -> bool:
        """Whether the gateway could not write it down, so that it is to be sent again when the disk has room."""
        return isinstance(error, Refused) and error.code == DISK_FULL and self._caller.deadline.remaining > 0

    @property
    def patience(self) -> float:
        """Seconds to wait for the answer; never beyond the stage's own time."""
        return max(0.0, min(self._until + GRACE_SECONDS, self._caller.deadline.moment) - time.monotonic())

    def send(self) -> Future[Any]:
        reach("runner.before-call")
        answer = self._caller.gateway.request(self._message)
        reach("runner.asked")
        return answer

    def pause_after(self, error: Exception) -> float:
        """Seconds until it is sent again. Raises where the error ends the call."""
        if self._caller.deadline.remaining <= 0:
            raise self._caller.deadline.over() from None
        if isinstance(error, Unavailable) and time.monotonic() < self._until:
            return ASK_AGAIN_SECONDS
        if not (isinstance(error, Refused) and error.code in BILLED_CODES):
            self._caller.ordinals.give_back(self._ticket)
        if isinstance(error, Refused):
            raise CallFailed(error.code, error.message, error.details) from None
        raise CallFailed("timeout", f"no reply within {self._message.timeout:g} s") from None

    def reply(self, document: Any) -> Reply:
        """The reply a document stands for, booked. CallFailed bad_reply where it breaks the format asked for."""
        reach("runner.answered")
        reply = ChatReply.model_validate(document)
        usage = reply.usage.model_dump()
        self._caller.paid.append(
            {
                "stage": self._caller.stage,
                "round": self._caller.round,
                "provider": reply.provider,
                "model": reply.model,
                "usage": reply.usage.model_dump(by_alias=True),
                "costUsd": reply.cost_usd,
            }
        )
        return Reply(
            reply.content,
            _parsed(reply.content, self._format),
            Fields(usage),
            reply.cost_usd,
            reply.provider,
            reply.model,
            reply.finish_reason,
            reply.replayed,
        )


def _request(choice: Choice, messages: Any, response_format: Any, stop: Any) -> dict[str, Any]:
    try:
        request = ChatRequest(
            messages=[{"role": "user", "content": messages}] if isinstance(messages, str) else messages,
            provider=choice.provider,
            model=choice.model,
            temperature=choice.temperature,
            max_tokens=choice.max_tokens,
            response_format=response_format,
            stop=[stop] if isinstance(stop, str) else stop,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise CallFailed("bad_request", f"chat: {where}: {fault['msg']}") from None
    document = request.model_dump(mode="json", by_alias=True)
    return {key: value for key, value in document.items() if value is not None}


def _parsed(content: str, response_format: Any) -> Any:
    if response_format == "text":
        return None
    fenced = _FENCED.fullmatch(content)
    try:
        value = orjson.loads(fenced[1] if fenced else content)
    except orjson.JSONDecodeError as error:
        raise _bad_reply(f"the reply is not JSON: {error}", content) from None
    if isinstance(response_format, Mapping):
        from pop_actors.runner.json_schema import faults  # jsonschema takes 40 ms to import; most calls need none

        wrong = faults(response_format, value)
        if wrong:
            raise _bad_reply(f"the reply breaks its schema: {'; '.join(wrong)}", content)
    return value


def _bad_reply(message: str, content: str) -> CallFailed:
    return CallFailed("bad_reply", message, {"content": content[:2000]})
