"""Calls on their way into a queue while their jobs' journals are opened, and what is kept for them meanwhile.

Without it the jobs whose journals open first would take everything with all their calls. Pure; admission asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

PATIENCE_SECONDS = 1.0  # a journal opens in milliseconds; a disk that hangs must not hold others up


@dataclass(slots=True)
class _Job:
    since: float
    calls: int = 0


class Expected:
    """Jobs with calls on their way. A job's are waited for so long after the first of them was announced."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    def add(self, job_id: str, now: float) -> None:
        """A call of that job is on its way."""
        job = self._jobs.get(job_id)
        if job is None:
            job = self._jobs[job_id] = _Job(now)
        job.calls += 1

    def remove(self, job_id: str) -> None:
        """It has come, or does not come after all."""
        job = self._jobs[job_id]
        job.calls -= 1
        if not job.calls:
            del self._jobs[job_id]

    def kept(self, job_id: str, under_way: Callable[[str], int], now: float) -> tuple[int, float]:
        """How many requests are kept for others while this job wants one more, and seconds until that may be fewer.

        `under_way(job)`: requests of a job. Each other job on its way may first have as many as this one has.
        """
        if not self._jobs:
            return 0, math.inf
        own = under_way(job_id)
        kept, soonest = 0, math.inf
        for name, job in self._jobs.items():
            left = job.since + PATIENCE_SECONDS - now
            missing = min(job.calls, own - under_way(name)) if name != job_id else 0
            if left > 0 and missing > 0:
                kept += missing
                soonest = min(soonest, left)
        return kept, soonest

    def __repr__(self) -> str:
        return f"Expected({ {name: job.calls for name, job in self._jobs.items()} })"
