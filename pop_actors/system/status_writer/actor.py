"""The status-writer actor. Jobs and the daemon's actors tell it what happened; it appends, folds, and makes durable.

Events are appended at once and become tasks-status.json within `COALESCE_SECONDS`; the last of a run at once. Asked
ones are barriers: all that wait are made durable together (one fsync a job and group) before their askers go on. Where
the disk refuses, the lines are kept and tried again each `RETRY_SECONDS`; barriers wait.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from pop_actors.actors.actor import Actor
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.timers import Timers
from pop_actors.core import events as e
from pop_actors.core import observations as seen
from pop_actors.core.ids import seconds_of
from pop_actors.core.messages import Record
from pop_actors.core.states import ENDED
from pop_actors.errors import Damaged, Refused, SeedRejected, Unavailable
from pop_actors.storage.claims import NotASeed, SeedChanged, reject
from pop_actors.storage.layout import Workspace
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.status_writer import moves
from pop_actors.system.status_writer.arrivals import Arrivals, Arrived
from pop_actors.system.status_writer.departures import Departures
from pop_actors.system.status_writer.job_record import JobRecord

COALESCE_SECONDS = 0.05
RETRY_SECONDS = 1.0
SYNC_THREADS = 4
Refusals = dict[str, OSError]
"""What the disk said no to in one flush, by job. One job's trouble holds that job's askers, nobody else's."""

_log = logging.getLogger(__name__)


class StatusWriter(Actor):
    """Owns `current/`: every job's log and status, claims, rejections and finishes."""

    def __init__(
        self, workspace: Workspace, board: Board, feed: seen.Feed, timers: Timers, scheduler: Ref, watcher: Ref
    ) -> None:
        super().__init__()
        self._workspace = workspace
        self._board = board
        self._feed = feed
        self._timers = timers
        self._scheduler = scheduler
        self._watcher = watcher
        self._jobs: dict[str, JobRecord] = {}
        self._barriers: list[tuple[JobRecord, Future[Any]]] = []
        self._dirty: dict[str, JobRecord] = {}
        self._events_since_flush = 0
        self._flush_is_due = False
        self._flush_is_coming = False
        self._disk_refuses = False
        self._syncers = ThreadPoolExecutor(SYNC_THREADS, "fsync")
        self._arrivals = Arrivals(workspace, self._tell_quietly)
        self._departures = Departures(workspace, self._gone)
        self._handlers: dict[type, Callable[[Any], object]] = {
            Record: self._record,
            m.Note: self._note,
            m.Flush: self._flush,
            m.Claim: self._claim,
            Arrived: self._arrived,
            m.TurnDown: self._turn_down,
            m.BeginRun: self._begin_run,
        }

    def on_start(self) -> None:
        for record in moves.settle(self._workspace):
            self._jobs[record.job_id] = record
            self._board.put_job(record.document)
            if record.is_stale_on_disk:
                self._dirty[record.job_id] = record
                self._flush_later()
        self._scheduler.tell(m.StatusWriterUp())

    def on_stop(self) -> None:
        self._arrivals.close()
        try:
            self._flush(m.Flush(statuses=True))
        finally:
            self._departures.close()
            for record in self._jobs.values():
                record.close()
            self._syncers.shutdown(wait=False)

    def receive(self, message: object) -> object:
        return self._handlers[type(message)](message)

    def snapshot(self) -> dict[str, Any]:
        return {**super().snapshot(), "jobs": len(self._jobs), "diskRefuses": self._disk_refuses}

    @property
    def disk_refuses(self) -> bool:
        """Whether the last write failed; work waits until one succeeds."""
        return self._disk_refuses

    # What happened

    def _record(self, message: Record) -> Future[Any] | None:
        record = self._jobs.get(message.job_id)
        if record is None:
            raise Refused("not_found", f"job {message.job_id} is not running here")
        try:
            events = [e.event_from(document) for document in message.events]
        except Damaged as error:
            raise Refused("bad_event", str(error)) from None
        return self._take(record, [event for event in events if record.is_new(event)])

    def _note(self, message: m.Note) -> Future[Any] | None:
        record = self._jobs.get(message.job_id)
        if record is None:
            _log.debug("%s of job %s came after its end", message.event.type, message.job_id)
            return None
        if isinstance(message.event, e.ProcessDown):
            with contextlib.suppress(OSError):  # a name that stays is told from a living process at the next start
                self._workspace.job(message.job_id).runner_pid.unlink()
        return self._take(record, [message.event] if record.is_new(message.event) else [])

    def _take(self, record: JobRecord, events: list[e.Event]) -> Future[Any] | None:
        """Append, fold and show. Where somebody asked, the future is done once everything so far is on disk."""
        shown: list[seen.Observation] = []
        try:
            for event in events:
                record.take(event)
                shown.append(seen.JobChanged(record.job_id, event, record.document))
        except (KeyError, ValueError) as error:
            raise Refused("bad_event", f"{event.type} makes no sense for job {record.job_id}: {error}") from None
        finally:
            self._append(record)
            self._show(record, shown)
        if not self.is_asked:
            self._flush_later()
            return None
        return self._barrier(record)

    def _append(self, record: JobRecord) -> None:
        self._dirty[record.job_id] = record
        try:
            record.write()
        except OSError as error:
            self._disk_says_no(error)

    def _show(self, record: JobRecord, shown: list[seen.Observation]) -> None:
        self._events_since_flush += len(shown)
        self._board.put_job(record.document)
        if record.seen_at is not None and record.document["currentStage"] is not None:
            self._feed.publish(seen.FirstStage(record.job_id, time.monotonic() - record.seen_at))
            record.seen_at = None
        for observation in shown:
            self._feed.publish(observation)

    def _barrier(self, record: JobRecord) -> Future[Any]:
        barrier: Future[Any] = Future()
        self._barriers.append((record, barrier))
        self._flush_next()
        self._flush_later()
        return barrier

    # Making it durable

    def _flush_next(self) -> None:
        """Flush after what is in the mailbox now: all barriers that wait there share one round of fsyncs."""
        if not self._flush_is_coming:
            self._flush_is_coming = True
            self.tell_self(m.Flush())

    def _flush_later(self, seconds: float = COALESCE_SECONDS) -> None:
        if not self._flush_is_due:
            self._flush_is_due = True
            self._timers.after(seconds, lambda: self._tell_quietly(m.Flush(statuses=True)))

    def _tell_quietly(self, message: object) -> None:
        """From other threads: where this incarnation is over, the next one starts from the logs."""
        with contextlib.suppress(Unavailable):
            self.tell_self(message)

    def _flush(self, message: m.Flush) -> None:
        self._flush_is_coming = False
        self._flush_is_due = self._flush_is_due and not message.statuses
        barriers, self._barriers = self._barriers, []
        began = time.monotonic()
        refused: Refusals = {}
        self._make_durable({record.job_id: record for record, _ in barriers}, refused)
        for record, barrier in barriers:
            if record.job_id in refused:
                self._barriers.append((record, barrier))
            else:
                barrier.set_result(None)
        self._leave_to_others(refused)
        if message.statuses:
            self._write_statuses(refused)
        self._give_up_removed(refused)
        if refused:
            self._disk_says_no(next(iter(refused.values())))
            return
        self._disk_refuses = False
        self._feed.publish(seen.StatusWritten(len(barriers), self._events_since_flush, time.monotonic() - began))
        self._events_since_flush = 0

    def _make_durable(self, hinged_on: dict[str, JobRecord], refused: Refusals) -> None:
        """The logs of the jobs whose askers wait; with them the status of a job that stays in current/ for good."""
        for record in self._dirty.values():
            _attempt(record.write, record, refused)
        self._sync([record for record in hinged_on.values() if record.job_id not in refused], refused)
        for record in hinged_on.values():
            if record.document["state"] in ENDED and not record.is_departing:
                _attempt(partial(record.write_status, durable=True), record, refused)

    def _leave_to_others(self, refused: Refusals) -> None:
        """Jobs whose log says that they leave current/ are moved, and not written to here any more."""
        leaving = [record for record in self._dirty.values() if record.is_departing and record.job_id not in refused]
        for record in leaving:
            del self._dirty[record.job_id]
            self._depart(record)

    def _write_statuses(self, refused: Refusals) -> None:
        """What people read; no job waits for it."""
        for record in list(self._dirty.values()):
            if record.is_stale_on_disk:
                _attempt(record.write_status, record, refused)
            if record.job_id not in refused:
                self._part_with_ended(record)
                del self._dirty[record.job_id]

    def _sync(self, records: list[JobRecord], refused: Refusals) -> None:
        if len(records) == 1:
            _attempt(records[0].sync, records[0], refused)
        else:
            for _ in self._syncers.map(lambda record: _attempt(record.sync, record, refused), records):
                pass

    def _give_up_removed(self, refused: Refusals) -> None:
        """Somebody removed the directory of a job: there is nothing left to write to, and nobody else's work waits."""
        known = [job_id for job_id in refused if job_id in self._jobs]
        removed = [job_id for job_id in known if not self._jobs[job_id].directory.path.is_dir()]
        for job_id in removed:
            _log.error("%s: its directory in current/ was removed; the job is given up", job_id)
            del refused[job_id]
            self._dirty.pop(job_id, None)
            self._jobs.pop(job_id).close()
            self._board.drop_job(job_id)
        for record, barrier in [pair for pair in self._barriers if pair[0].job_id in removed]:
            barrier.set_exception(Refused("not_found", f"the directory of {record.job_id} was removed"))
        self._barriers = [pair for pair in self._barriers if pair[0].job_id not in removed]

    def _disk_says_no(self, error: OSError) -> None:
        if not self._disk_refuses:
            _log.error("the disk refuses (%s): jobs wait at their next barrier until it takes writes again", error)
        self._disk_refuses = True
        self._flush_later(RETRY_SECONDS)

    # Ends

    def _depart(self, record: JobRecord) -> None:
        """Its log says that it is over: from here on nobody writes to it but who moves it."""
        record.close()
        self._jobs.pop(record.job_id, None)
        self._departures.add(record)

    def _gone(self, record: JobRecord) -> None:
        """In the departures' thread: the job lies where it belongs."""
        self._board.drop_job(record.job_id)
        self._scheduler.tell(m.JobDeparted(record.job_id))
        self._show_end(record, "rejected" if record.is_rejected else "done")

    def _part_with_ended(self, record: JobRecord) -> None:
        """A job in error, or stopped, stays in current/; its log needs no descriptor while it waits for a person."""
        if record.document["state"] in ENDED:
            record.close()
            if not record.has_parted:
                record.has_parted = True
                self._show_end(record, record.document["state"])

    def _show_end(self, record: JobRecord, outcome: str) -> None:
        seconds = time.time() - seconds_of(record.document["createdAt"])
        self._feed.publish(seen.JobFinished(record.job_id, record.document["pipeline"], outcome, seconds))

    # Beginnings

    def _claim(self, message: m.Claim) -> None:
        self._arrivals.claim(message)

    def _arrived(self, message: Arrived) -> None:
        seed, error = message.claim.seed, message.error
        if message.job is not None:
            self._begin(*message.job, seed)
            self._scheduler.tell(m.Claimed(seed, message.claim.run_id))
            return
        if isinstance(error, SeedRejected):
            self._turn_down(m.TurnDown(seed.job_id, error.reason, error.message))
        elif isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            self._disk_says_no(error)
            self._scheduler.tell(m.ClaimFailed(seed.job_id, str(error), retry=True))
            return
        self._scheduler.tell(m.ClaimFailed(seed.job_id, str(error), retry=False))
        if isinstance(error, SeedChanged):  # told last: the scheduler takes no news of a seed that is being claimed
            self._watcher.tell(m.LookAgain(seed.job_id))

    def _begin(self, record: JobRecord, created: e.JobCreated, seed: m.SeedFound) -> None:
        record.seen_at = seed.seen_at
        self._jobs[record.job_id] = record
        self._board.put_job(record.document)
        self._feed.publish(seen.SeedClaimed(record.job_id, created.pipeline))
        self._feed.publish(seen.JobChanged(record.job_id, created, record.document))

    def _turn_down(self, message: m.TurnDown) -> None:
        try:
            reject(self._workspace, message.job_id, message.reason, message.message, time.time())
        except NotASeed:
            return
        except OSError as error:
            self._disk_says_no(error)
            self._timers.after(RETRY_SECONDS, lambda: self._watcher.tell(m.LookAgain(message.job_id)))
            return
        self._feed.publish(seen.SeedTurnedDown(message.job_id, message.reason, message.message))

    def _begin_run(self, message: m.BeginRun) -> Future[Any]:
        record = self._jobs.get(message.job_id)
        if record is None:
            record = self._reopened(message.job_id)
            self._jobs[message.job_id] = record
        elif record.document["state"] not in ENDED:
            raise Refused("running", f"{message.job_id} has not ended yet; stop it first: popctl stop {message.job_id}")
        self._take(record, [message.event])
        answer: Future[Any] = Future()
        _, barrier = self._barriers[-1]
        barrier.add_done_callback(lambda _: answer.set_result(record.document))
        return answer

    def _reopened(self, job_id: str) -> JobRecord:
        try:
            return moves.reopen(self._workspace, job_id)
        except OSError as error:
            raise Refused("disk", f"{job_id} cannot be brought back to current/: {error}") from None


def _attempt(write: Callable[[], None], record: JobRecord, refused: Refusals) -> None:
    """Write, unless the disk has refused this job already; where it refuses now, keep what it said."""
    if record.job_id in refused:
        return
    try:
        write()
    except OSError as error:
        refused[record.job_id] = error
