"""Limits hold in every window of a minute, whatever is asked for and whenever."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.limits import (
    BURST_SHARE,
    PERIOD_SECONDS,
    GiveUp,
    Limits,
    Permit,
    RateLimiter,
    Retry,
    TokenGuess,
    Window,
    after_failure,
)

gaps = st.lists(st.floats(0, 20, allow_nan=False), min_size=1, max_size=150)


def let_through(limiter: RateLimiter, gaps: list[float], tokens: list[float]) -> list[tuple[float, float]]:
    """When each of the requests goes that come one after the other with these gaps: (second, tokens)."""
    now, gone = 0.0, []
    for gap, amount in zip(gaps, tokens, strict=True):
        now += gap
        while (wait := limiter.wait(now, amount)) > 0:
            now += max(wait, 1e-6)
        limiter.give_back(limiter.take(now, amount), now, None)
        gone.append((now, amount))
    return gone


def most_in_a_window(gone: list[tuple[float, float]]) -> float:
    return max(sum(amount for at, amount in gone if start <= at < start + PERIOD_SECONDS) for start, _ in gone)


@given(gaps, st.integers(1, 200))
def test_no_minute_ever_has_more_requests_than_the_limit(gaps: list[float], limit: int) -> None:
    """However requests come, any 60 s hold at most requests_per_minute of them."""
    gone = let_through(RateLimiter(Limits(requests_per_minute=limit)), gaps, [1.0] * len(gaps))
    assert most_in_a_window([(at, 1.0) for at, _ in gone]) <= limit


@given(gaps, st.integers(1, 50))
def test_requests_that_travel_differently_long_still_keep_the_limit(gaps: list[float], limit: int) -> None:
    """Every other request arriving a second late does not push any 60 s over the limit by more than a tenth and one."""
    gone = let_through(RateLimiter(Limits(requests_per_minute=limit)), gaps, [1.0] * len(gaps))
    arrived = [(at + (0.9 if place % 2 else 0.0), 1.0) for place, (at, _) in enumerate(gone)]
    assert most_in_a_window(arrived) <= limit * 1.1


@given(st.data(), gaps, st.integers(100, 2000))
def test_no_minute_ever_has_more_tokens_than_the_limit(data: st.DataObject, gaps: list[float], limit: int) -> None:
    """Requests of any size up to the limit: any 60 s hold at most tokens_per_minute."""
    sizes = data.draw(st.lists(st.integers(1, limit), min_size=len(gaps), max_size=len(gaps)))
    gone = let_through(RateLimiter(Limits(tokens_per_minute=limit)), gaps, [float(size) for size in sizes])
    assert most_in_a_window(gone) <= limit


@given(st.integers(20, 600))
def test_a_limiter_that_forgot_everything_overshoots_by_a_tenth_at_most(limit: int) -> None:
    """A restart in the middle of a busy minute loses the window; the pace still holds it within 10 %."""
    before = let_through(RateLimiter(Limits(requests_per_minute=limit)), [0.0] * limit, [1.0] * limit)
    middle = before[len(before) // 2][0]
    kept = [(at, 1.0) for at, _ in before if at <= middle]
    after = let_through(RateLimiter(Limits(requests_per_minute=limit)), [middle] + [0.0] * limit, [1.0] * (limit + 1))
    assert most_in_a_window(kept + [(at, 1.0) for at, _ in after]) <= limit * 1.1 + 1


@given(st.integers(1, 600))
def test_the_limit_is_used_and_not_only_kept(limit: int) -> None:
    """Three minutes' worth of requests take little more than three minutes."""
    gone = let_through(RateLimiter(Limits(requests_per_minute=limit)), [0.0] * 3 * limit, [1.0] * 3 * limit)
    assert gone[-1][0] <= 3 * PERIOD_SECONDS * 1.02


def test_a_burst_is_a_few_seconds_worth() -> None:
    """Of 100 a minute five go at once, the sixth a little later."""
    limiter = RateLimiter(Limits(requests_per_minute=100))
    gone = let_through(limiter, [0.0] * 6, [1.0] * 6)
    assert [at for at, _ in gone[:5]] == [0.0] * round(100 * BURST_SHARE)
    assert 0 < gone[5][0] < 1


def test_only_an_end_makes_room_when_all_places_are_taken() -> None:
    """At max_concurrency the wait has no end of its own; giving a permit back ends it."""
    limiter = RateLimiter(Limits(max_concurrency=2))
    first, _ = limiter.take(0.0, 1), limiter.take(0.0, 1)
    assert limiter.wait(100.0, 1) == math.inf
    limiter.give_back(first, 100.0, None)
    assert limiter.wait(100.0, 1) == 0


def test_tokens_are_reserved_refunded_and_charged() -> None:
    """A request turned away gives its tokens back; one that used more than was guessed counts in full."""
    limiter = RateLimiter(Limits(tokens_per_minute=100))
    turned_away = limiter.take(0.0, 80)
    assert limiter.wait(1.0, 50) > 0
    limiter.give_back(turned_away, 1.0, 0)
    assert limiter.wait(1.0, 50) == 0
    larger: Permit = limiter.take(1.0, 10)
    limiter.give_back(larger, 2.0, 90)
    assert limiter.used(2.0) == (2.0, 90.0)
    assert limiter.wait(2.0, 20) > 50


def test_a_window_settled_after_its_time_is_not_charged_again() -> None:
    """What left the window before it was settled changes nothing."""
    window = Window(100)
    old = window.take(0.0, 50)
    window.take(70.0, 30)
    window.settle(old, 500, 71.0)
    assert window.used(71.0) == 30


def test_a_limit_changed_live_counts_what_went_before() -> None:
    """Lowering a limit takes effect for what is already in the window; lifting it frees the queue at once."""
    limiter = RateLimiter(Limits())
    for second in range(30):
        limiter.give_back(limiter.take(float(second), 10), float(second), 10)
    limiter.change(Limits(requests_per_minute=30, tokens_per_minute=1000))
    assert 30 < limiter.wait(30.0, 1) <= 31
    limiter.change(Limits())
    assert limiter.wait(30.0, 1) == 0


def test_a_guess_follows_high_figures_quickly_and_low_ones_slowly() -> None:
    """It errs on the side of the limit: one long answer raises it at once, one short one hardly lowers it."""
    guess = TokenGuess()
    start = guess.total(400, None)
    guess.learn(400, 100, 2000)
    raised = guess.total(400, None)
    guess.learn(400, 100, 10)
    assert start == 612
    assert raised > 1300
    assert raised * 0.85 < guess.total(400, None) < raised
    assert guess.total(400, 5) == 105


@given(st.sampled_from(["never_sent", "refused", "ambiguous"]), st.integers(0, 2), st.floats(0, 0.999))
def test_a_retry_waits_at_most_twice_as_long_each_time(fate: str, retries: int, luck: float) -> None:
    """Full jitter: between nothing and half a second, a second, two."""
    decision = after_failure(fate, retries, 3, None, 100.0, luck)  # type: ignore[arg-type]
    assert isinstance(decision, Retry)
    assert 0 <= decision.after < 0.5 * 2**retries


def test_the_providers_wish_is_never_undercut() -> None:
    """Retry-After is a least, with a little on top so that waiters do not come back as one."""
    assert after_failure("refused", 0, 3, 7.0, 100.0, 0.0) == Retry(7.0)
    assert after_failure("refused", 0, 3, 7.0, 100.0, 0.5) == Retry(7.35)


def test_no_retry_is_begun_that_cannot_end_in_time() -> None:
    """A wait past the deadline, a permanent failure and used-up retries all end the call now."""
    assert isinstance(after_failure("refused", 0, 3, 50.0, 49.0, 0.0), GiveUp)
    assert isinstance(after_failure("permanent", 0, 3, None, 49.0, 0.0), GiveUp)
    assert isinstance(after_failure("ambiguous", 3, 3, None, 49.0, 0.0), GiveUp)
    assert isinstance(after_failure("never_sent", 0, 0, None, 49.0, 0.0), GiveUp)
