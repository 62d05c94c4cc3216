"""Limits hold in every window of a minute, whatever is asked for and whenever."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.limits import (
    BURST_SHARE,
    DAY_SECONDS,
    PERIOD_SECONDS,
    Limits,
    RateLimiter,
    Window,
)
from pop_actors.core.token_guess import Tokens

gaps = st.lists(st.floats(0, 20, allow_nan=False), min_size=1, max_size=150)


def tokens(total: float) -> Tokens:
    return Tokens(total, 0.0)


def let_through(limiter: RateLimiter, gaps: list[float], sizes: list[float]) -> list[tuple[float, float]]:
    """When each of the requests goes that come one after the other with these gaps: (second, tokens)."""
    now, gone = 0.0, []
    for gap, amount in zip(gaps, sizes, strict=True):
        now += gap
        while (wait := limiter.wait(now, tokens(amount)).seconds) > 0:
            now += max(wait, 1e-6)
        limiter.give_back(limiter.take(now, tokens(amount)), now, None)
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


@given(st.data(), gaps, st.integers(100, 2000), st.integers(100, 2000))
def test_input_and_output_are_bounded_apart(
    data: st.DataObject, gaps: list[float], most_in: int, most_out: int
) -> None:
    """Any 60 s hold at most each of the two, whether an answer's tokens are counted when it is asked for or when it
    ends."""
    limiter = RateLimiter(Limits(input_tokens_per_minute=most_in, output_tokens_per_minute=most_out))
    now, asked, came = 0.0, [], []
    for gap in gaps:
        now += gap
        wish = Tokens(data.draw(st.integers(1, most_in)), data.draw(st.integers(1, most_out)))
        while (wait := limiter.wait(now, wish).seconds) > 0:
            now += max(wait, 1e-6)
        permit = limiter.take(now, wish)
        asked.append((now, wish.input))
        now += data.draw(st.floats(0, 100))
        limiter.give_back(permit, now, wish)
        came.append((now, wish.output))
    assert most_in_a_window(asked) <= most_in
    assert most_in_a_window(came) <= most_out


@given(st.integers(1, 50), st.lists(st.floats(0, 7200), min_size=1, max_size=120))
def test_no_day_has_more_requests_than_its_limit(limit: int, gaps: list[float]) -> None:
    """Any 24 hours hold at most requests_per_day, and the wait for the next is about a day at most."""
    limiter, now, gone = RateLimiter(Limits(requests_per_day=limit)), 0.0, []
    for gap in gaps:
        now += gap
        while (wait := limiter.wait(now, tokens(1)).seconds) > 0:
            assert wait <= DAY_SECONDS + 61
            now += max(wait, 1e-6)
        limiter.give_back(limiter.take(now, tokens(1)), now, None)
        gone.append(now)
    assert max(sum(start <= at < start + DAY_SECONDS for at in gone) for start in gone) <= limit


def test_memory_does_not_follow_traffic() -> None:
    """A hundred thousand requests in a minute leave a few hundred figures behind, and are all counted."""
    window = Window(math.inf)
    for number in range(100_000):
        window.take(number * 0.0006, 1.0)
    assert window.used(60.0) == 100_000
    assert len(window._grants) <= 601


def test_only_an_end_makes_room_when_all_places_are_taken() -> None:
    """At max_concurrency the wait has no end of its own; giving a permit back ends it."""
    limiter = RateLimiter(Limits(max_concurrency=2))
    first, _ = limiter.take(0.0, tokens(1)), limiter.take(0.0, tokens(1))
    assert limiter.wait(100.0, tokens(1)).seconds == math.inf
    limiter.give_back(first, 100.0, None)
    assert limiter.wait(100.0, tokens(1)).seconds == 0


def test_tokens_are_reserved_refunded_and_charged() -> None:
    """A request turned away gives its tokens back; one that used more than was guessed counts in full."""
    limiter = RateLimiter(Limits(tokens_per_minute=100))
    turned_away = limiter.take(0.0, tokens(80))
    assert limiter.wait(1.0, tokens(50)).seconds > 0
    limiter.give_back(turned_away, 1.0, tokens(0))
    assert limiter.wait(1.0, tokens(50)).seconds == 0
    larger = limiter.take(1.0, tokens(10))
    limiter.give_back(larger, 2.0, tokens(90))
    assert limiter.used(2.0) == (2.0, 90.0)
    assert limiter.wait(2.0, tokens(20)).seconds > 50


def test_a_request_that_never_left_is_no_request() -> None:
    """The provider did not count it, and so do we not; one that was refused stays counted."""
    limiter = RateLimiter(Limits(requests_per_minute=100, requests_per_day=100))
    for sent, used in ((False, 0), (True, 1)):
        limiter.give_back(limiter.take(0.0, tokens(5)), 0.0, tokens(0), sent=sent)
        now = limiter.used_of(0.0)
        assert (now["requests_per_minute"], now["requests_per_day"], now["tokens_per_minute"]) == (used, used, 0)


def test_a_wait_says_what_for() -> None:
    """By the name of the setting, with its value."""
    for limits, why in (
        (Limits(requests_per_minute=1), "requests_per_minute (1)"),
        (Limits(tokens_per_minute=100), "tokens_per_minute (100)"),
        (Limits(input_tokens_per_minute=100), "input_tokens_per_minute (100)"),
        (Limits(requests_per_day=1), "requests_per_day (1)"),
        (Limits(max_concurrency=1), "max_concurrency (1)"),
    ):
        limiter = RateLimiter(limits)
        limiter.take(0.0, tokens(100))
        assert limiter.wait(0.0, tokens(100)).why == why


def test_a_window_settled_after_its_time_is_not_charged_again() -> None:
    """What left the window before it was settled changes nothing."""
    window = Window(100)
    old = window.take(0.0, 50)
    window.take(70.0, 30)
    window.adjust(old, 450, 71.0)
    assert window.used(71.0) == 30


def test_a_limit_changed_live_counts_what_went_before() -> None:
    """Lowering a limit takes effect for what is already in the window; lifting it frees the queue at once."""
    limiter = RateLimiter(Limits())
    for second in range(30):
        limiter.give_back(limiter.take(float(second), tokens(10)), float(second), tokens(10))
    limiter.change(Limits(requests_per_minute=30, tokens_per_minute=1000))
    assert 30 < limiter.wait(30.0, tokens(1)).seconds <= 31
    limiter.change(Limits())
    assert limiter.wait(30.0, tokens(1)).seconds == 0
