"""One provider as the gateway keeps it: the object that calls it, the lane that leads there, an account per model."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple

from pop_actors.core.admission import UNSENT, Admission, Outcome, Pass
from pop_actors.core.chat import ChatRequest
from pop_actors.core.circuit import Verdict
from pop_actors.core.fair_queue import Ticket
from pop_actors.core.limits import KINDS_OF_LIMIT, Limits
from pop_actors.core.observations import CircuitChanged, Feed, LimitSet, ModelKnown
from pop_actors.core.token_guess import Tokens
from pop_actors.errors import CallFailed, Refused
from pop_actors.providers.keys import KeyedProvider
from pop_actors.providers.types import AttemptFailed, Provider, ProviderReply
from pop_actors.system.gateway.account import Account, limits_document
from pop_actors.system.gateway.lane import CircuitOpen, Lane, WaitingRoom
from pop_actors.system.gateway.recall import Asked

MOST_ACCOUNTS = 1000  # a job may name any model; beyond that, those at rest that were used longest ago are forgotten

_VERDICTS: Mapping[str, Verdict] = {
    "rate_limited": "refused",
    "overloaded": "overloaded",
    "server": "failed",
    "connect": "failed",
    "disconnected": "failed",
    "bad_reply": "failed",  # rubbish to one is drowned by what the others get; to everybody, it is an outage
    "timeout": "timeout",
}


Check = Callable[[ChatRequest, str, Container[str]], object]


class Turn(NamedTuple):
    """What a call asks of its desk. `size`: bytes of the request; `deadline` in the loop's time; `again`: a retry;
    `patient`: it waits while the circuit is open (it has no fallback to take)."""

    job_id: str
    model: str
    size: int
    max_tokens: int | None
    deadline: float
    priority: int = 0
    again: bool = False
    patient: bool = True


class Desk:
    """Used by the gateway's loop only. The provider is opened by the first call that needs it."""

    def __init__(
        self,
        name: str,
        kind: str | None,
        limits: Limits,
        room: WaitingRoom,
        opener: Callable[[], Provider],
        feed: Feed,
        *,
        models: Mapping[str, Limits] | None = None,
        luck: Callable[[], float] = random.random,
        check: Check = lambda _request, _model, _configured: None,
    ) -> None:
        """`check(request, model, configured)` raises AttemptFailed for what is known to be refused; `configured` as a
        Chat's."""
        self.name = name
        self.check = check
        self.lane = Lane(Admission(limits, models or {}, luck), room, self._circuit_changed)
        self.kind = kind
        self._opener = opener
        self._feed = feed
        self._provider: Provider | None = None
        self._accounts: dict[str, Account] = {}
        self._sizes: dict[Pass, int] = {}
        for limit in KINDS_OF_LIMIT:
            self._tell(limit)

    @property
    def limits(self) -> Limits:
        """The provider's own, as set."""
        return self.lane.admission.shared.limits

    def provider(self) -> Provider:
        """CallFailed unknown_provider or no_key where there is none."""
        if self._provider is None:
            self._provider = self._opener()
        return self._provider

    def account(self, model: str) -> Account:
        account = self._accounts.pop(model, None)  # back to the end: they stand in the order of their last use
        if account is None:
            if len(self._accounts) >= MOST_ACCOUNTS:
                self._forget_an_account()
            account = Account(self.name, model)
            self._feed.publish(ModelKnown(self.name, model))
        self._accounts[model] = account
        return account

    def expect(self, job_id: str) -> Callable[[], None]:
        """As the lane's."""
        return self.lane.expect(job_id)

    async def enter(self, turn: Turn) -> Pass:
        """Wait until a request may be made.

        AttemptFailed timeout where the deadline comes first, circuit_open where the circuit is open and the call is not
        patient; CallFailed queue_full, and bad_request where its prompt alone is over a limit.
        """
        tokens = self._guess(turn)
        ticket = Ticket(turn.job_id, turn.model, tokens, turn.again, turn.priority)
        try:
            granted = await self.lane.enter(ticket, turn.deadline, patient=turn.patient)
        except TimeoutError:
            why = self.lane.hindrance(ticket).why or "its turn among the other calls"
            raise AttemptFailed("timeout", f"the deadline came while the call waited for {why}", "permanent") from None
        except CircuitOpen:
            raise AttemptFailed("circuit_open", "its circuit is open after failures", "never_sent") from None
        self._sizes[granted] = turn.size
        return granted

    def leave(self, granted: Pass, result: ProviderReply | AttemptFailed | None) -> None:
        """The request ended so; None: nobody knows how, since it was cancelled. Corrects what was reserved, and learns
        from it. Every pass comes back, here or through `give_back`."""
        usage = None if result is None else result.usage
        if usage is not None:
            size = self._sizes[granted]
            self.account(granted.call.model).guess.learn(size, usage.input_tokens, usage.output_tokens)
        self._end(granted, outcome_of(result))

    @property
    def reach(self) -> float:
        """Seconds back to which its limits look."""
        admission = self.lane.admission
        return max(limits.reach for limits in (self.limits, *admission.limits_of_models.values()))

    def recall(self, asked: Asked, at: float) -> None:
        """What was asked before the gateway started; `at` in the loop's time."""
        admission = self.lane.admission
        for limiter in (admission.shared, admission.model(asked.model).limiter):
            limiter.recall(at, asked.requests, asked.tokens)

    def give_back(self, granted: Pass) -> None:
        """No request was made after all."""
        self._end(granted, UNSENT)

    def change(self, changes: Mapping[str, Any], model: str | None = None) -> None:
        """Set some limits, of the provider or of one of its models. Refused bad_limit for another name or value; then
        nothing is changed."""
        for name, value in changes.items():
            if name not in KINDS_OF_LIMIT:
                raise Refused("bad_limit", f"no limit {name!r}; there are {', '.join(KINDS_OF_LIMIT)}")
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise Refused("bad_limit", f"{name} = {value!r}: a whole number from 1, or null for no limit")
        known = self.limits if model is None else self.limits_of(model)
        self.lane.change(Limits(**{name: changes.get(name, getattr(known, name)) for name in KINDS_OF_LIMIT}), model)
        if model is None:
            for name in changes:
                self._tell(name)

    def limits_of(self, model: str) -> Limits:
        """A model's own limits, as set."""
        return self.lane.admission.model(model).limiter.limits

    def view(self, model: str | None) -> list[dict[str, Any]]:
        """An object per model used; for `model` where none was."""
        used = self.lane.admission.shared.used_of(self.lane.now)
        shared = {
            "kind": self.kind,
            "limits": limits_document(self.limits),
            "used": {
                "requestsPerMinute": int(used["requests_per_minute"]),
                "tokensPerMinute": round(used["tokens_per_minute"]),
                "inputTokensPerMinute": round(used["input_tokens_per_minute"]),
                "outputTokensPerMinute": round(used["output_tokens_per_minute"]),
                "requestsPerDay": int(used["requests_per_day"]),
                "concurrency": self.lane.in_flight,
            },
            "retriesLeft": int(self.lane.admission.budget.left(self.lane.now)),
        }
        accounts = sorted(self._accounts.items())
        documents = [account.document() | self._view_of(name) for name, account in accounts]
        if not documents:
            documents = [Account(self.name, model or "").document() | self._view_of(model or "") | {"model": model}]
        return [document | shared for document in documents]

    async def close(self) -> None:
        self.lane.close()
        if self._provider is not None:
            await self._provider.close()

    def _forget_an_account(self) -> None:
        for model, account in self._accounts.items():
            if not (account.waiting or account.in_flight):
                del self._accounts[model]
                return

    def _guess(self, turn: Turn) -> Tokens:
        """Tokens to reserve for a request."""
        guess = self.account(turn.model).guess
        prompt = guess.input(turn.size)
        for limiter in (self.lane.admission.shared, self.lane.admission.model(turn.model).limiter):
            name = limiter.too_small(prompt)
            if name is not None:
                raise CallFailed(
                    "bad_request",
                    f"the prompt has about {prompt:.0f} tokens and {self.name}'s {name} is "
                    f"{getattr(limiter.limits, name):g}; shorten it or raise the limit",
                )
        return guess.tokens(turn.size, turn.max_tokens)

    def _end(self, granted: Pass, outcome: Outcome) -> None:
        del self._sizes[granted]
        self.lane.leave(granted, outcome)

    def _view_of(self, name: str) -> dict[str, Any]:
        """What a model has of its own: limits as set and as learned, and whether it may be asked now."""
        model = self.lane.admission.model(name)
        own = model.circuit.wait(self.lane.now)
        return {
            "modelLimits": limits_document(model.limiter.limits),
            "learned": {
                "maxConcurrency": None if model.concurrency.allowed == math.inf else int(model.concurrency.allowed),
                **{f"{_camel(kind)}PerPeriod": limit for kind, limit in model.learned.limits().items()},
            },
            "circuit": model.circuit.state.replace("_", "-") if model.circuit.failing else "closed",
            "pausedSeconds": round(own.seconds, 3),
            "keys": self._keys(name),
        }

    def _keys(self, model: str) -> list[dict[str, Any]]:
        """How each key stands for the model; none where the provider needs none, or has none."""
        try:
            provider = self.provider()
        except CallFailed:
            return []
        return [key.document() for key in provider.keys(model)] if isinstance(provider, KeyedProvider) else []

    def _circuit_changed(self, model: str, is_open: bool) -> None:
        self._feed.publish(CircuitChanged(self.name, model, is_open))

    def _tell(self, limit: str) -> None:
        self._feed.publish(LimitSet(self.name, limit, getattr(self.limits, limit)))


def limits_in(table: object) -> Limits:
    """The limits a table of the settings has."""
    return Limits(**{name: getattr(table, name) for name in KINDS_OF_LIMIT})


def outcome_of(result: ProviderReply | AttemptFailed | None) -> Outcome:
    """What a request's end says to admission. What is ambiguous may have been worked on, so its reservation stands."""
    if result is None:
        return Outcome("unknown")
    tokens = None if result.usage is None else Tokens(result.usage.input_tokens, result.usage.output_tokens)
    if isinstance(result, ProviderReply):
        return Outcome("answered", tokens, None, result.rate_news)
    if tokens is None and result.fate != "ambiguous":
        tokens = Tokens(0.0, 0.0)
    return Outcome(_verdict(result), tokens, result.retry_after, result.rate_news)


def _verdict(failure: AttemptFailed) -> Verdict:
    if failure.code == "connect" and failure.fate == "permanent":
        return (
            "unknown"  # an address or a certificate of ours is wrong: that is said at once, and waiting cures nothing
        )
    return _VERDICTS.get(failure.code, "answered")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
