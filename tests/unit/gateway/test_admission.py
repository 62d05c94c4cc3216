"""One provider's admission as a whole, against a clock of our own: what goes when, and that nobody is left behind."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.admission import MOST_MODELS, UNSENT, Admission, Outcome, Pass
from pop_actors.core.circuit import PROBE_PATIENCE_SECONDS
from pop_actors.core.fair_queue import Ticket
from pop_actors.core.limits import PERIOD_SECONDS, Limits
from pop_actors.core.rate_news import Quota, RateNews
from pop_actors.core.token_guess import Tokens

Behaviour = Callable[[float, int], Outcome]
SIZE = Tokens(10.0, 10.0)
OK = Outcome("answered", SIZE)


def ticket(job: str = "a", model: str = "m", *, again: bool = False, tokens: Tokens = SIZE) -> Ticket:
    return Ticket(job, model, tokens, again)


@dataclass
class World:
    """A provider and its callers, in virtual time. Calls that fail are made again until they are answered.

    `answer(now, at_once)`: what a request that arrives then, as one of so many, comes to. `sent`: when, and for whom.
    """

    admission: Admission
    answer: Behaviour
    seconds: float = 0.2
    now: float = 0.0
    sent: list[tuple[float, Ticket]] = field(default_factory=list)
    most_at_once: int = 0
    done: list[tuple[float, str]] = field(default_factory=list)
    first_tries: int = 0
    _under_way: list[tuple[float, int, Pass, Outcome]] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def ask(self, call: Ticket) -> None:
        granted = self.admission.try_now(call, self.now)
        if granted is None:
            self.admission.ask(call)
        else:
            self._send(granted)

    def run(self, until: float) -> None:
        """Let time pass until everything is answered, or until then."""
        while self.now < until:
            passes, again = self.admission.admit(self.now)
            for granted in passes:
                self._send(granted)
            end = self._under_way[0][0] if self._under_way else float("inf")
            step = min(end, self.now + max(again, 1e-6), until)
            if not self._under_way and again == float("inf"):
                return
            self.now = step
            while self._under_way and self._under_way[0][0] <= self.now:
                _, _, granted, outcome = heapq.heappop(self._under_way)
                self._end(granted, outcome)

    def _send(self, granted: Pass) -> None:
        self.sent.append((self.now, granted.call))
        at_once = len(self._under_way) + 1
        self.most_at_once = max(self.most_at_once, at_once)
        entry = (self.now + self.seconds, next(self._number), granted, self.answer(self.now, at_once))
        heapq.heappush(self._under_way, entry)

    def _end(self, granted: Pass, outcome: Outcome) -> None:
        self.admission.end(granted, outcome, self.now)
        call = granted.call
        if outcome.verdict == "answered":
            self.done.append((self.now, call.job_id))
        else:
            self.ask(Ticket(call.job_id, call.model, call.tokens, again=True, priority=call.priority))

    def most_in_a_minute(self, of: Callable[[Ticket], float] = lambda _: 1.0) -> float:
        times = [(at, of(call)) for at, call in self.sent]
        return max(
            (sum(amount for at, amount in times if start <= at < start + PERIOD_SECONDS) for start, _ in times),
            default=0,
        )


def world(answer: Behaviour = lambda _now, _most: OK, limits: Limits | None = None, **models: Limits) -> World:
    return World(Admission(limits or Limits(), models, lambda: 0.0), answer)


limits = st.builds(
    Limits,
    requests_per_minute=st.none() | st.integers(1, 60),
    tokens_per_minute=st.none() | st.integers(50, 2000),
    max_concurrency=st.none() | st.integers(1, 10),
    input_tokens_per_minute=st.none() | st.integers(50, 2000),
)
calls = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from("mn"), st.floats(0, 30), st.integers(1, 50)),
    min_size=1, max_size=40,
)  # fmt: skip


@given(limits, limits, calls, st.integers(0, 2**32))
def test_no_limit_is_ever_exceeded_and_no_call_is_lost(
    shared: Limits, own: Limits, calls: list[tuple[str, str, float, int]], seed: int
) -> None:
    """Any limits of provider and model, any calls, a provider that fails in every way it can and then recovers."""
    luck = random.Random(seed)

    def answer(now: float, _at_once: int) -> Outcome:
        if now > 120 or luck.random() < 0.6:
            return OK
        wish = luck.choice([None, None, 1.0, 20.0])
        return Outcome(luck.choice(["failed", "refused", "overloaded", "timeout"]), Tokens(0, 0), wish)

    here = world(answer, shared, m=own)
    for job, model, gap, size in calls:
        here.run(here.now + gap)
        here.ask(ticket(job, model, tokens=Tokens(size, 0.0)))
    here.run(here.now + 7 * 3600.0)
    assert len(here.done) == len(calls)
    if shared.max_concurrency:
        assert here.most_at_once <= shared.max_concurrency
    if shared.requests_per_minute:
        assert here.most_in_a_minute() <= shared.requests_per_minute
    if own.requests_per_minute:
        assert here.most_in_a_minute(lambda call: call.model == "m") <= own.requests_per_minute


@given(st.integers(2, 6), st.integers(1, 4), st.integers(0, 2**32))
def test_jobs_with_equal_work_end_within_twice_the_time_of_each_other(jobs: int, places: int, seed: int) -> None:
    """Answers that take differently long and calls asked in any order: the slowest is done at most twice as late."""
    luck = random.Random(seed)
    here = world(limits=Limits(max_concurrency=places))
    asks = [f"job-{number}" for number in range(jobs) for _ in range(20)]
    luck.shuffle(asks)
    for job in asks:
        here.seconds = luck.uniform(0.1, 0.4)
        here.ask(ticket(job))
    here.run(3600.0)
    ends = {job: at for at, job in here.done}
    assert len(here.done) == 20 * jobs
    assert max(ends.values()) <= 2 * min(ends.values())


def test_a_small_call_never_overtakes_a_large_one_of_its_model() -> None:
    """The first in turn waits for its tokens, and all behind it wait with it: nobody starves for being large."""
    here = world(limits=Limits(tokens_per_minute=100))
    here.ask(ticket("first", tokens=Tokens(50, 0)))
    here.ask(ticket("large", tokens=Tokens(100, 0)))
    for _ in range(20):
        here.ask(ticket("small", tokens=Tokens(5, 0)))
    here.run(600.0)
    assert [call.job_id for _, call in here.sent[:3]] == ["first", "large", "small"]


def test_a_model_that_may_not_be_asked_holds_up_no_other() -> None:
    """Neither its limit nor its circuit; calls to the other model pass."""
    here = world(slow=Limits(requests_per_minute=1))
    for _ in range(5):
        here.ask(ticket("a", "slow"))
    for _ in range(5):
        here.ask(ticket("a", "quick"))
    here.run(10.0)
    assert Counter(call.model for _, call in here.sent) == {"slow": 1, "quick": 5}


def outage(until: float, **how: object) -> Behaviour:
    verdict = how.pop("verdict", "failed")
    return lambda now, _most: Outcome(verdict, Tokens(0, 0), **how) if now < until else OK  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "wish"), [("failed", None), ("overloaded", None), ("refused", 5.0), ("timeout", None)]
)
def test_an_outage_does_not_multiply_traffic(verdict: str, wish: float | None) -> None:
    """500 calls meet five minutes of it: few requests are made for nothing, and every call is answered soon after."""
    here = world(outage(300.0, verdict=verdict, retry_after=wish))
    for number in range(500):
        here.ask(ticket(f"job-{number % 50}"))
    here.run(3600.0)
    wasted = sum(at < 300.0 for at, _ in here.sent)
    assert len(here.done) == 500
    assert wasted <= 500 + 0.2 * 500
    assert here.done[-1][0] < 300.0 + 31.0 + 60.0


def test_retry_after_is_kept_by_all_and_one_goes_first() -> None:
    """Nobody is sent while it lasts; then one alone, and after its answer the others, twice as many each round."""
    here = world(outage(0.1, verdict="refused", retry_after=10.0))
    for _ in range(100):
        here.ask(ticket())
    here.run(60.0)
    later = Counter(round(at, 3) for at, _ in here.sent[100:])
    times = sorted(later)
    assert times[0] == pytest.approx(10.2)
    assert [later[at] for at in times[:5]] == [1, 1, 2, 4, 8]
    assert len(here.done) == 100


def test_a_provider_that_takes_few_at_once_is_not_overrun() -> None:
    """Beyond eight it refuses, without a word of how long: after a while hardly anything is refused."""
    here = world(lambda _now, at_once: OK if at_once <= 8 else Outcome("refused", Tokens(0, 0)))
    for number in range(2000):
        here.ask(ticket(f"job-{number % 10}"))
    here.run(3600.0)
    assert len(here.done) == 2000
    late = [at for at, _ in here.sent if at > here.now / 2]
    answered = [at for at, _ in here.done if at > here.now / 2]
    assert len(late) <= 1.25 * len(answered)


def test_a_probe_that_is_never_answered_does_not_keep_the_next_from_going() -> None:
    """Also where the model takes one at a time, as it does just after an outage, and that one is the silent probe."""
    admission = Admission(Limits(), {}, lambda: 0.0)

    def goes(now: float) -> Pass:
        granted = admission.try_now(ticket(), now)
        assert granted is not None
        return granted

    def fail_until_open(now: float) -> None:
        while not admission.model("m").circuit.failing:
            admission.end(goes(now), Outcome("failed"), now)

    fail_until_open(0.0)
    admission.end(goes(2.0), OK, 2.0)  # the outage is over: one at a time
    fail_until_open(3.0)
    silent = goes(5.0)
    assert admission.wait(ticket(), 5.0).seconds == PROBE_PATIENCE_SECONDS
    later = 5.0 + PROBE_PATIENCE_SECONDS
    admission.end(goes(later), OK, later)
    assert admission.model("m").circuit.state == "closed"
    admission.end(silent, Outcome("unknown"), later)


def test_learned_limits_hold_back_and_end() -> None:
    """The provider says it has nothing left for three seconds: nobody goes until then."""
    news = RateNews({"requests": Quota(0, 100, 3.0)})
    here = world(lambda now, _most: Outcome("answered", SIZE, None, news) if now < 1 else OK)
    here.ask(ticket())
    here.run(0.5)
    here.ask(ticket())
    here.run(60.0)
    assert [at for at, _ in here.sent] == [0.0, pytest.approx(3.0)]


def test_models_at_rest_are_forgotten_when_there_are_too_many() -> None:
    """A task that names a new one with each call fills no memory; one under way and one with limits are kept."""
    admission = Admission(Limits(), {"set": Limits(max_concurrency=1)}, lambda: 0.0)
    kept = [admission.try_now(ticket(model=name), 0.0) for name in ("busy", "set")]
    admission.end(kept[1], OK, 0.0)  # type: ignore[arg-type]
    models = [admission.model("busy"), admission.model("set")]
    for number in range(3 * MOST_MODELS):
        granted = admission.try_now(ticket(model=f"m{number}"), 0.0)
        admission.end(granted, OK, 0.0)  # type: ignore[arg-type]
    assert len(admission._models) <= MOST_MODELS
    assert [admission.model("busy"), admission.model("set")] == models


def test_what_was_cancelled_or_never_sent_leaves_no_trace() -> None:
    """Its place, its tokens and its turn are free again."""
    admission = Admission(Limits(tokens_per_minute=100, max_concurrency=1, requests_per_day=1), {}, lambda: 0.0)
    for _ in range(10):
        granted = admission.try_now(ticket(tokens=Tokens(100, 0)), 0.0)
        assert granted is not None
        admission.end(granted, UNSENT, 0.0)
    assert admission.budget.left(0.0) == pytest.approx(10.0)
    waits = ticket()
    admission.ask(waits)
    assert admission.withdraw(waits)
    assert admission.waiting == 0
