"""What everybody may read without asking: the status of every unfinished job, and the seeds that wait.

The status-writer puts documents, the scheduler puts seeds; the API, the scheduler and the metrics read. Documents are
never changed once put, and every operation here is one step of a dict, so no lock is needed.
"""

from __future__ import annotations

from pop_actors.core.status import Document
from pop_actors.errors import Refused
from pop_actors.system.disk_watch import Obstacle
from pop_actors.system.messages import SeedFound


class Board:
    """Unfinished jobs and waiting seeds, by job id."""

    def __init__(self) -> None:
        self._jobs: dict[str, Document] = {}
        self._seeds: dict[str, SeedFound] = {}
        self._epochs: dict[str, int] = {}
        self.claims_seeds = True
        """Whether seeds may become jobs; off while an operator has paused it. Set by the scheduler."""
        self.disk_obstacle: Obstacle | None = None
        """Why the disk takes no new jobs; None: it does. Set by the disk watch."""

    @property
    def takes_seeds(self) -> bool:
        """Whether seeds may become jobs now."""
        return self.claims_seeds and self.disk_obstacle is None

    def put_job(self, document: Document) -> None:
        self._jobs[document["id"]] = document

    def drop_job(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)
        self._epochs.pop(job_id, None)

    def last_epoch(self, job_id: str) -> int:
        """The newest epoch that a process of the job has, or may have, been given; 0 where none was.

        A status shows an epoch once its process was heard of; what is kept here is known before, and outlives whoever
        gave it out.
        """
        document = self._jobs.get(job_id)
        return max(self._epochs.get(job_id, 0), document["epoch"] if document else 0)

    def give_epoch(self, job_id: str, epoch: int) -> None:
        """A process of the job is about to be started with this epoch: no other one gets it."""
        if job_id in self._jobs:
            self._epochs[job_id] = max(epoch, self._epochs.get(job_id, 0))

    def job(self, job_id: str) -> Document | None:
        return self._jobs.get(job_id)

    def refuse_damaged(self, job_id: str) -> None:
        """Refused where the job was set aside because its files are damaged; what it says tells how to repair it."""
        document = self._jobs.get(job_id)
        if document is not None and document.get("damaged"):
            raise Refused("damaged", document["damaged"])

    def jobs(self) -> list[Document]:
        """A copy of the list; the documents themselves never change."""
        return list(self._jobs.values())

    def put_seed(self, seed: SeedFound) -> None:
        self._seeds[seed.job_id] = seed

    def drop_seed(self, job_id: str) -> SeedFound | None:
        return self._seeds.pop(job_id, None)

    def seed(self, job_id: str) -> SeedFound | None:
        return self._seeds.get(job_id)

    def seeds(self) -> list[SeedFound]:
        return list(self._seeds.values())

    def seed_count(self) -> int:
        return len(self._seeds)

    def __repr__(self) -> str:
        return f"Board({len(self._jobs)} jobs, {len(self._seeds)} seeds)"
