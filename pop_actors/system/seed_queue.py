"""The seeds that wait to become jobs, in rank. A seed that must wait for a job is parked there, so that nobody looks at
it again before that job has ended. Used by the scheduler only.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from pop_actors.core.locks import Locks
from pop_actors.system import messages as m
from pop_actors.system.board import Board


class SeedQueue:
    """Ranks of seeds; the seeds themselves are on the board, and a rank without its seed is passed over."""

    def __init__(self, board: Board, locks: Locks, is_complete: Callable[[str], bool]) -> None:
        self._board = board
        self._locks = locks
        self._is_complete = is_complete
        self._ranks = [seed.rank for seed in board.seeds()]
        heapq.heapify(self._ranks)
        self._parked: dict[str, list[m.Rank]] = {}

    def add(self, seed: m.SeedFound) -> None:
        """Put the seed on the board, and its rank in the queue where it is new."""
        known = self._board.seed(seed.job_id)
        self._board.put_seed(seed)
        if known is None or known.rank != seed.rank:
            heapq.heappush(self._ranks, seed.rank)

    def first(self) -> m.SeedFound | None:
        """The first in rank that nothing holds back, left in the queue."""
        while self._ranks:
            rank = self._ranks[0]
            seed = self._board.seed(rank[2])
            if seed is not None and seed.rank == rank:
                obstacle = self._obstacle(seed)
                if obstacle is None:
                    return seed
                self._parked.setdefault(obstacle, []).append(rank)
            heapq.heappop(self._ranks)
        return None

    def take(self) -> m.SeedFound | None:
        """The first, taken out of the queue and off the board."""
        seed = self.first()
        if seed is not None:
            heapq.heappop(self._ranks)
            self._board.drop_seed(seed.job_id)
        return seed

    def unpark(self, job_id: str) -> None:
        """What waited for that job is looked at again."""
        for rank in self._parked.pop(job_id, ()):
            heapq.heappush(self._ranks, rank)

    def unpark_all(self) -> None:
        """Everything is looked at again."""
        for job_id in list(self._parked):
            self.unpark(job_id)

    def _obstacle(self, seed: m.SeedFound) -> str | None:
        """The job this seed must wait for, or the job that holds what it conflicts over."""
        for job_id in seed.depends_on:
            if not self._is_complete(job_id):
                return job_id
        return self._locks.obstacle(seed.job_id, seed.conflicts)
