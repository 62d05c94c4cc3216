"""From a job that has a slot to the order that starts its process. Used by the scheduler only.

What must stand in the job's log before a process reads it is noted first; and no two processes of a job get one epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from pop_actors.actors.process_actor import Ref
from pop_actors.core import events as e
from pop_actors.core.ids import timestamp
from pop_actors.core.job_spec import JobSpec
from pop_actors.core.status import Document
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.job_specs import JobSpecs
from pop_actors.system.notes import Notes


@dataclass(frozen=True, slots=True)
class ReadyToStart:
    """Starts → scheduler: what had to be noted before this start is on disk."""

    spec: JobSpec


class Starts:
    """Orders, and those that wait for a note."""

    def __init__(
        self, board: Board, specs: JobSpecs, notes: Notes, jobs: Ref, put: Callable[[ReadyToStart], None]
    ) -> None:
        """`put` is called in any thread."""
        self._board = board
        self._specs = specs
        self._notes = notes
        self._jobs = jobs
        self._put = put
        self._waiting: dict[str, JobSpec] = {}

    def begin(self, claimed: m.Claimed) -> None:
        """A job's first process."""
        self.order(self._specs.fresh(claimed.seed, claimed.run_id))

    def resume(self, document: Document) -> None:
        """One more process for a job of current/. PopError where its files cannot be read any more."""
        job_id = document["id"]
        spec = self._specs.resumed(document)
        last = self._board.last_epoch(job_id)
        if document["state"] == "pending" and last == document["epoch"]:
            self.order(spec)
            return
        self._waiting[job_id] = spec
        lost = e.ProcessDown(at=timestamp(time.time()), cause="lost", detail="the service was down", ended=last)
        self._notes.note(job_id, lost).add_done_callback(lambda _: self._put(ReadyToStart(spec)))

    def still_waits(self, ready: ReadyToStart) -> bool:
        """Whether nobody has called it off while it was noted; it does not wait any more."""
        waits = self._waiting.get(ready.spec.job_id) is ready.spec
        if waits:
            del self._waiting[ready.spec.job_id]
        return waits

    def call_off(self, job_id: str) -> None:
        """It is not to start, or not by this order."""
        self._waiting.pop(job_id, None)

    def call_off_all(self) -> None:
        """Whoever was to carry the orders out is gone."""
        self._waiting.clear()

    def order(self, spec: JobSpec) -> None:
        """With an epoch that no process of the job has had."""
        epoch = self._board.last_epoch(spec.job_id) + 1
        self._board.give_epoch(spec.job_id, epoch)
        self._jobs.tell(m.StartJob(spec, epoch))
