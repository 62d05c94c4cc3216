"""When a call may go to a provider, and when it may go again. The gateway acts on it; nothing here sleeps.

Seconds are whatever monotonic clock the caller uses. A limit is kept as the provider counts it: never more than the
limit in any `PERIOD_SECONDS`, spread so that no burst is larger than a few seconds' worth.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

PERIOD_SECONDS = 60.0
JITTER_SECONDS = 1.0  # by how much two calls may travel differently long; a window is kept that much longer
BURST_SHARE = 0.05  # of a minute's requests may go at once: a restart forgets the window, and twice this is still 10 %
BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0

Fate = Literal["never_sent", "refused", "ambiguous", "permanent"]


@dataclass(slots=True)
class Grant:
    """So much was taken from a window at that time. `amount` changes when the true amount is known."""

    at: float
    amount: float


class Window:
    """What was taken in the last period. Takes are reserved first and settled later, to less (a refund) or to more."""

    def __init__(self, limit: float, period: float = PERIOD_SECONDS + JITTER_SECONDS) -> None:
        self.limit = limit
        self._period = period
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
        if excess <= 0:
            return 0.0
        for grant in self._grants:
            excess -= grant.amount
            if excess <= 0:
                break
        return max(0.0, grant.at + self._period - now)

    def take(self, now: float, amount: float) -> Grant:
        """Take it, whether it fits or not."""
        grant = Grant(now, amount)
        self._grants.append(grant)
        self._used += amount
        return grant

    def settle(self, grant: Grant, amount: float, now: float) -> None:
        """The true amount of an earlier take."""
        self._forget(now)
        if self._grants and grant.at >= self._grants[0].at:
            self._used += amount - grant.amount
        grant.amount = amount

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

    def wait(self, now: float) -> float:
        """Seconds until the next may be taken."""
        return max(0.0, self._due - self._tolerance - now)

    def take(self, now: float) -> None:
        self._due = max(self._due, now) + self._interval


@dataclass(frozen=True, slots=True)
class Limits:
    """A provider's limits; None: unlimited."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to make one request. It is given back with what the request really used."""

    tokens: Grant


class RateLimiter:
    """All limits of one provider together: requests a minute, tokens a minute, and how many at once."""

    def __init__(self, limits: Limits) -> None:
        self.in_flight = 0
        # what was taken counts in windows without a limit too, so that a limit set later begins with what is known
        self._requests = Window(math.inf)
        self._tokens = Window(math.inf)
        self._pace: Pace | None = None
        self.limits = Limits()
        self.change(limits)

    def change(self, limits: Limits) -> None:
        """Set other limits; what was taken under the old ones still counts."""
        self.limits = limits
        self._requests.limit = limits.requests_per_minute or math.inf
        self._tokens.limit = limits.tokens_per_minute or math.inf
        self._pace = Pace(limits.requests_per_minute) if limits.requests_per_minute else None

    def fits(self, tokens: float) -> bool:
        """Whether a request of so many tokens can ever be let through."""
        return tokens <= self._tokens.limit

    def wait(self, now: float, tokens: float) -> float:
        """Seconds until a request of so many tokens may go: 0 now, infinity when only another's end can make room."""
        most = self.limits.max_concurrency
        if most is not None and self.in_flight >= most:
            return math.inf
        pace = self._pace.wait(now) if self._pace else 0.0
        return max(pace, self._requests.wait(now, 1.0), self._tokens.wait(now, tokens))

    def take(self, now: float, tokens: float) -> Permit:
        """A permit; call it only when `wait` says 0. More tokens than the limit are taken as the limit."""
        self.in_flight += 1
        self._requests.take(now, 1.0)
        if self._pace:
            self._pace.take(now)
        return Permit(self._tokens.take(now, min(tokens, self._tokens.limit)))

    def give_back(self, permit: Permit, now: float, tokens: float | None) -> None:
        """The request ended. `tokens` it used: 0 when it was turned away, None when nobody knows (the guess stands)."""
        self.in_flight -= 1
        if tokens is not None:
            self._tokens.settle(permit.tokens, tokens, now)

    def used(self, now: float) -> tuple[float, float]:
        """Requests and tokens taken in the last minute."""
        return self._requests.used(now), self._tokens.used(now)


class TokenGuess:
    """How many tokens a request will use, learned from what earlier ones of the same model used.

    It follows a higher figure quickly and a lower one slowly, so it settles near the upper end of what is seen.
    """

    BYTES_PER_TOKEN = 4.0
    FIRST_OUTPUT = 512.0

    def __init__(self) -> None:
        self._per_byte = 1 / self.BYTES_PER_TOKEN
        self._output = self.FIRST_OUTPUT

    def input(self, size: int) -> float:
        """Tokens of a prompt of `size` bytes."""
        return size * self._per_byte

    def total(self, size: int, max_tokens: int | None) -> float:
        """Tokens of prompt and answer together."""
        output = self._output if max_tokens is None else min(self._output, max_tokens)
        return self.input(size) + output

    def learn(self, size: int, input_tokens: int, output_tokens: int) -> None:
        """What a request of `size` bytes really used."""
        if size > 0 and input_tokens > 0:
            self._per_byte = _follow(self._per_byte, input_tokens / size)
        self._output = _follow(self._output, float(output_tokens))


def _follow(figure: float, seen: float) -> float:
    return figure + (seen - figure) * (0.5 if seen > figure else 0.1)


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after so many seconds."""

    after: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try again."""

    why: str


def after_failure(
    fate: Fate, retries: int, max_retries: int, retry_after: float | None, remaining: float, luck: float
) -> Retry | GiveUp:
    """Whether a failed attempt is followed by another, and when.

    `retries` were made before; `retry_after` (s) is the provider's wish; `remaining` (s) to the call's deadline.
    `luck` in [0, 1) spreads callers: full jitter, or up to a tenth on top of the provider's wish. A wait that would end
    past the deadline is not begun.
    """
    if fate == "permanent":
        return GiveUp("the same request would fail again")
    if retries >= max_retries:
        return GiveUp(f"{max_retries} retries were made")
    if retry_after is None:
        wait = luck * min(MAX_BACKOFF_SECONDS, BACKOFF_SECONDS * 2.0**retries)
    else:
        wait = retry_after + luck * min(1.0, 0.1 * retry_after)
    if wait >= remaining:
        return GiveUp("the deadline comes before the next try may be made")
    return Retry(wait)
