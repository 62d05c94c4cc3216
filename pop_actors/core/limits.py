"""When a request may go to a provider, by the limits that are set. The gateway acts on it; nothing here sleeps.

Seconds are whatever monotonic clock the caller uses. A limit is kept as the provider counts it: never more than the
limit in any period, spread so that no burst is larger than a few seconds' worth.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields
from typing import NamedTuple

from pop_actors.core.token_guess import Tokens

PERIOD_SECONDS = 60.0
DAY_SECONDS = 86400.0
JITTER_SECONDS = 1.0  # by how much two calls may travel differently long; a window is kept that much longer
GRAINS = 600  # takes of a 600th of a period are remembered as one, by the last: memory does not follow traffic
BURST_SHARE = 0.05  # of a minute's requests may go at once: a restart forgets the window, and twice this is still 10 %


class Wait(NamedTuple):
    """Seconds until something may be done (inf: only another's end makes room), and what it waits for, in words."""

    seconds: float
    why: str


FREE = Wait(0.0, "")


@dataclass(slots=True, eq=False)
class Grant:
    """So much was taken from a window by that time. Takes of one grain share a grant."""

    at: float
    amount: float
    begun: float


class Window:
    """What was taken in the last period. Takes are reserved first and settled later, to less (a refund) or to more."""

    def __init__(self, limit: float, period: float = PERIOD_SECONDS) -> None:
        self.limit = limit
        self._period = period + JITTER_SECONDS
        self._grain = period / GRAINS
        self._grants: deque[Grant] = deque()
        self._used = 0.0

    def used(self, now: float) -> float:
        """The sum of what was taken in the period that ends now."""
        self._forget(now)
        return self._used

    def wait(self, now: float, amount: float) -> float:
        """Seconds until `amount` fits (0: now), if nothing else is taken; more than the limit fits an empty window."""
        self._forget(now)
        excess = self._used + min(amount, self.limit) - self.limit
        if excess <= 0 or not self._grants:
            return 0.0
        for grant in self._grants:
            excess -= grant.amount
            if excess <= 0:
                break
        return max(0.0, grant.at + self._period - now)

    def take(self, now: float, amount: float) -> Grant:
        """Take it, whether it fits or not."""
        self._used += amount
        last = self._grants[-1] if self._grants else None
        if last is not None and now - last.begun < self._grain:
            last.at = now
            last.amount += amount
            return last
        grant = Grant(now, amount, now)
        self._grants.append(grant)
        return grant

    def adjust(self, grant: Grant, by: float, now: float) -> None:
        """An earlier take was in truth so much more, or less. What has left the window is not charged again."""
        self._forget(now)
        if self._grants and grant.at >= self._grants[0].at:
            self._used += by
            grant.amount += by

    def _forget(self, now: float) -> None:
        while self._grants and self._grants[0].at + self._period <= now:
            self._used -= self._grants.popleft().amount
        if not self._grants:
            self._used = 0.0


class Pace:
    """Evenly spaced takes with a small burst (GCRA): `per_minute` of them take a minute and a little more."""

    def __init__(self, per_minute: float) -> None:
        self._interval = (PERIOD_SECONDS + JITTER_SECONDS) / per_minute
        self._tolerance = (max(1.0, per_minute * BURST_SHARE) - 1.0) * self._interval
        self._due = -math.inf

    def wait(self, now: float, kept: int = 0) -> float:
        """Seconds until the next may be taken, with so much of the burst left to others."""
        return max(0.0, self._due - self._tolerance + min(kept * self._interval, self._tolerance) - now)

    def take(self, now: float) -> None:
        self._due = max(self._due, now) + self._interval


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a provider, or of one of its models; None: unlimited."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_concurrency: int | None = None
    input_tokens_per_minute: float | None = None
    output_tokens_per_minute: float | None = None
    requests_per_day: float | None = None

    @property
    def reach(self) -> float:
        """Seconds back to which they look."""
        if self.requests_per_day is not None:
            return DAY_SECONDS
        of_a_minute = (self.requests_per_minute, self.tokens_per_minute, self.input_tokens_per_minute)
        return 0.0 if of_a_minute == (None, None, None) and self.output_tokens_per_minute is None else PERIOD_SECONDS


KINDS_OF_LIMIT = tuple(field.name for field in fields(Limits))


class Permit(NamedTuple):
    """What one request took of each window, given back with what it really used."""

    tokens: Tokens
    both: float
    requests: Grant
    day: Grant
    total: Grant
    input: Grant
    output: Grant


class RateLimiter:
    """All limits of a provider, or of one of its models, together: over a minute, over a day, and how many at once."""

    def __init__(self, limits: Limits) -> None:
        self.in_flight = 0
        # what was taken counts in windows without a limit too, so that a limit set later begins with what is known
        self._requests, self._total, self._input, self._output = (Window(math.inf) for _ in range(4))
        self._day = Window(math.inf, DAY_SECONDS)
        self._pace: Pace | None = None
        self.limits = Limits()
        self.change(limits)

    def change(self, limits: Limits) -> None:
        """Set other limits; what was taken under the old ones still counts."""
        if limits.requests_per_minute != self.limits.requests_per_minute:
            self._pace = Pace(limits.requests_per_minute) if limits.requests_per_minute else None
        self.limits = limits
        self._requests.limit = limits.requests_per_minute or math.inf
        self._day.limit = limits.requests_per_day or math.inf
        self._total.limit = limits.tokens_per_minute or math.inf
        self._input.limit = limits.input_tokens_per_minute or math.inf
        self._output.limit = limits.output_tokens_per_minute or math.inf

    def recall(self, at: float, requests: float, tokens: Tokens) -> None:
        """So much was taken then, before this limiter was made. Oldest first, and before anything is taken."""
        self._requests.take(at, requests)
        self._day.take(at, requests)
        self._total.take(at, tokens.total)
        self._input.take(at, tokens.input)
        self._output.take(at, tokens.output)

    def too_small(self, input_tokens: float) -> str | None:
        """The limit that a prompt of so many tokens can never pass; None: it may pass all of them."""
        limits = self.limits
        for name in ("tokens_per_minute", "input_tokens_per_minute"):
            most = getattr(limits, name)
            if most is not None and input_tokens > most:
                return name
        return None

    def wait(self, now: float, tokens: Tokens, kept: int = 0) -> Wait:
        """Until a request of so many tokens may go, and so many like it after it."""
        most = self.limits.max_concurrency
        if most is not None and self.in_flight + kept >= most:
            return Wait(math.inf, f"max_concurrency ({most})")
        together = 1.0 + kept
        pace = max(self._pace.wait(now, kept) if self._pace else 0.0, self._requests.wait(now, together))
        longest = Wait(pace, "requests_per_minute") if pace > 0 else FREE
        for window, amount, name in (
            (self._total, tokens.total, "tokens_per_minute"),
            (self._input, tokens.input, "input_tokens_per_minute"),
            (self._output, tokens.output, "output_tokens_per_minute"),
            (self._day, 1.0, "requests_per_day"),
        ):
            if window.limit < math.inf:
                seconds = window.wait(now, amount * together)
                if seconds > longest.seconds:
                    longest = Wait(seconds, name)
        return longest if longest is FREE else Wait(longest.seconds, self._in_words(longest.why))

    def take(self, now: float, tokens: Tokens) -> Permit:
        """A permit; call it only when `wait` is over. More tokens than a limit are taken as the limit."""
        self.in_flight += 1
        if self._pace:
            self._pace.take(now)
        taken = Tokens(min(tokens.input, self._input.limit), min(tokens.output, self._output.limit))
        both = min(tokens.total, self._total.limit)
        return Permit(
            taken,
            both,
            self._requests.take(now, 1.0),
            self._day.take(now, 1.0),
            self._total.take(now, both),
            self._input.take(now, taken.input),
            self._output.take(now, taken.output),
        )

    def give_back(self, permit: Permit, now: float, tokens: Tokens | None, *, sent: bool = True) -> None:
        """The request ended. `tokens` it used: none when it was turned away, None when nobody knows (the guess stands).

        `sent` False: it never reached the provider, which so did not count it.
        """
        self.in_flight -= 1
        if not sent:
            self._requests.adjust(permit.requests, -1.0, now)
            self._day.adjust(permit.day, -1.0, now)
        if tokens is None:
            return
        self._total.adjust(permit.total, tokens.total - permit.both, now)
        self._input.adjust(permit.input, tokens.input - permit.tokens.input, now)
        # some providers count an answer's tokens as they come, so they are in the window until a minute after its end
        self._output.adjust(permit.output, -permit.tokens.output, now)
        self._output.take(now, tokens.output)

    def used(self, now: float) -> tuple[float, float]:
        """Requests and tokens taken in the last minute."""
        return self._requests.used(now), self._total.used(now)

    def used_of(self, now: float) -> dict[str, float]:
        """What is used of each kind of limit."""
        return {
            "requests_per_minute": self._requests.used(now),
            "tokens_per_minute": self._total.used(now),
            "max_concurrency": float(self.in_flight),
            "input_tokens_per_minute": self._input.used(now),
            "output_tokens_per_minute": self._output.used(now),
            "requests_per_day": self._day.used(now),
        }

    def _in_words(self, name: str) -> str:
        return f"{name} ({getattr(self.limits, name):g})"
