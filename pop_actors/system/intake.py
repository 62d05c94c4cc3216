"""How seeds become jobs: found, claimed in rank, as many ahead as can run at once. Used by the scheduler only.

A claim is the status-writer's to carry out; here stands which are under way, and which jobs they became that have not
started yet.
"""

from __future__ import annotations

import heapq
import secrets
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from pop_actors.actors.process_actor import Ref
from pop_actors.core.ids import run_id
from pop_actors.core.locks import Locks
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.seed_queue import SeedQueue

CLAIM_RETRY_SECONDS = 1.0


class Intake:
    """Seeds in the queue, claims under way, and jobs claimed ahead."""

    def __init__(self, board: Board, locks: Locks, is_complete: Callable[[str], bool], status_writer: Ref) -> None:
        self._board = board
        self._locks = locks
        self._status_writer = status_writer
        self._seeds = SeedQueue(board, locks, is_complete)
        self._claiming: dict[str, m.Rank] = {}
        self._ahead: list[tuple[m.Rank, m.Claimed]] = []
        self._retry_at = 0.0

    # Seeds

    def found(self, seed: m.SeedFound) -> None:
        """A seed lies in the drop box; what is a job, or about to be one, is no news."""
        if seed.job_id not in self._claiming and self._board.job(seed.job_id) is None:
            self._seeds.add(seed)

    def unpark(self, job_id: str) -> None:
        """What waited for that job is looked at again."""
        self._seeds.unpark(job_id)

    def unpark_all(self) -> None:
        """Whatever waits for a job is looked at again."""
        self._seeds.unpark_all()

    # Claims

    @property
    def claiming(self) -> AbstractSet[str]:
        """The jobs whose claim has not been answered."""
        return self._claiming.keys()

    @property
    def ahead(self) -> set[str]:
        """The jobs that were claimed and have not started."""
        return {claimed.seed.job_id for _, claimed in self._ahead}

    def claim(self, free: int, most_ahead: int) -> None:
        """Claim what there is for `free` slots, `most_ahead` beyond them, and whatever outranks those."""
        while len(self._claiming) + len(self._ahead) < self._wanted(free, most_ahead) and self._claim_one():
            continue

    def claimed(self, message: m.Claimed) -> bool:
        """The job is there, and waits here for a slot; False where another holds what it conflicts over by now."""
        job_id, conflicts = message.seed.job_id, message.seed.conflicts
        self._claiming.pop(job_id, None)
        if self._locks.obstacle(job_id, conflicts) is not None:
            return False
        self._locks.take(job_id, conflicts)
        heapq.heappush(self._ahead, (message.seed.rank, message))
        return True

    def failed(self, message: m.ClaimFailed) -> None:
        """It did not become a job. Where it is to be tried again, nothing is claimed for a while."""
        self._claiming.pop(message.job_id, None)
        if message.retry:
            self._retry_at = time.monotonic() + CLAIM_RETRY_SECONDS

    def forget_claims(self) -> list[str]:
        """Whose claim will not be answered any more."""
        forgotten = list(self._claiming)
        self._claiming.clear()
        return forgotten

    def next_to_start(self) -> m.Claimed | None:
        """The first in rank of those claimed ahead, taken out; None while a seed that comes before it is on its way."""
        if not self._ahead or (self._board.takes_seeds and self._is_outranked()):
            return None
        if any(rank < self._ahead[0][0] for rank in self._claiming.values()):  # it will be here in a moment
            return None
        return heapq.heappop(self._ahead)[1]

    def drop(self, job_id: str) -> None:
        """That job is not to start any more."""
        self._ahead = [(rank, claimed) for rank, claimed in self._ahead if rank[2] != job_id]
        heapq.heapify(self._ahead)

    def _wanted(self, free: int, most_ahead: int) -> int:
        return free + most_ahead + (len(self._ahead) if self._is_outranked() else 0)

    def _is_outranked(self) -> bool:
        """Whether a seed that waits comes before every job that was claimed ahead."""
        seed = self._seeds.first()
        return seed is not None and bool(self._ahead) and seed.rank < self._ahead[0][0]

    def _claim_one(self) -> bool:
        if not self._board.takes_seeds or time.monotonic() < self._retry_at:
            return False
        seed = self._seeds.take()
        if seed is None:
            return False
        self._claiming[seed.job_id] = seed.rank
        self._locks.take(seed.job_id, seed.conflicts)
        self._status_writer.tell(m.Claim(seed, run_id(time.time(), secrets.token_hex(3))))
        return True
