"""Whether a request is made again, when, and how often that may happen at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.retries import GiveUp, Retry, RetryBudget, after_failure
from pop_actors.core.token_guess import TokenGuess


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


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=400))
def test_an_outage_does_not_multiply_traffic(steps: list[tuple[float, bool]]) -> None:
    """Every request fails, everybody retries whenever that is allowed: retries stay within a fifth of the first tries,
    the reserve and one a second."""
    budget, now, first, again = RetryBudget(), 0.0, 0, 0
    for gap, is_first in steps:
        now += gap
        if is_first:
            first += 1
            budget.first_try(now)
        while budget.wait(now) == 0:
            again += 1
            budget.retry(now)
        assert again <= 0.2 * first + 10 + now + 1e-6


def test_retries_that_work_cost_nothing() -> None:
    """After an outage everybody who waits gets through, as long as it goes well."""
    budget = RetryBudget()
    for _ in range(1000):
        assert budget.wait(0.0) == 0
        budget.retry(0.0)
        budget.worked(0.0)


def test_a_spent_budget_gives_one_retry_a_second() -> None:
    """Nobody waits for ever."""
    budget = RetryBudget()
    for _ in range(10):
        budget.retry(0.0)
    assert budget.wait(0.0) == pytest.approx(1.0)
    assert budget.wait(1.0) == 0


def test_good_times_are_not_saved_up_without_end() -> None:
    """A million calls earn a hundred retries."""
    budget = RetryBudget()
    for _ in range(10_000):
        budget.first_try(0.0)
    assert budget.left(0.0) == 100


def test_a_guess_follows_high_figures_at_once_and_low_ones_slowly() -> None:
    """It errs on the side of the limit: one long answer raises it at once, one short one hardly lowers it."""
    guess = TokenGuess()
    assert guess.total(400, None) == 100 + 4096
    guess.learn(400, 100, 8000)
    assert guess.total(400, None) == 100 + 8000
    guess.learn(400, 100, 10)
    assert 7000 < guess.total(400, None) < 8000
    assert guess.total(400, 5) == 105
