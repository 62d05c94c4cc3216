"""What is not on disk yet, and who waits for it: written down in rounds, one group of fsyncs each.

Used by the status writer's thread only. Lines and statuses the disk refused are kept for the next round, and so is who
waits for them; one job's trouble holds that job's askers, nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pop_actors.core.states import AT_REST
from pop_actors.errors import Refused
from pop_actors.system.status_writer.job_record import JobRecord

SYNC_THREADS = 4


@dataclass(slots=True)
class Round:
    """What came of one: how many were answered, what the disk said no to (by job), jobs whose log says that they leave
    current/ and that nobody writes to any more, and jobs whose status is up to date."""

    answered: int = 0
    refused: dict[str, OSError] = field(default_factory=dict)
    leaving: list[JobRecord] = field(default_factory=list)
    up_to_date: list[JobRecord] = field(default_factory=list)


class Backlog:
    """The jobs with something to write, and the barriers."""

    def __init__(self) -> None:
        self._dirty: dict[str, JobRecord] = {}
        self._barriers: list[tuple[JobRecord, Future[Any]]] = []
        self._syncers = ThreadPoolExecutor(SYNC_THREADS, "fsync")

    def add(self, record: JobRecord) -> None:
        """It has something to write."""
        self._dirty[record.job_id] = record

    def barrier(self, record: JobRecord) -> Future[Any]:
        """Done when everything of the job so far is on disk."""
        barrier: Future[Any] = Future()
        self._barriers.append((record, barrier))
        return barrier

    def write_down(self, *, statuses: bool) -> Round:
        """The logs of all that wait, fsynced; with `statuses`, what people read too, for which nobody waits."""
        done = Round()
        barriers, self._barriers = self._barriers, []
        hinged_on = [record for record, _ in barriers] + [
            record for record in self._dirty.values() if record.is_departing
        ]
        self._make_durable({record.job_id: record for record in hinged_on}, done)
        for record, barrier in barriers:
            if record.job_id in done.refused and not record.is_suspended:  # without that it is lost, and taken up again
                self._barriers.append((record, barrier))
            else:
                done.answered += 1
                barrier.set_result(None)
        done.leaving = [record for record in self._dirty.values() if _may_leave(record, done)]
        for record in done.leaving:
            del self._dirty[record.job_id]
        if statuses:
            self._write_statuses(done)
        return done

    def give_up(self, record: JobRecord, why: Refused) -> None:
        """There is nothing left to write it to."""
        self._dirty.pop(record.job_id, None)
        for waiting, barrier in self._barriers:
            if waiting is record:
                barrier.set_exception(why)
        self._barriers = [pair for pair in self._barriers if pair[0] is not record]

    def close(self) -> None:
        self._syncers.shutdown(wait=False)

    def _make_durable(self, hinged_on: dict[str, JobRecord], done: Round) -> None:
        """The logs of jobs whose askers wait, or that leave; with them the status of a job that stays in current/ for
        good."""
        for record in self._dirty.values():
            _attempt(record.write, record, done)
        self._sync([record for record in hinged_on.values() if record.job_id not in done.refused], done)
        for record in hinged_on.values():
            if record.document["state"] in AT_REST and not record.is_departing:
                _attempt(partial(record.write_status, durable=True), record, done)

    def _sync(self, records: list[JobRecord], done: Round) -> None:
        if len(records) == 1:
            _attempt(records[0].sync, records[0], done)
        else:
            for _ in self._syncers.map(lambda record: _attempt(record.sync, record, done), records):
                pass

    def _write_statuses(self, done: Round) -> None:
        for record in list(self._dirty.values()):
            if record.is_stale_on_disk:
                _attempt(record.write_status, record, done)
            if record.job_id not in done.refused:
                done.up_to_date.append(record)
                del self._dirty[record.job_id]


def _may_leave(record: JobRecord, done: Round) -> bool:
    return record.is_departing and record.job_id not in done.refused


def _attempt(write: Callable[[], None], record: JobRecord, done: Round) -> None:
    """Write, unless the disk has refused this job already; where it refuses now, keep what it said."""
    if record.job_id in done.refused:
        return
    try:
        write()
    except OSError as error:
        done.refused[record.job_id] = error
