"""What calls may cost and have cost: asks the budgets before a call, books after it, keeps the daily ledger.

Used by the gateway's loop only. It knows no provider and no journal of a job.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pop_actors.core.budgets import (
    WARN_SHARE,
    Budget,
    Budgets,
    Busy,
    DailyLimits,
    Go,
    Payer,
    Spent,
    day_of,
    next_midnight,
    refusal,
)
from pop_actors.core.observations import BudgetReached, Feed
from pop_actors.errors import BUDGET_PAUSED, CallFailed
from pop_actors.providers.types import AttemptFailed
from pop_actors.system.gateway.ledger import DailyLedger, Entry

ASKS_AGAIN_SECONDS = 5.0
"""Who waits for a budget asks for it more often than that."""

_log = logging.getLogger("pop_actors.gateway")


class Hold:
    """What one call under way is expected to cost; given back once."""

    def __init__(self, payer: Payer, expected: float) -> None:
        self.payer = payer
        self.expected = expected
        self.is_open = True


class Spending:
    """`clock` gives seconds since the epoch. `on_budget`: what becomes of a call when a daily budget is spent."""

    def __init__(
        self,
        state: Path,
        limits: DailyLimits,
        on_budget: Literal["fail", "wait"],
        known: Iterable[Entry],
        feed: Feed,
        clock: Callable[[], float],
    ) -> None:
        """`known`: what was spent today before."""
        self._budgets = Budgets(limits)
        self._on_budget = on_budget
        self._ledger = DailyLedger(state)
        self._feed = feed
        self._clock = clock
        self._by_model: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._day = day_of(clock())
        self._news = asyncio.Event()
        self._turned_away: defaultdict[tuple[str, str], dict[str, float]] = defaultdict(dict)
        for entry in known:
            self._count(entry)

    def is_limited(self, payer: Payer) -> bool:
        """Whether any budget holds for it."""
        return self._budgets.is_limited(payer)

    def check(self, payer: Payer) -> None:
        """CallFailed budget, or budget_paused where it may be asked again tomorrow, when there is no money for it."""
        self._refuse_if_spent(payer, self._budgets.verdict(payer, 0.0, self._today()))

    def hold(self, payer: Payer, expected: float) -> Hold | None:
        """Money put aside for a call that begins. None where it depends on calls under way: `changed` tells when to ask
        again. CallFailed as `check`."""
        verdict = self._budgets.verdict(payer, expected, self._today())
        self._refuse_if_spent(payer, verdict)
        if isinstance(verdict, Busy):
            return None
        self._budgets.hold(payer, expected)
        return Hold(payer, expected)

    async def changed(self, deadline: float) -> None:
        """Return when a call has ended since. AttemptFailed timeout at the deadline (of the loop's time)."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._news.wait()
        except TimeoutError:
            raise AttemptFailed(
                "timeout", "the deadline came while calls under way had the rest of a budget", "permanent"
            ) from None

    def let_go(self, hold: Hold) -> None:
        """The call has ended, and is booked if it cost anything. A second time does nothing."""
        if hold.is_open:
            hold.is_open = False
            self._budgets.let_go(hold.payer, hold.expected)
            self._wake()

    def book(self, payer: Payer, entry: Entry) -> None:
        """A call was paid. `payer.job_spent` is without it. In the ledger's file a moment later."""
        today = self._today()
        if entry.cost_usd != 0:
            self._ledger.append(entry, today)
        self._count_model(entry)
        for reached in self._budgets.book(payer, entry.cost_usd or 0.0, today):
            budget = reached.budget
            self._feed.publish(
                BudgetReached(budget.scope, budget.name, reached.share, budget.spent, budget.limit, self._on_budget)
            )
        self._wake()

    def write(self) -> None:
        """Have the ledger put down now what it would a moment later."""
        self._ledger.write()

    def spent_on(self, provider: str, model: str) -> float:
        """Dollars, today."""
        self._today()
        return self._by_model.get((provider, model), 0.0)

    def budget_of(self, provider: str) -> float | None:
        return self._budgets.limits.providers.get(provider)

    def change(self, provider: str, limit: float | None) -> None:
        """Another daily budget of a provider, from now on; None: no limit."""
        limits = self._budgets.limits
        others = {name: amount for name, amount in limits.providers.items() if name != provider}
        providers = others if limit is None else {**others, provider: limit}
        self._budgets.limits = DailyLimits(limits.total, limits.pipelines, providers)
        self._wake()

    def view(self) -> list[dict[str, Any]]:
        """An object per daily budget. `waiting`: the jobs that wait for it to begin anew."""
        resets = next_midnight(self._clock())
        return [
            _document(budget) | {"resetsAt": resets, "waiting": self._waiting_for(budget)}
            for budget in self._budgets.standing(self._today())
        ]

    def close(self) -> None:
        self._ledger.close()

    def _refuse_if_spent(self, payer: Payer, verdict: Go | Busy | Spent) -> None:
        if not isinstance(verdict, Spent):
            return
        budget = verdict.budget
        waits = self._on_budget == "wait" and budget.is_daily
        if waits:
            self._turned_away[budget.scope, budget.name][payer.job_id] = self._clock()
        details = {"scope": budget.scope, "name": budget.name, "limitUsd": budget.limit, "spentUsd": budget.spent}
        raise CallFailed(BUDGET_PAUSED if waits else "budget", refusal(verdict, self._clock()), details)

    def _waiting_for(self, budget: Budget) -> list[str]:
        """Who was turned away a moment ago, and asks again and again."""
        asked = self._turned_away[budget.scope, budget.name]
        since = self._clock() - ASKS_AGAIN_SECONDS
        for job_id in [job_id for job_id, at in asked.items() if at < since]:
            del asked[job_id]
        return sorted(asked)

    def _count(self, entry: Entry) -> None:
        payer = Payer(entry.job_id, entry.pipeline, entry.provider)
        self._budgets.book(payer, entry.cost_usd or 0.0, self._day)
        self._count_model(entry)

    def _count_model(self, entry: Entry) -> None:
        if entry.cost_usd:  # what costs nothing is not remembered: its names could be any number
            self._by_model[entry.provider, entry.model] += entry.cost_usd

    def _today(self) -> str:
        today = day_of(self._clock())
        if today != self._day:
            self._day = today
            self._by_model.clear()
            self._turned_away.clear()
        return today

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"Spending({self._day}, {sum(self._by_model.values()):.4f} $)"


def _document(budget: Budget) -> dict[str, Any]:
    return {
        "scope": budget.scope,
        "name": budget.name,
        "limitUsd": budget.limit,
        "spentUsd": round(budget.spent, 10),
        "state": "spent" if budget.share >= 1 else "warned" if budget.share >= WARN_SHARE else "ok",
    }
