"""How many requests one model takes at once, found out by trying: cut when it refuses, one more at a time when not.

Latency is no signal here (the length of answers rules it), so only refusals count. Pure; the gateway acts on it.
"""

from __future__ import annotations

import math

CUT = 0.6
LEAST_WINDOW = 5  # answers: where the provider takes one at a time, not every other request should be refused
CLEAN_WINDOWS = 10  # after so many in a row the step grows by one each: a single refusal long ago must not cost minutes
RAMP_ENDS = 256.0


class AdaptiveConcurrency:
    """`limit`: infinity until the first refusal, then cut to `CUT` of what was under way, at most once per round trip.

    It grows by one for each window of clean successes (as many as the limit), and only while it is reached: a limit
    nobody tries proves nothing. After a standstill (`restart`) it begins with one and doubles per round trip up to
    where it was.
    """

    def __init__(self) -> None:
        self.limit = math.inf
        self.in_flight = 0
        self._ramp = math.inf
        self._cut_at = -math.inf
        self._reached_at = -math.inf
        self._clean = 0
        self._windows = 0

    @property
    def allowed(self) -> float:
        """Requests that may be under way now; at least 1."""
        return max(1.0, min(self.limit, self._ramp))

    @property
    def has_room(self) -> bool:
        return self.in_flight + 1 <= self.allowed

    def take(self, now: float) -> int:
        """A request goes; how many are under way then."""
        self.in_flight += 1
        if not self.has_room:
            self._reached_at = now
        return self.in_flight

    def leave(self) -> None:
        """A request ended; tell first whether it was refused or answered."""
        self.in_flight -= 1

    def refused(self, sent_at: float, now: float, under_way: int) -> None:
        """A request met a refusal (429, 503, 529) that was sent then, as the last of so many under way. What was sent
        before the last cut is old news."""
        if sent_at <= self._cut_at:
            return
        self.limit = max(1.0, math.floor(min(self.limit, max(under_way, self.in_flight)) * CUT))
        self._cut_at = now
        self._clean = self._windows = 0

    def answered(self, sent_at: float) -> None:
        """A request sent then got its answer."""
        if self._ramp < math.inf:
            self._ramp += 1.0
            if self._ramp >= min(self.limit, RAMP_ENDS):
                self._ramp = math.inf
        elif sent_at > self._cut_at and self._reached_at >= sent_at:
            self._clean += 1
            if self._clean >= max(self.limit, LEAST_WINDOW):
                self._clean = 0
                self._windows += 1
                self.limit += max(1, self._windows - CLEAN_WINDOWS + 1)

    def restart(self) -> None:
        """After a standstill: not all who waited at once."""
        self._ramp = 1.0
