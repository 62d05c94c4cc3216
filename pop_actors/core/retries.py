"""Whether a failed request is sent again, when, and how many of all requests may be such. Pure; nothing here sleeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
_ROUNDING = 1e-9

Fate = Literal["never_sent", "refused", "ambiguous", "permanent"]


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


class RetryBudget:
    """How many retries one provider may get, so that an outage does not multiply traffic.

    Each first try earns `SHARE` of a retry. A retry costs one, which comes back when it succeeds: only retries that
    failed too are traffic for nothing. Apart from that one a second is always allowed, and up to `RESERVE` at once.
    So in any stretch, failed retries <= SHARE x first tries + seconds + what was saved up, at most `MOST`.
    """

    SHARE = 0.2
    RESERVE = 10.0
    PER_SECOND = 1.0
    MOST = 100.0

    def __init__(self) -> None:
        self._left = self.RESERVE
        self._at = -math.inf

    def left(self, now: float) -> float:
        """Retries that may be made now."""
        if now > self._at:
            if self._left < self.RESERVE and self._at > -math.inf:
                self._left = min(self.RESERVE, self._left + (now - self._at) * self.PER_SECOND)
            self._at = now
        return self._left

    def wait(self, now: float) -> float:
        """Seconds until one may be made."""
        short = 1.0 - self.left(now)
        return short / self.PER_SECOND if short > _ROUNDING else 0.0

    def first_try(self, now: float) -> None:
        """A call is made for the first time."""
        self._left = min(self.MOST, self.left(now) + self.SHARE)

    def not_made(self, now: float) -> None:
        """A first try was not made after all."""
        self._left = self.left(now) - self.SHARE

    def retry(self, now: float) -> None:
        """A call is made again."""
        self._left = self.left(now) - 1.0

    def worked(self, now: float) -> None:
        """A retry got its answer."""
        self._left = min(self.MOST, self.left(now) + 1.0)
