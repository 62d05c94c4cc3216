"""Jobs that are to go on and wait for a slot, in the order they came. Pure.

A job that conflicts with another over something is parked at the one that holds it, so that finding the next costs the
same however many wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count

from pop_actors.core.locks import Locks


class ResumeQueue:
    """Job ids, each once."""

    def __init__(self, locks: Locks, conflicts: Callable[[str], Sequence[str]]) -> None:
        """`conflicts` tells what a job must not share with another; it is asked when that job's turn comes."""
        self._locks = locks
        self._conflicts = conflicts
        self._numbers = count()
        self._waiting: dict[str, int] = {}
        self._turns: list[tuple[int, str]] = []
        self._parked: dict[str, list[tuple[int, str]]] = {}

    def add(self, job_id: str) -> None:
        """Behind all others; where it is if it waits already."""
        if job_id not in self._waiting:
            self._waiting[job_id] = number = next(self._numbers)
            heapq.heappush(self._turns, (number, job_id))

    def drop(self, job_id: str) -> None:
        """It is not to go on any more."""
        self._waiting.pop(job_id, None)

    def take(self) -> str | None:
        """The first whose locks are free; it holds them now. None where nobody's are."""
        while self._turns:
            turn = heapq.heappop(self._turns)
            number, job_id = turn
            if self._waiting.get(job_id) != number:
                continue
            locks = self._conflicts(job_id)
            holder = self._locks.obstacle(job_id, locks)
            if holder is None:
                del self._waiting[job_id]
                self._locks.take(job_id, locks)
                return job_id
            self._parked.setdefault(holder, []).append(turn)
        return None

    def unpark(self, holder: str) -> None:
        """That job holds nothing any more: who waited for it is looked at again, in the old order."""
        for turn in self._parked.pop(holder, ()):
            heapq.heappush(self._turns, turn)

    @property
    def has_turns(self) -> bool:
        """Whether anybody waits for nothing but a slot, as far as is known."""
        return bool(self._turns)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._waiting

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"ResumeQueue({len(self)} jobs, {len(self._parked)} in the way)"
