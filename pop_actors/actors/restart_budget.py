"""How often, and how soon, a child may be started again. Pure: the clock and the randomness are handed in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Backoff:
    """The pause before a restart, in seconds: `min(maximum, minimum * 2**n)`, n failures in a row before this one,
    and up to `jitter` of it on top. A child that ran for `reset_after` is calm: it counts from the start again."""

    minimum: float = 0.2
    maximum: float = 30.0
    jitter: float = 0.2
    reset_after: float = 60.0

    def delay(self, failures_before: int, random: float) -> float:
        """The pause after this many earlier failures in a row; `random` is in [0, 1)."""
        doubled = self.minimum * 2.0 ** min(failures_before, 64)
        return min(self.maximum, doubled) * (1 + random * self.jitter)


@dataclass(slots=True)
class RestartWindow:
    """Restarts in the last `period` seconds; more than `limit` of them are too many."""

    limit: int
    period: float
    times: list[float] = field(default_factory=list)

    def charge(self, now: float) -> bool:
        """Count one restart; True while the number of them is allowed."""
        self.times = [moment for moment in self.times if now - moment < self.period]
        self.times.append(now)
        return len(self.times) <= self.limit
