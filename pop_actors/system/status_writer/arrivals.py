"""How seeds become jobs, beside the status writer: a few threads claim, so that no job waits for another's fsyncs."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pop_actors.core.events import JobCreated
from pop_actors.core.ids import timestamp
from pop_actors.storage.layout import Workspace
from pop_actors.system import messages as m
from pop_actors.system.disk_watch import DiskWatch, NoRoom
from pop_actors.system.status_writer import moves
from pop_actors.system.status_writer.job_record import JobRecord

AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Arrived:
    """Arrivals → status-writer: a claim has ended, with a job or (`error`) without."""

    claim: m.Claim
    job: tuple[JobRecord, JobCreated] | None
    error: Exception | None


class Arrivals:
    """Carries claims out; each one's end is told once."""

    def __init__(self, workspace: Workspace, disk: DiskWatch, tell: Callable[[Arrived], None]) -> None:
        self._workspace = workspace
        self._disk = disk
        self._tell = tell
        self._threads = ThreadPoolExecutor(AT_ONCE, "arrivals")

    def claim(self, claim: m.Claim) -> None:
        """Make the seed a job's directory."""
        made = self._threads.submit(self._claim, claim)
        made.add_done_callback(lambda done: self._ended(claim, done))

    def close(self) -> None:
        """Return when no claim is under way."""
        self._threads.shutdown(cancel_futures=True)

    def _claim(self, claim: m.Claim) -> tuple[JobRecord, JobCreated]:
        obstacle = self._disk.look()
        if obstacle is not None:
            raise NoRoom(obstacle.message)
        return moves.claim(self._workspace, claim.seed, claim.run_id, timestamp(time.time()))

    def _ended(self, claim: m.Claim, done: Future[tuple[JobRecord, JobCreated]]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._tell(Arrived(claim, done.result(), None))
        elif isinstance(error, Exception):
            self._tell(Arrived(claim, None, error))
