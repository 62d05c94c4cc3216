"""What a provider has said of its limits, kept as a bound beside the limits that are set: it only ever lowers them.

The latest word counts, by when its request was sent: replies overtake each other, and an older one knows less. What was
taken since is subtracted, so that requests on their way are not forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

from pop_actors.core.limits import DAY_SECONDS, FREE, PERIOD_SECONDS, Wait
from pop_actors.core.rate_news import Quota, QuotaKind, RateNews
from pop_actors.core.token_guess import Tokens

HOUR_SECONDS = 3600.0
MOST_SECONDS = HOUR_SECONDS  # a longer reset is not waited for: who goes then brings the next word
TOLERANCE = 0.2
_ROUNDING = 1e-6

KINDS: tuple[QuotaKind, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
Amounts = tuple[float, float, float, float]  # one of each kind


class Mark(NamedTuple):
    """What had been taken of each kind when a request left, itself included."""

    sent_at: float
    taken: Amounts


class LearnedLimits:
    """One bound per kind of quota the provider speaks of."""

    def __init__(self) -> None:
        self._taken: Amounts = (0.0, 0.0, 0.0, 0.0)
        self._levels: dict[QuotaKind, _Level] = {}

    def take(self, now: float, tokens: Tokens) -> Mark:
        """A request leaves."""
        requests, both, read, written = self._taken
        self._taken = (requests + 1.0, both + tokens.total, read + tokens.input, written + tokens.output)
        return Mark(now, self._taken)

    def hear(self, news: RateNews, mark: Mark) -> None:
        """The reply to the request that left at `mark` brought news."""
        for kind, quota in news.quotas.items():
            known = self._levels.get(kind)
            if known is None or mark.sent_at >= known.told_at:
                self._levels[kind] = _level(quota, mark.sent_at, mark.taken[KINDS.index(kind)])

    def wait(self, now: float, tokens: Tokens) -> Wait:
        """Until a request of so many tokens is within all that was said."""
        longest = FREE
        if self._levels:
            amounts = (1.0, tokens.total, tokens.input, tokens.output)
            for kind, amount, taken in zip(KINDS, amounts, self._taken, strict=True):
                level = self._levels.get(kind)
                seconds = 0.0 if level is None else level.wait(now, amount, taken)
                if seconds > longest.seconds:
                    longest = Wait(seconds, f"the {kind.replace('_', ' ')} the provider says are left")
        return longest

    def limits(self) -> dict[str, float]:
        """The limits it spoke of, by kind."""
        return {kind: level.limit for kind, level in self._levels.items() if level.limit is not None}


class _Level:
    """What is left of one quota. It fills up evenly (`rate` > 0), or all at once at `full_at`."""

    def __init__(self, told_at: float, left: float, taken: float, limit: float | None, rate: float, full_at: float):
        self.told_at = told_at
        self.limit = limit
        self._left = left
        self._taken = taken  # when it was told, by our count
        self._since = told_at
        self._rate = rate
        self._full_at = full_at

    def wait(self, now: float, amount: float, taken: float) -> float:
        if now >= self._full_at:
            self._fill(taken)
        if self.limit is not None:
            amount = min(amount, self.limit)
        left = self._left - (taken - self._taken) + self._rate * max(0.0, now - self._since)
        if self.limit is not None and left > self.limit:
            left, self._left, self._taken, self._since = self.limit, self.limit, taken, now
        if amount <= left + _ROUNDING:
            return 0.0
        if self._rate:
            return (amount - left) / self._rate
        return max(0.0, self._full_at - now)

    def _fill(self, taken: float) -> None:
        """The moment it spoke of has come: all of it is there again, and nothing is known of the time after."""
        self._left = float("inf") if self.limit is None else self.limit
        self._taken = taken
        self._since = self._full_at
        self._full_at += PERIOD_SECONDS


def _level(quota: Quota, told_at: float, taken: float) -> _Level:
    rate = _rate(quota)
    reset = min(PERIOD_SECONDS if quota.reset is None else quota.reset, MOST_SECONDS)
    full_at = float("inf") if rate else told_at + reset
    return _Level(told_at, quota.remaining, taken, quota.limit, rate, full_at)


def _rate(quota: Quota) -> float:
    """Per second, where the figures are those of a bucket that fills evenly over a minute, an hour or a day; else 0."""
    if not quota.limit or quota.reset is None:
        return 0.0
    for period in (PERIOD_SECONDS, HOUR_SECONDS, DAY_SECONDS):
        expected = (quota.limit - quota.remaining) * period / quota.limit
        if abs(quota.reset - expected) <= max(1.0, TOLERANCE * expected):
            return quota.limit / period
    return 0.0
