"""Who of the calls that wait for one provider may go now: in fair turns, within all limits of provider and model.

The middle of the gateway's lane, pure: it is told the time, and says who goes and when to look again. Within a model
the first in turn is never overtaken by a smaller request; calls to a model that may go pass those to one that may not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pop_actors.core.adaptive_concurrency import AdaptiveConcurrency
from pop_actors.core.circuit import Circuit, Verdict
from pop_actors.core.expected import Expected
from pop_actors.core.fair_queue import FairQueue, Ticket
from pop_actors.core.learned_limits import LearnedLimits, Mark
from pop_actors.core.limits import Limits, Permit, RateLimiter, Wait
from pop_actors.core.rate_news import RateNews
from pop_actors.core.retries import RetryBudget
from pop_actors.core.token_guess import Tokens

MOST_MODELS = 1000  # a task may name any; beyond that, what is known of those at rest is forgotten


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended. `tokens` it used, None where nobody knows; `retry_after` (s) and `news`: the provider's."""

    verdict: Verdict
    tokens: Tokens | None = None
    retry_after: float | None = None
    news: RateNews | None = None


UNSENT = Outcome("unsent", Tokens(0.0, 0.0))


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """Leave to make one request; given back when it has ended."""

    call: Ticket
    at: float
    probe: bool
    under_way: int
    shared: Permit
    own: Permit
    mark: Mark


class Model:
    """One model's own bounds: its circuit, its limits as set and as learned, and how many it takes at once."""

    def __init__(self, limits: Limits, luck: Callable[[], float]) -> None:
        self.circuit = Circuit(luck)
        self.limiter = RateLimiter(limits)
        self.concurrency = AdaptiveConcurrency()
        self.learned = LearnedLimits()

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, and nothing holds anybody back but what was set."""
        return not self.concurrency.in_flight and self.circuit.state == "closed" and self.limiter.limits == Limits()

    def wait(self, now: float, tokens: Tokens) -> Wait:
        """Until a request of so many tokens may go to it."""
        closed = self.circuit.wait(now)
        if closed.seconds > 0:
            return closed
        # a probe needs no place: one that is never answered must not keep the next from going
        if not self.concurrency.has_room and self.circuit.state == "closed":
            return Wait(math.inf, f"a place at the model, which takes {self.concurrency.allowed:g} at once now")
        return max(self.limiter.wait(now, tokens), self.learned.wait(now, tokens), key=_seconds)

    def end(self, gone: Pass, outcome: Outcome, now: float) -> None:
        verdict = outcome.verdict
        if verdict in {"refused", "overloaded"}:
            self.concurrency.refused(gone.at, now, gone.under_way)
        elif verdict == "answered":
            self.concurrency.answered(gone.at)
        self.concurrency.leave()
        self.limiter.give_back(gone.own, now, outcome.tokens, sent=verdict != "unsent")
        if outcome.news is not None:
            self.learned.hear(outcome.news, gone.mark)
        was_closed = self.circuit.state == "closed"
        self.circuit.ended(verdict, probe=gone.probe, sent_at=gone.at, now=now, retry_after=outcome.retry_after)
        if not was_closed and self.circuit.state == "closed":
            self.concurrency.restart()


class Admission:
    """One provider's. `ask` or `try_now`, then `end` for each pass; `admit` after whatever may have made room."""

    def __init__(self, limits: Limits, models: Mapping[str, Limits], luck: Callable[[], float]) -> None:
        self.shared = RateLimiter(limits)
        self.budget = RetryBudget()
        self.expected = Expected()
        self._queue = FairQueue()
        self._luck = luck
        self.limits_of_models = dict(models)
        self._models: dict[str, Model] = {}

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def model(self, name: str) -> Model:
        known = self._models.get(name)
        if known is None:
            if len(self._models) >= MOST_MODELS:
                self._forget_idle_models()
            limits = self.limits_of_models.get(name, Limits())
            known = self._models[name] = Model(limits, self._luck)
        return known

    def try_now(self, call: Ticket, now: float) -> Pass | None:
        """A pass where nobody waits and nothing stands in the way."""
        if self._queue or self.wait(call, now).seconds > 0:
            return None
        self._queue.pass_by(call)
        return self._take(call, now)

    def ask(self, call: Ticket) -> None:
        """Line up."""
        self._queue.add(call)

    def withdraw(self, call: Ticket) -> bool:
        """It does not wait any more; whether it did."""
        return self._queue.remove(call)

    def wait(self, call: Ticket, now: float) -> Wait:
        """What stands in its way but the turns of others."""
        budget = self.budget.wait(now) if call.again else 0.0
        if budget > 0:
            return Wait(budget, "the retry budget: too many retries failed of late")
        limited = self.model(call.model).wait(now, call.tokens)
        if limited.seconds <= 0:
            limited = self.shared.wait(now, call.tokens)
        if limited.seconds <= 0 and (held_back := self._held_back(call, now)) > 0:
            limited = Wait(held_back, "jobs whose journals are being opened")
        return limited

    def admit(self, now: float) -> tuple[list[Pass], float]:
        """Let through whoever may go, and in how many seconds to look again (inf: when something ends)."""
        passes: list[Pass] = []
        closed: set[str] = set()  # models whose first in turn has to wait, and so all behind it
        soonest = math.inf
        for heads in self._queue.turns():
            for call in heads:
                if call.model in closed:
                    continue
                wait = self.budget.wait(now) if call.again else 0.0
                if wait > 0:
                    soonest = min(soonest, wait)
                    continue
                own = self.model(call.model).wait(now, call.tokens).seconds
                if own > 0:
                    closed.add(call.model)
                    soonest = min(soonest, own)
                    continue
                shared = self.shared.wait(now, call.tokens).seconds
                if shared > 0:
                    return passes, min(soonest, shared)
                held_back = self._held_back(call, now)
                if held_back > 0:
                    soonest = min(soonest, held_back)
                    continue
                self._queue.take(call)
                passes.append(self._take(call, now))
                break
            if all(model in closed for model, _ in self._queue.waiting):
                break
        return passes, soonest

    def end(self, gone: Pass, outcome: Outcome, now: float) -> None:
        """Its request has ended: what it reserved is corrected, and what it tells of the model is learned."""
        call = gone.call
        self.shared.give_back(gone.shared, now, outcome.tokens, sent=outcome.verdict != "unsent")
        self.model(call.model).end(gone, outcome, now)
        if call.again and outcome.verdict in {"answered", "unsent"}:
            self.budget.worked(now)
        elif outcome.verdict == "unsent":
            self.budget.not_made(now)
        # what came to nothing is no turn had, whatever stays reserved for it
        self._queue.end(call, outcome.tokens or Tokens(0.0, 0.0))

    def _held_back(self, call: Ticket, now: float) -> float:
        """Seconds for which it would take what is kept for jobs that are on their way."""
        kept, seconds = self.expected.kept(call.job_id, self._queue.under_way, now)
        if not kept:
            return 0.0
        limiters = (self.shared, self.model(call.model).limiter)
        return min(seconds, max(limiter.wait(now, call.tokens, kept).seconds for limiter in limiters))

    def _forget_idle_models(self) -> None:
        self._models = {name: model for name, model in self._models.items() if not model.is_idle}

    def _take(self, call: Ticket, now: float) -> Pass:
        model = self.model(call.model)
        if call.again:
            self.budget.retry(now)
        else:
            self.budget.first_try(now)
        under_way = model.concurrency.take(now)
        probe = model.circuit.take(now)
        own = model.limiter.take(now, call.tokens)
        shared = self.shared.take(now, call.tokens)
        return Pass(call, now, probe, under_way, shared, own, model.learned.take(now, call.tokens))


def _seconds(wait: Wait) -> float:
    return wait.seconds
