"""Jobs that cannot be read as they lie: on the board in error, whatever is asked of them refused, until repaired.

The status-writer's; used by its thread only.
"""

from __future__ import annotations

import time
from typing import NoReturn

from pop_actors.errors import Refused, StorageError
from pop_actors.storage.layout import Workspace
from pop_actors.storage.repair import Repaired, repair_inputs, repair_job
from pop_actors.storage.set_aside import SetAside, set_aside
from pop_actors.system.board import Board


class DamagedJobs:
    """What recovery set aside, by job id. Their files are touched by a repair only."""

    def __init__(self, workspace: Workspace, board: Board) -> None:
        self._workspace = workspace
        self._board = board
        self._jobs: dict[str, SetAside] = {}

    def add(self, job: SetAside) -> None:
        """Show it; it holds no slot and stops nobody."""
        self._jobs[job.job_id] = job
        self._board.put_job(job.document)

    def refuse(self, job_id: str) -> None:
        """Refused `damaged` where it is one of them."""
        if job_id in self._jobs:
            raise Refused("damaged", self._jobs[job_id].message)

    def turned_out(self, job_id: str, error: StorageError) -> NoReturn:
        """A job that was taken up turned out to be one of them: Refused `damaged`."""
        self.add(set_aside(self._workspace, job_id, error))
        raise Refused("damaged", self._jobs[job_id].message)

    def repair(self, job_id: str) -> Repaired:
        """Put its files right. Refused `damaged` where they cannot be; then they are as they were."""
        try:
            repaired = repair_job(self._workspace, job_id, time.time())
        except (StorageError, OSError) as error:
            raise Refused("damaged", f"{job_id} cannot be repaired: {error}") from None
        self._jobs.pop(job_id, None)
        return repaired

    def repair_inputs(self, job_id: str) -> Repaired:
        """Put right what a job that has ended was started with. Refused `damaged` as `repair`."""
        try:
            return repair_inputs(self._workspace, job_id)
        except (StorageError, OSError) as error:
            raise Refused("damaged", f"{job_id} cannot be repaired: {error}") from None

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)
