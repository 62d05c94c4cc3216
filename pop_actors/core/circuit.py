"""A model's circuit: whether requests may go to it at all, and who tries when they may not.

Closed, everything goes. It opens for a while when the model fails too often ("failing"), or when the provider asks to
be left alone, as with Retry-After ("asked"). When that time is over it is half open: one request goes as a probe, all
others wait. Its answer closes the circuit; its failure opens it for twice as long. Pure; the gateway acts on it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Literal

from pop_actors.core.limits import FREE, Wait

WINDOW_SECONDS = 30.0
WINDOW_RESULTS = 20
LEAST_FAILURES = 5
FAILING_SHARE = 0.5
FIRST_HOLD_SECONDS = 1.0
MAX_HOLD_SECONDS = 30.0
MAX_ASKED_SECONDS = 3600.0  # a longer wish is asked about again after an hour, by one request
PROBE_PATIENCE_SECONDS = 10.0  # a probe that is not answered by then is left waiting, and another goes

State = Literal["closed", "open", "half_open"]
Event = Literal["failing", "asked", "elapsed", "answered", "failed"]
Verdict = Literal["answered", "failed", "timeout", "refused", "overloaded", "unknown", "unsent"]
"""How a request ended, as far as it says something of the model: `answered` (by a reply, or by an error of the asker's
own, as a 400), `failed` (5xx, no connection), `timeout`, `refused` (429), `overloaded` (503, 529), or nothing
(`unknown`: it was cancelled; `unsent`: it never left)."""

MOVES: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        ("closed", "failing"): "open",
        ("closed", "asked"): "open",
        ("open", "asked"): "open",
        ("open", "elapsed"): "half_open",
        ("half_open", "answered"): "closed",
        ("half_open", "failed"): "open",
        ("half_open", "asked"): "open",
    }
)


class Circuit:
    """`luck` in [0, 1) spreads the moments at which circuits are tried again. `failing`: it is not closed because the
    model fails, and not because we were asked to wait."""

    def __init__(self, luck: Callable[[], float]) -> None:
        self.state: State = "closed"
        self.failing = False
        self._luck = luck
        self._results: deque[tuple[float, bool]] = deque(maxlen=WINDOW_RESULTS)
        self._answered_at = -math.inf
        self._closed_at = -math.inf
        self._until = -math.inf
        self._hold = FIRST_HOLD_SECONDS
        self._probe_at: float | None = None

    def wait(self, now: float) -> Wait:
        """Until a request may go."""
        if self.state == "closed":
            return FREE
        if self.state == "open":
            why = (
                "the end of its circuit's rest after failures"
                if self.failing
                else "the end of a pause the provider asked for"
            )
            return Wait(self._until - now, why) if now < self._until else FREE
        if self._probe_at is None or now >= self._probe_at + PROBE_PATIENCE_SECONDS:
            return FREE
        return Wait(
            self._probe_at + PROBE_PATIENCE_SECONDS - now, "the one request that tries whether the model answers again"
        )

    def take(self, now: float) -> bool:
        """A request goes; call it only when `wait` is over. Whether it is a probe."""
        if self.state == "open":
            self._move("elapsed")
        if self.state == "half_open":
            self._probe_at = now
            return True
        return False

    def ended(
        self, verdict: Verdict, *, probe: bool, sent_at: float, now: float, retry_after: float | None = None
    ) -> None:
        """A request sent then has ended so. `retry_after` (s): the provider asks to be left alone so long."""
        if verdict == "answered":
            self._answered_at = now
        if self.state == "closed":
            self._count(verdict, sent_at, now)
        if retry_after and sent_at >= self._closed_at:
            self._ask(verdict, now, retry_after, probe=probe)
        elif self.state == "half_open" and probe:
            self._judge(verdict, sent_at, now)

    def _judge(self, verdict: Verdict, sent_at: float, now: float) -> None:
        """What a probe came to. The answer to an earlier one, out of patience, is as good; its failure is old news."""
        if verdict != "answered" and sent_at != self._probe_at:
            return
        self._probe_at = None
        if verdict == "answered":
            self._close(now)
        elif verdict not in {"unknown", "unsent"}:
            self.failing = self.failing or verdict != "refused"
            self._hold = min(2 * self._hold, MAX_HOLD_SECONDS)
            self._open("failed", now, self._hold)

    def _count(self, verdict: Verdict, sent_at: float, now: float) -> None:
        """Whether it fails too often. What was sent before the circuit closed is old news; a timeout counts only where
        nobody was answered meanwhile, for the asker may just have been impatient."""
        if sent_at < self._closed_at or verdict in {"unknown", "unsent", "refused"}:
            return
        if verdict == "timeout" and self._answered_at >= sent_at:
            return
        self._results.append((now, verdict != "answered"))
        if verdict == "answered":
            return
        while self._results[0][0] < now - WINDOW_SECONDS:
            self._results.popleft()
        failures = sum(failed for _, failed in self._results)
        if failures >= LEAST_FAILURES and failures >= FAILING_SHARE * len(self._results):
            self.failing = True
            self._open("failing", now, self._hold)

    def _ask(self, verdict: Verdict, now: float, retry_after: float, *, probe: bool) -> None:
        """The provider's own wish goes before our hold; of several wishes the longest counts."""
        if probe and verdict != "refused":
            self.failing = True
        until = self._until
        self._open("asked", now, min(retry_after, MAX_ASKED_SECONDS))
        self._until = max(self._until, until)

    def _open(self, event: Event, now: float, seconds: float) -> None:
        self._move(event)
        self._probe_at = None
        self._until = now + seconds + self._luck() * min(1.0, 0.1 * seconds)

    def _close(self, now: float) -> None:
        self._move("answered")
        self.failing = False
        self._closed_at = now
        self._hold = FIRST_HOLD_SECONDS
        self._results.clear()

    def _move(self, event: Event) -> None:
        self.state = MOVES[self.state, event]

    def __repr__(self) -> str:
        return f"Circuit({self.state}{', failing' if self.failing else ''})"
