"""Budgets as pure figures: who pays, what is spent, what is still to be had."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.budgets import (
    Budgets,
    Busy,
    DailyLimits,
    Go,
    Payer,
    Scope,
    Spent,
    day_of,
    next_midnight,
    refusal,
)

TODAY, TOMORROW = "2026-11-21", "2026-11-22"
NOON = 1_795_262_400.0  # 2026-11-21T12:00:00Z


def payer(provider: str = "openai", pipeline: str = "news", **fields: float) -> Payer:
    return Payer("job-1", pipeline, provider, **fields)


LIMITS: dict[Scope, DailyLimits] = {
    "pipeline": DailyLimits(pipelines={"news": 1.0}),
    "provider": DailyLimits(providers={"openai": 1.0}),
    "global": DailyLimits(total=1.0),
}


@pytest.mark.parametrize("scope", LIMITS)
def test_a_daily_budget_ends_at_its_limit_and_begins_anew_with_the_day(scope: Scope) -> None:
    """Below it goes, at it nothing goes, tomorrow it goes again."""
    budgets = Budgets(LIMITS[scope])
    budgets.book(payer(), 0.99, TODAY)
    assert budgets.verdict(payer(), 0.0, TODAY) == Go()
    budgets.book(payer(), 0.01, TODAY)
    verdict = budgets.verdict(payer(), 0.0, TODAY)
    assert isinstance(verdict, Spent)
    assert verdict.budget.scope == scope
    assert budgets.verdict(payer(), 0.0, TOMORROW) == Go()


def test_a_budget_is_only_its_own() -> None:
    """Another pipeline and another provider go on when one has spent its own."""
    budgets = Budgets(DailyLimits(pipelines={"news": 1.0}, providers={"openai": 1.0}))
    budgets.book(payer(), 5.0, TODAY)
    assert isinstance(budgets.verdict(payer(), 0.0, TODAY), Spent)
    assert budgets.verdict(payer("gemini", "other"), 0.0, TODAY) == Go()


def test_a_jobs_budget_is_for_all_its_days() -> None:
    """What the job has paid counts, whatever day it is; a budget of nothing allows nothing."""
    budgets = Budgets(DailyLimits())
    assert budgets.verdict(payer(job_spent=0.4, job_budget=0.5), 0.0, TODAY) == Go()
    assert isinstance(budgets.verdict(payer(job_spent=0.5, job_budget=0.5), 0.0, TOMORROW), Spent)
    assert isinstance(budgets.verdict(payer(job_budget=0.0), 0.0, TODAY), Spent)
    assert budgets.verdict(payer(), 0.0, TODAY) == Go()


def test_calls_under_way_have_their_part() -> None:
    """What they may cost is not to be had twice; when they have ended it is, or is spent."""
    budgets = Budgets(DailyLimits(total=1.0))
    budgets.hold(payer(), 0.6)
    assert budgets.verdict(payer(), 0.3, TODAY) == Go()
    assert budgets.verdict(payer(), 0.5, TODAY) == Busy()
    budgets.let_go(payer(), 0.6)
    assert budgets.verdict(payer(), 0.5, TODAY) == Go()


def test_a_call_that_is_alone_goes_while_anything_is_left() -> None:
    """A guess must not keep the last of a budget from ever being spent."""
    budgets = Budgets(DailyLimits(total=1.0))
    budgets.book(payer(), 0.9, TODAY)
    assert budgets.verdict(payer(), 5.0, TODAY) == Go()


def test_what_was_reached_is_told_once() -> None:
    """At 80 % and at the limit, each with the booking that does it, both where one booking does both."""
    budgets = Budgets(DailyLimits(total=1.0))
    assert budgets.book(payer(), 0.79, TODAY) == []
    assert [reached.share for reached in budgets.book(payer(), 0.02, TODAY)] == [0.8]
    assert budgets.book(payer(), 0.05, TODAY) == []
    assert [reached.share for reached in budgets.book(payer(), 0.5, TODAY)] == [1.0]
    assert budgets.book(payer(), 0.5, TODAY) == []
    assert [reached.share for reached in budgets.book(payer(), 1.0, TOMORROW)] == [1.0, 0.8]


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.sampled_from(["p", "q"]), st.floats(0, 10, allow_nan=False)),
        max_size=50,
    )
)
def test_every_dollar_is_booked_in_each_of_its_places(calls: list[tuple[str, str, float]]) -> None:
    """By pipeline, by provider and in all, the sums are those of the calls."""
    budgets = Budgets(DailyLimits())
    for pipeline, provider, cost in calls:
        budgets.book(payer(provider, pipeline), cost, TODAY)
    assert math.isclose(budgets.spent("global", "", TODAY), sum(cost for *_, cost in calls), abs_tol=1e-9)
    for name in ("a", "b"):
        paid = sum(cost for pipeline, _, cost in calls if pipeline == name)
        assert math.isclose(budgets.spent("pipeline", name, TODAY), paid, abs_tol=1e-9)
    for name in ("p", "q"):
        paid = sum(cost for _, provider, cost in calls if provider == name)
        assert math.isclose(budgets.spent("provider", name, TODAY), paid, abs_tol=1e-9)


@given(st.lists(st.floats(0.001, 1, allow_nan=False), min_size=1, max_size=60), st.floats(0.1, 5))
def test_a_budget_is_overdrawn_by_no_more_than_one_wrong_guess(costs: list[float], limit: float) -> None:
    """With guesses that hold, whatever goes at once, at most the call that was alone goes over the limit."""
    budgets = Budgets(DailyLimits(total=limit))
    under_way: list[float] = []
    for cost in costs:
        while budgets.verdict(payer(), cost, TODAY) == Busy():
            ended = under_way.pop()
            budgets.let_go(payer(), ended)
            budgets.book(payer(), ended, TODAY)
        if budgets.verdict(payer(), cost, TODAY) == Go():
            budgets.hold(payer(), cost)
            under_way.append(cost)
    for cost in under_way:
        budgets.book(payer(), cost, TODAY)
    assert budgets.spent("global", "", TODAY) <= limit + max(costs)


@pytest.mark.parametrize("scope", ["job", *LIMITS])
def test_a_refusal_says_which_budget_and_what_helps(scope: Scope) -> None:
    """The figures, the setting to change, and for a day's budget when it begins anew."""
    budgets = Budgets(LIMITS.get(scope, DailyLimits()))
    who = payer(job_spent=1.25, job_budget=1.0 if scope == "job" else 9.0)
    budgets.book(who, 1.25, TODAY)
    verdict = budgets.verdict(who, 0.0, TODAY)
    assert isinstance(verdict, Spent)
    said = refusal(verdict, NOON)
    assert "$1.25 of $1.00" in said
    where = {"job": "budgetUsd", "pipeline": "news", "provider": "openai", "global": "gateway.daily_budget_usd"}
    assert where[scope] in said
    assert ("2026-11-22T00:00:00.000Z" in said) == (scope != "job")


def test_days_are_utc() -> None:
    """A day ends at midnight UTC wherever the machine stands."""
    assert day_of(NOON) == TODAY
    assert day_of(NOON + 43_199) == TODAY
    assert day_of(NOON + 43_200) == TOMORROW
    assert next_midnight(NOON) == "2026-11-22T00:00:00.000Z"
