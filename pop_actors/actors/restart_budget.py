"""How often, and how soon, a child may be started again. Pure: the clock and the randomness are handed in."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before a restart, in seconds: `min(maximum, minimum * 2**n)`, n failures in a row before this one,
    and up to `jitter` of it on top. A child that ran for `reset_after` is calm: it counts from the start again."""

    minimum: float = 0.2
    maximum: float = 30.0
    jitter: float = 0.2
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        for name in ("minimum", "maximum", "jitter", "reset_after"):
            if not is_number(getattr(self, name)):
                raise TypeError(f"a backoff's {name} is a number, not {getattr(self, name)!r}")
        if not 0 <= self.minimum <= self.maximum:
            raise ValueError(
                f"a backoff's minimum ({self.minimum}) is from 0 on and at most its maximum ({self.maximum})"
            )
        if not (self.jitter >= 0 and self.reset_after >= 0):
            raise ValueError(f"a backoff's jitter and reset_after are from 0 on, not {self.jitter}, {self.reset_after}")

    def delay(self, failures_before: int, random: float) -> float:
        """The pause after this many earlier failures in a row; `random` is in [0, 1)."""
        doubled = self.minimum * 2.0 ** min(failures_before, 64)
        return min(self.maximum, doubled) * (1 + random * self.jitter)


def is_number(value: object) -> bool:
    """Whether it can be so many seconds, or so many times."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


@dataclass(slots=True)
class RestartWindow:
    """Restarts in the last `period` seconds; more than `limit` of them are too many. Keeps no more than that."""

    limit: int
    period: float
    times: deque[float] = field(default_factory=deque)

    def charge(self, now: float) -> bool:
        """Count one restart; True while the number of them is allowed."""
        self.times.append(now)
        while len(self.times) > self.limit + 1 or now - self.times[0] >= self.period:
            self.times.popleft()
        return len(self.times) <= self.limit
