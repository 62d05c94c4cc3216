"""Budgets in dollars, and whether a call may still be paid. Pure: no clock, no disk, no model's price.

The gateway asks before a call and books after it. A job's budget is for all its runs; the others are for a day, which
ends at midnight UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

WARN_SHARE = 0.8
DAY_SECONDS = 86_400.0

Scope = Literal["job", "pipeline", "provider", "global"]


class Payer(NamedTuple):
    """Whose budgets a call is paid from. `job_spent`: what the job has paid so far; `job_budget` None: it has none."""

    job_id: str
    pipeline: str
    provider: str
    job_spent: float = 0.0
    job_budget: float | None = None


@dataclass(frozen=True, slots=True)
class DailyLimits:
    """US dollars a day: of everything together, by pipeline, by provider. Who is not named is not limited."""

    total: float | None = None
    pipelines: Mapping[str, float] = field(default_factory=dict)
    providers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget and how it stands, in US dollars. `name`: of the job, pipeline or provider; "" of everything.

    `held` is what calls under way are expected to cost.
    """

    scope: Scope
    name: str
    limit: float
    spent: float
    held: float = 0.0

    @property
    def is_daily(self) -> bool:
        return self.scope != "job"

    @property
    def share(self) -> float:
        """Of the limit that is spent; a budget of nothing is spent from the start."""
        return self.spent / self.limit if self.limit > 0 else 1.0

    @property
    def label(self) -> str:
        """As a person says it."""
        whose = {"job": "the job's budget", "global": "the daily budget of everything"}.get(self.scope)
        return whose or f"the daily budget of {self.scope} {self.name}"


@dataclass(frozen=True, slots=True)
class Go:
    """There is money for the call."""


@dataclass(frozen=True, slots=True)
class Busy:
    """There may be money for it: calls under way will show. Ask again when one of them has ended."""


@dataclass(frozen=True, slots=True)
class Spent:
    """There is no money for it."""

    budget: Budget


@dataclass(frozen=True, slots=True)
class Reached:
    """With this booking a budget came to `share`: WARN_SHARE or 1."""

    budget: Budget
    share: float


class Budgets:
    """What was spent today, and what calls under way may add. `day` is always today's name; another begins at 0."""

    def __init__(self, limits: DailyLimits) -> None:
        self.limits = limits
        self._day = ""
        self._spent: dict[tuple[Scope, str], float] = {}
        self._held: dict[tuple[Scope, str], float] = {}

    def verdict(self, payer: Payer, expected: float, day: str) -> Go | Busy | Spent:
        """Whether a call that may cost `expected` may be made now. The narrowest budget that is spent is named."""
        self._turn(day)
        standing = list(self._of(payer))
        for budget in standing:
            if budget.spent >= budget.limit:
                return Spent(budget)
        if any(budget.held and budget.spent + budget.held + expected > budget.limit for budget in standing):
            return Busy()
        return Go()

    def is_limited(self, payer: Payer) -> bool:
        """Whether any budget holds for it."""
        return any(True for _ in self._of(payer))

    def hold(self, payer: Payer, expected: float) -> None:
        """A call begins that may cost so much; `let_go` of the same when it has ended."""
        for key in _keys(payer):
            self._held[key] = self._held.get(key, 0.0) + expected

    def let_go(self, payer: Payer, expected: float) -> None:
        for key in _keys(payer):
            left = self._held.get(key, 0.0) - expected
            if left > 1e-12:  # noqa: PLR2004  (a trillionth of a dollar: what floats leave)
                self._held[key] = left
            else:
                self._held.pop(key, None)

    def book(self, payer: Payer, cost: float, day: str) -> list[Reached]:
        """So much was paid; `payer.job_spent` is without it. What has come to its warning or its end by that."""
        self._turn(day)
        before = list(self._of(payer))
        for key in _keys(payer):
            if key[0] != "job":
                self._spent[key] = self._spent.get(key, 0.0) + cost
        return [
            Reached(after, share)
            for budget in before
            for after in (_plus(budget, cost),)
            for share in (1.0, WARN_SHARE)
            if budget.share < share <= after.share
        ]

    def spent(self, scope: Scope, name: str, day: str) -> float:
        """Dollars spent today."""
        self._turn(day)
        return self._spent.get((scope, name), 0.0)

    def standing(self, day: str) -> list[Budget]:
        """Every daily budget there is."""
        self._turn(day)
        limits = self.limits
        named: list[tuple[Scope, str, float | None]] = [("global", "", limits.total)]
        named += [("pipeline", name, limit) for name, limit in sorted(limits.pipelines.items())]
        named += [("provider", name, limit) for name, limit in sorted(limits.providers.items())]
        return [self._budget(scope, name, limit) for scope, name, limit in named if limit is not None]

    def _of(self, payer: Payer) -> Iterator[Budget]:
        """The budgets that hold for it, the narrowest first."""
        if payer.job_budget is not None:
            held = self._held.get(("job", payer.job_id), 0.0)
            yield Budget("job", payer.job_id, payer.job_budget, payer.job_spent, held)
        limits = self.limits
        daily: tuple[tuple[Scope, str, float | None], ...] = (
            ("pipeline", payer.pipeline, limits.pipelines.get(payer.pipeline)),
            ("provider", payer.provider, limits.providers.get(payer.provider)),
            ("global", "", limits.total),
        )
        for scope, name, limit in daily:
            if limit is not None:
                yield self._budget(scope, name, limit)

    def _budget(self, scope: Scope, name: str, limit: float) -> Budget:
        key = (scope, name)
        return Budget(scope, name, limit, self._spent.get(key, 0.0), self._held.get(key, 0.0))

    def _turn(self, day: str) -> None:
        if day != self._day:
            self._day = day
            self._spent = {}


def _keys(payer: Payer) -> tuple[tuple[Scope, str], ...]:
    return ("job", payer.job_id), ("pipeline", payer.pipeline), ("provider", payer.provider), ("global", "")


def _plus(budget: Budget, cost: float) -> Budget:
    return Budget(budget.scope, budget.name, budget.limit, budget.spent + cost, budget.held)


def day_of(moment: float) -> str:
    """The day (UTC) of a moment in seconds since the epoch, as `2026-11-21`."""
    return _name_of_day(moment // DAY_SECONDS)


@lru_cache(maxsize=2)
def _name_of_day(days: float) -> str:
    """Of the day so many days after 1970 began: every call asks for today's."""
    return datetime.fromtimestamp(days * DAY_SECONDS, UTC).strftime("%Y-%m-%d")


def next_midnight(moment: float) -> str:
    """When the day of a moment ends, as people write it."""
    tomorrow = datetime.fromtimestamp(moment, UTC) + timedelta(days=1)
    return tomorrow.strftime("%Y-%m-%dT00:00:00.000Z")


def refusal(spent: Spent, moment: float) -> str:
    """What who asked is told: which budget, how much, and what helps."""
    budget = spent.budget
    figures = f"{budget.label} is spent: {_dollars(budget.spent)} of {_dollars(budget.limit)}"
    match budget.scope:
        case "job":
            remedy = f"raise budgetUsd in the seed.json of {budget.name} and restart the job"
        case "pipeline":
            remedy = (
                f"raise {budget.name} in [gateway.pipeline_daily_budget_usd], or wait until {next_midnight(moment)}"
            )
        case "provider":
            where = f"daily_budget_usd in [gateway.providers.{budget.name}]"
            remedy = f"raise {where}, or wait until {next_midnight(moment)}"
        case "global":
            remedy = f"raise gateway.daily_budget_usd, or wait until {next_midnight(moment)}"
    return f"{figures}; {remedy}"


def _dollars(amount: float) -> str:
    return f"${amount:.4f}" if amount < 1 else f"${amount:,.2f}"
