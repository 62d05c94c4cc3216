"""A circuit opens when it must, lets one request try, and makes no move that is not in its table."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.circuit import (
    FIRST_HOLD_SECONDS,
    LEAST_FAILURES,
    MAX_ASKED_SECONDS,
    MAX_HOLD_SECONDS,
    MOVES,
    PROBE_PATIENCE_SECONDS,
    Circuit,
    State,
    Verdict,
)

VERDICTS = get_args(Verdict)


def circuit() -> Circuit:
    return Circuit(lambda: 0.0)


def end(breaker: Circuit, verdict: Verdict, now: float, retry_after: float | None = None) -> None:
    """A request that goes and ends in the same moment."""
    probe = breaker.take(now)
    breaker.ended(verdict, probe=probe, sent_at=now, now=now, retry_after=retry_after)


def opened(now: float = 0.0) -> Circuit:
    breaker = circuit()
    for _ in range(LEAST_FAILURES):
        end(breaker, "failed", now)
    return breaker


def test_the_table_has_a_way_out_of_every_state() -> None:
    """From each state the closed one can be reached, and every target is a state."""
    for state in get_args(State):
        reached, new = set(), {state}
        while new:
            reached |= new
            new = {after for (before, _), after in MOVES.items() if before in reached} - reached
        assert "closed" in reached
        assert reached <= set(get_args(State))


@pytest.mark.parametrize("verdict", ["failed", "overloaded", "timeout"])
def test_it_opens_after_failures(verdict: Verdict) -> None:
    """Errors of the server, overload and silence; not before the fifth."""
    breaker = circuit()
    for _ in range(LEAST_FAILURES - 1):
        end(breaker, verdict, 1.0)
    assert breaker.state == "closed"
    end(breaker, verdict, 1.0)
    assert (breaker.state, breaker.failing) == ("open", True)
    assert breaker.wait(1.0).seconds == FIRST_HOLD_SECONDS


@pytest.mark.parametrize("verdict", ["answered", "refused", "unknown", "unsent"])
def test_other_ends_never_open_it(verdict: Verdict) -> None:
    """Wrong requests and full limits are not the model's failure."""
    breaker = circuit()
    for _ in range(100):
        end(breaker, verdict, 1.0)
    assert breaker.state == "closed"


def test_failures_among_many_answers_do_not_open_it() -> None:
    """A third of the requests failing is bad luck, not an outage."""
    breaker = circuit()
    for number in range(90):
        end(breaker, "failed" if number % 3 == 2 else "answered", number * 0.1)
    assert breaker.state == "closed"


def test_failures_of_long_ago_are_forgotten() -> None:
    """One an hour never adds up."""
    breaker = circuit()
    for hour in range(24):
        end(breaker, "failed", hour * 3600.0)
    assert breaker.state == "closed"


def test_an_impatient_asker_does_not_open_it_for_others() -> None:
    """Timeouts while others were answered are the asker's own."""
    breaker = circuit()
    for number in range(50):
        begun = number * 0.1
        breaker.take(begun)
        end(breaker, "answered", begun + 0.05)
        breaker.ended("timeout", probe=False, sent_at=begun, now=begun + 0.09)
    assert breaker.state == "closed"


def test_one_probe_goes_and_all_others_wait() -> None:
    """When the hold is over; its answer closes the circuit for all."""
    breaker = opened()
    now = FIRST_HOLD_SECONDS
    assert breaker.take(now)
    assert breaker.wait(now).seconds == PROBE_PATIENCE_SECONDS
    breaker.ended("answered", probe=True, sent_at=now, now=now + 0.5)
    assert (breaker.state, breaker.failing, breaker.wait(now + 0.5).seconds) == ("closed", False, 0.0)


def test_a_failed_probe_doubles_the_wait_up_to_a_limit() -> None:
    """1, 2, 4 … 30 seconds, and never more."""
    breaker, now, waits = opened(), 0.0, []
    for _ in range(8):
        now += (wait := breaker.wait(now).seconds)
        waits.append(wait)
        end(breaker, "failed", now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, MAX_HOLD_SECONDS, MAX_HOLD_SECONDS, MAX_HOLD_SECONDS]


@pytest.mark.parametrize("verdict", ["unknown", "unsent"])
def test_a_probe_that_comes_to_nothing_leaves_its_place_to_the_next(verdict: Verdict) -> None:
    """Its job was stopped, say: the next caller tries instead, at once."""
    breaker = opened()
    end(breaker, verdict, FIRST_HOLD_SECONDS)
    assert breaker.state == "half_open"
    assert breaker.wait(FIRST_HOLD_SECONDS).seconds == 0


def test_a_probe_nobody_answers_does_not_hold_the_circuit_for_good() -> None:
    """After a while another one goes, and either's answer closes it."""
    breaker = opened()
    assert breaker.take(1.0)
    later = 1.0 + PROBE_PATIENCE_SECONDS
    assert breaker.wait(later).seconds == 0
    assert breaker.take(later)
    breaker.ended("answered", probe=True, sent_at=1.0, now=later + 1)
    assert breaker.state == "closed"


def test_retry_after_stops_everyone_and_one_asks_first() -> None:
    """The longest of several wishes counts; then a probe; it is no failing circuit."""
    breaker = circuit()
    for wish in (2.0, 5.0, 1.0):
        breaker.ended("refused", probe=False, sent_at=0.0, now=0.0, retry_after=wish)
    assert (breaker.state, breaker.failing) == ("open", False)
    assert breaker.wait(0.0).seconds == 5.0
    assert breaker.take(5.0)
    assert breaker.wait(5.0).seconds > 0


def test_a_probe_is_told_again_to_wait() -> None:
    """The provider's own figure goes before ours."""
    breaker = circuit()
    end(breaker, "refused", 0.0, retry_after=2.0)
    for now in (2.0, 4.0, 6.0, 8.0):
        end(breaker, "refused", now, retry_after=2.0)
        assert breaker.wait(now).seconds == 2.0


def test_a_wish_without_measure_is_asked_about_again() -> None:
    """A Retry-After of years holds for an hour."""
    breaker = circuit()
    end(breaker, "refused", 0.0, retry_after=1e9)
    assert breaker.wait(0.0).seconds == MAX_ASKED_SECONDS


def test_what_was_sent_before_it_closed_says_nothing_more() -> None:
    """Late failures and late wishes of the outage do not open a circuit that a probe has closed."""
    breaker = opened()
    end(breaker, "answered", 1.0)
    for _ in range(20):
        breaker.ended("failed", probe=False, sent_at=0.0, now=2.0, retry_after=30.0)
    assert breaker.state == "closed"


def test_circuits_are_not_tried_again_all_at_the_same_moment() -> None:
    """Luck adds up to a tenth, and never takes away."""
    waits = set()
    for luck in (0.0, 0.5, 0.9):
        breaker = Circuit(lambda luck=luck: luck)
        end(breaker, "refused", 0.0, retry_after=4.0)
        waits.add(breaker.wait(0.0).seconds)
    assert waits == {4.0, 4.2, 4.36}


steps = st.lists(
    st.tuples(st.sampled_from(VERDICTS), st.floats(0, 40), st.none() | st.floats(0, 100), st.booleans()), max_size=60
)


@given(steps)
def test_whatever_happens_it_makes_legal_moves_and_opens_again(
    steps: list[tuple[Verdict, float, float | None, bool]],
) -> None:
    """Requests that overlap and end in any way: no move that is not in the table, no second probe while the first is
    waited for, no wait without an end, and an answered probe always closes it."""
    breaker, now = circuit(), 0.0
    under_way: list[tuple[float, bool, Verdict, float | None]] = []
    trying: float | None = None
    for verdict, gap, retry_after, ends_first in steps:
        now += gap
        if ends_first and under_way:
            sent_at, probe, how, wish = under_way.pop(0)
            breaker.ended(how, probe=probe, sent_at=sent_at, now=now, retry_after=wish)
            trying = None if sent_at == trying else trying
        wait = breaker.wait(now).seconds
        assert 0 <= wait <= MAX_ASKED_SECONDS
        if wait > 0:
            continue
        was_half_open = breaker.state == "half_open"
        probe = breaker.take(now)
        assert probe == (breaker.state == "half_open")
        if was_half_open and trying is not None:
            assert now >= trying + PROBE_PATIENCE_SECONDS
        if probe:
            trying = now
        under_way.append((now, probe, verdict, retry_after))
    now += MAX_ASKED_SECONDS + PROBE_PATIENCE_SECONDS
    assert breaker.wait(now).seconds == 0
    breaker.ended("answered", probe=breaker.take(now), sent_at=now, now=now)
    assert breaker.state == "closed"
