"""One call of a stage on its way to the gateway: who asks, under which number, and what the answer means.

A call's number (`ordinal`) counts how often the stage has asked this very request before: calls made concurrently, in
whatever order, find their own replies again after a crash.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from pop_actors.actors.process_actor import Ref
from pop_actors.core.chat import ChatReply
from pop_actors.core.job_spec import LlmOverride
from pop_actors.core.messages import Chat, Withdraw
from pop_actors.errors import BUDGET_PAUSED, DISK_FULL, CallFailed, Refused, Unavailable
from pop_actors.runner.clockwork import Deadline
from pop_actors.runner.context import Fields
from pop_actors.runner.llm_choice import Choice
from pop_actors.runner.llm_request import no_json
from pop_actors.runner.room import Room
from pop_actors.runner.structured import Misfit, parsed, repair_of
from pop_actors.runner.writes import Writes
from pop_actors.storage.fault_points import reach

ASK_AGAIN_SECONDS = 0.1
GRACE_SECONDS = 2.0  # the gateway keeps the call's deadline itself, and knows better than "no answer" why
_WAITS_FOR: Mapping[str, Literal["disk", "budget"]] = {DISK_FULL: "disk", BUDGET_PAUSED: "budget"}
# These may have been billed: what was said once for that number stands in the journal, and is said again.
BILLED_CODES = frozenset({"bad_reply", "blocked", "truncated"})


@dataclass(frozen=True, slots=True)
class Reply:
    """A completion. `parsed` is the JSON value of a structured reply; `cost_usd` is None where the price is unknown.

    `tool_calls` are in OpenAI's form; an assistant's message may carry them back as they are.
    """

    content: str
    parsed: Any
    usage: Fields
    cost_usd: float | None
    provider: str
    model: str
    finish_reason: str
    replayed: bool = False
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    cached: bool = False


class Ordinals:
    """Numbers the calls of one stage, from 1, for each request on its own. Thread-safe.

    A call that failed gives its number back: asked again it is the same call, and finds the same reply after a crash.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[bytes, set[int]] = {}
        self._lowest: dict[bytes, int] = {}  # no number below is free: none is looked at twice

    def take(self, request: dict[str, Any]) -> tuple[bytes, int]:
        """The request's fingerprint and the lowest number that is free for it."""
        print_ = hashlib.sha256(orjson.dumps(request, option=orjson.OPT_SORT_KEYS)).digest()
        with self._lock:
            taken = self._taken.setdefault(print_, set())
            number = self._lowest.get(print_, 1)
            while number in taken:
                number += 1
            taken.add(number)
            self._lowest[print_] = number + 1
            return print_, number

    def give_back(self, ticket: tuple[bytes, int]) -> None:
        print_, number = ticket
        with self._lock:
            self._taken[print_].discard(number)
            self._lowest[print_] = min(self._lowest[print_], number)


@dataclass(frozen=True, slots=True)
class Purse:
    """Who pays for the calls, and how urgent they are: the pipeline, the seed's priority and budget (US dollars)."""

    pipeline: str = ""
    priority: int = 0
    budget_usd: float | None = None


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
    purse: Purse = Purse()
    writes: Writes = field(default_factory=Writes)
    ordinals: Ordinals = field(default_factory=Ordinals)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a call is bought, beside who pays: `fallback` and `configured` as a Chat's."""

    fallback: tuple[str, ...] = ()
    configured: tuple[str, ...] = ()


class Call:
    """One call on its way: the message that may be sent again, and what its answer means."""

    def __init__(
        self,
        caller: Caller,
        request: dict[str, Any],
        terms: Terms,
        response_format: Any,
        seconds: float,
    ) -> None:
        self._caller = caller
        self._terms = terms
        self._format = response_format
        try:
            self._ticket = caller.ordinals.take(request)
        except orjson.JSONEncodeError:
            raise no_json(request) from None
        self._seconds = seconds
        self._answer: Future[Any] | None = None
        self._is_settled = False  # its stage has the reply, or heard of a failure that stands in the journal
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
            caller.purse.pipeline,
            caller.purse.priority,
            caller.purse.budget_usd,
            terms.fallback,
            terms.configured,
            ask=os.urandom(8).hex(),
        )

    def begin_again(self) -> None:
        """Its time counts from now."""
        self._until = time.monotonic() + self._seconds

    def waits_for(self, error: Exception) -> Literal["disk", "budget"] | None:
        """What the call is to be sent again for: the gateway could not write it down, or may buy nothing more today."""
        if not isinstance(error, Refused) or self._caller.deadline.remaining <= 0:
            return None
        return _WAITS_FOR.get(error.code)

    @property
    def patience(self) -> float:
        """Seconds to wait for the answer; never beyond the stage's own time."""
        return max(0.0, min(self._until + GRACE_SECONDS, self._caller.deadline.moment) - time.monotonic())

    def send(self) -> Future[Any]:
        """Leaving where the run has ended."""
        reach("runner.before-call")
        with self._caller.writes.one():
            self._answer = answer = self._caller.gateway.request(self._message)
        reach("runner.asked")
        return answer

    def close(self) -> None:
        """Its stage goes on. Where it does so without an answer, what is still on its way is ended and the number is
        free: a reply that is here all the same is found by who asks again."""
        if self._is_settled:
            return
        answer = self._answer
        if answer is not None and (not answer.done() or answer.cancelled()):
            with contextlib.suppress(Unavailable):  # nobody is there to buy it, either
                self._caller.gateway.tell(Withdraw(self._message.job_id, self._message.ask))
        self._caller.ordinals.give_back(self._ticket)

    def pause_after(self, error: Exception) -> float:
        """Seconds until it is sent again. Raises where the error ends the call."""
        if self._caller.deadline.remaining <= 0:
            raise self._caller.deadline.over() from None
        if isinstance(error, Unavailable) and time.monotonic() < self._until:
            return ASK_AGAIN_SECONDS
        if isinstance(error, Refused):
            self._is_settled = _was_billed(error)
            raise CallFailed(error.code, error.message, error.details) from None
        raise CallFailed("timeout", f"no reply within {self._message.timeout:g} s") from None

    def reply(self, document: Any) -> Reply:
        """The reply a document stands for, booked. Misfit where it breaks the format asked for."""
        reach("runner.answered")
        self._is_settled = True
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
            self._parsed(reply),
            Fields(usage),
            reply.cost_usd,
            reply.provider,
            reply.model,
            reply.finish_reason,
            reply.replayed,
            reply.tool_calls,
            reply.cached,
        )

    def _parsed(self, reply: ChatReply) -> Any:
        if reply.tool_calls:
            return None  # what was asked for comes after the tools
        try:
            return parsed(reply.content, self._format)
        except Misfit as misfit:
            if reply.finish_reason != "length":
                raise
            # asked again, it would be cut off again
            message = f"the tokens ran out before the reply was whole, raise max_tokens: {misfit.message}"
            raise CallFailed(misfit.code, message, misfit.details) from None

    def repair(self, misfit: Misfit) -> Call:
        """The call that has the reply corrected, in what time is left. The misfit itself where there can be none."""
        request = repair_of(self._message.request, misfit)
        seconds = min(self._until - time.monotonic(), self._caller.deadline.remaining)
        if request is None or seconds <= 0:
            raise misfit
        return Call(self._caller, request, self._terms, self._format, seconds)


def _was_billed(failure: Refused) -> bool:
    return failure.code in BILLED_CODES or failure.details.get("billed") is True
