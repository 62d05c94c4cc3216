"""What everybody may read without asking: the status of every unfinished job, and the seeds that wait.

The status-writer puts documents, the scheduler puts seeds; the API, the scheduler and the metrics read. Documents are
never changed once put, and every operation here is one step of a dict, so no lock is needed.
"""

from __future__ import annotations

from pop_actors.core.status import Document
from pop_actors.system.messages import SeedFound


class Board:
    """Unfinished jobs and waiting seeds, by job id."""

    def __init__(self) -> None:
        self._jobs: dict[str, Document] = {}
        self._seeds: dict[str, SeedFound] = {}
        self.claims_seeds = True
        """Whether seeds may become jobs; off while an operator has paused it. Set by the scheduler."""

    def put_job(self, document: Document) -> None:
        self._jobs[document["id"]] = document

    def drop_job(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    def job(self, job_id: str) -> Document | None:
        return self._jobs.get(job_id)

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
