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
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pop_actors.actors.actor import Actor
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.timers import Timers
from pop_actors.core import events as e
from pop_actors.core import observations as seen
from pop_actors.core.messages import Record
from pop_actors.core.states import AT_REST, ENDED
from pop_actors.errors import Damaged, Refused, SeedRejected, StorageError, Unavailable
from pop_actors.storage.claims import NotASeed, SeedChanged, reject
from pop_actors.storage.layout import Workspace
from pop_actors.storage.moves import unlink_if_there
from pop_actors.storage.repair import log_fault
from pop_actors.storage.set_aside import SetAside, set_aside
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.disk_watch import DiskWatch, NoRoom
from pop_actors.system.status_writer import moves
from pop_actors.system.status_writer.arrivals import Arrivals, Arrived
from pop_actors.system.status_writer.backlog import Backlog
from pop_actors.system.status_writer.damaged_jobs import DamagedJobs
from pop_actors.system.status_writer.departures import Departures
from pop_actors.system.status_writer.job_record import JobRecord
from pop_actors.system.status_writer.unlisted_logs import unlisted_logs

COALESCE_SECONDS = 0.05
GAP = "gap"
RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Registered:
    """Status-writer → itself: it can be found now, so whoever hears that it is up may send at once."""


class StatusWriter(Actor):
    """Owns `current/`: every job's log and status, claims, rejections and finishes."""

    mailbox_policy = "block"  # no event and no barrier may be lost: jobs wait at their sockets

    def __init__(
        self,
        workspace: Workspace,
        board: Board,
        feed: seen.Feed,
        timers: Timers,
        disk: DiskWatch,
        scheduler: Ref,
        watcher: Ref,
    ) -> None:
        super().__init__()
        self._workspace = workspace
        self._board = board
        self._feed = feed
        self._timers = timers
        self._disk = disk
        self._scheduler = scheduler
        self._watcher = watcher
        self._jobs: dict[str, JobRecord] = {}
        self._backlog = Backlog()
        self._events_since_flush = 0
        self._flush_is_due = False
        self._flush_is_coming = False
        self._disk_refuses = False
        self._arrivals = Arrivals(workspace, disk, self._tell_quietly)
        self._departures = Departures(workspace, disk, self._gone)
        self._damaged = DamagedJobs(workspace, board)
        self._handlers: dict[type, Callable[[Any], object]] = {
            Record: self._record,
            m.Note: self._note,
            m.Flush: self._flush,
            _Registered: lambda _: self._scheduler.tell(m.StatusWriterUp()),
            m.Claim: self._claim,
            Arrived: self._arrived,
            m.TurnDown: self._turn_down,
            m.BeginRun: self._begin_run,
            m.RepairJob: self._repair,
        }

    def on_start(self) -> None:
        for found in moves.settle(self._workspace):
            if isinstance(found, SetAside):
                self._damaged.add(found)
            else:
                self._take_up(found)
        self.put(_Registered())

    def on_stop(self) -> None:
        self._arrivals.close()
        try:
            self._flush(m.Flush(statuses=True))
        finally:
            self._departures.close()
            for record in self._jobs.values():
                record.close()
            self._backlog.close()

    def receive(self, message: object) -> object:
        return self._handlers[type(message)](message)

    def snapshot(self) -> dict[str, Any]:
        jobs = {"jobs": len(self._jobs), "damaged": len(self._damaged)}
        return {**super().snapshot(), **jobs, "diskRefuses": self._disk_refuses}

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
        self._take(record, record.in_sequence(events))
        if self.is_asked and any(map(record.is_new, events)):
            have = record.have(message.epoch)
            raise Refused(GAP, f"events after {have} of epoch {message.epoch} are missing", {"have": have})
        return self._settled(record)

    def _note(self, message: m.Note) -> Future[Any] | None:
        record = self._jobs.get(message.job_id)
        if record is None:
            _log.debug("%s of job %s came after its end", message.event.type, message.job_id)
            return None
        events = [message.event] if record.is_new(message.event) else []
        if isinstance(message.event, e.ProcessDown):
            job = self._workspace.job(message.job_id)
            with contextlib.suppress(OSError):  # a name that stays is told from a living process at the next start
                unlink_if_there(job.runner_pid)
            if record.document["state"] in AT_REST:
                return self._settled(record)  # it was killed on its way out: nothing is to be taken up
        if events and isinstance(message.event, e.ProcessDown | e.JobStopped):  # nobody else reports them any more
            logs = self._workspace.job(message.job_id).files("logs")
            events = [*unlisted_logs(logs, record.document, message.event.at), *events]
        self._take(record, events)
        return self._settled(record)

    def _take(self, record: JobRecord, events: list[e.Event]) -> None:
        """Append, fold and show."""
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
            self._flush_later()

    def _settled(self, record: JobRecord) -> Future[Any] | None:
        """Where somebody asked: done once everything so far is on disk."""
        if not self.is_asked:
            return None
        self._flush_next()
        return self._backlog.barrier(record)

    def _append(self, record: JobRecord) -> None:
        self._backlog.add(record)
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
        began = time.monotonic()
        done = self._backlog.write_down(statuses=message.statuses)
        for record in done.leaving:
            self._depart(record)
        for record in done.up_to_date:
            self._part_with_ended(record)
        refused = [error for job_id, error in done.refused.items() if not self._was_removed(job_id)]
        if refused:
            self._disk_says_no(refused[0])
            return
        self._disk_refuses = False
        self._feed.publish(seen.StatusWritten(done.answered, self._events_since_flush, time.monotonic() - began))
        self._events_since_flush = 0

    def _was_removed(self, job_id: str) -> bool:
        """Somebody removed the directory of a job: it is given up, and nobody else's work waits."""
        record = self._jobs.get(job_id)
        if record is None or record.directory.path.is_dir():
            return False
        _log.error("%s: its directory in current/ was removed; the job is given up", job_id)
        self._backlog.give_up(record, Refused("not_found", f"the directory of {job_id} was removed"))
        self._jobs.pop(job_id).close()
        self._board.drop_job(job_id)
        return True

    def _disk_says_no(self, error: OSError) -> None:
        if not self._disk.refused(error) and not self._disk_refuses:
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
        self._tell_departed(record.job_id)
        self._show_end(record, "rejected" if record.is_rejected else "done")

    def _tell_departed(self, job_id: str) -> None:
        """Until it is taken: seeds may wait for it."""
        try:
            self._scheduler.tell(m.JobDeparted(job_id))
        except Unavailable:
            self._timers.after(RETRY_SECONDS, lambda: self._tell_departed(job_id))

    def _part_with_ended(self, record: JobRecord) -> None:
        """A job in error, stopped or at a gate stays in current/; its log needs no descriptor while it waits."""
        if record.document["state"] in AT_REST:
            record.close()
        if record.document["state"] in ENDED and not record.has_parted:
            record.has_parted = True
            self._show_end(record, record.document["state"])

    def _show_end(self, record: JobRecord, outcome: str) -> None:
        self._feed.publish(seen.JobFinished(record.job_id, record.document["pipeline"], outcome, record.age))

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
            if not isinstance(error, NoRoom):
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

    def _take_up(self, record: JobRecord) -> None:
        """A job that lies in current/; one that is over, and could not leave, is tried again."""
        self._jobs[record.job_id] = record
        self._board.put_job(record.document)
        record.may_have_left = record.is_departing
        if record.is_stale_on_disk or record.is_departing:
            self._backlog.add(record)
            self._flush_later()

    def _repair(self, message: m.RepairJob) -> dict[str, Any]:
        """Put a job's files right, on an operator's word."""
        job_id = message.job_id
        record = self._jobs.get(job_id)
        if record is not None:
            fault = log_fault(self._workspace, job_id)
            if record.document["state"] not in ENDED:
                raise Refused(*_at_work(job_id, fault))
            if fault is None:
                return self._damaged.repair_inputs(job_id).document()
            self._set_aside(record, fault)
        if job_id not in self._damaged:
            raise Refused("not_found", f"there is no unfinished job {job_id}; see: popctl list")
        repaired = self._damaged.repair(job_id)
        self._take_up(moves.read(self._workspace, job_id))
        self._scheduler.tell(m.JobRepaired(job_id))
        return repaired.document()

    def _set_aside(self, record: JobRecord, fault: str) -> None:
        """A job that has ended, whose log was damaged since it was taken up: its files are all there is of it again."""
        try:
            record.write()
            record.write_status(durable=True)
        except OSError as error:
            raise Refused("disk_error", f"the disk refuses ({error}); see to it, and try again") from None
        self._backlog.give_up(record, Refused("damaged", fault))
        self._jobs.pop(record.job_id).close()
        self._damaged.add(set_aside(self._workspace, record.job_id, Damaged(fault)))

    def _begin_run(self, message: m.BeginRun) -> Future[Any]:
        self._damaged.refuse(message.job_id)
        record = self._jobs.get(message.job_id)
        if record is None:
            record = self._reopened(message.job_id)
            self._jobs[message.job_id] = record
        elif record.document["state"] not in ENDED:
            raise Refused("running", f"{message.job_id} has not ended yet; stop it first: popctl stop {message.job_id}")
        self._take(record, [message.event])
        with contextlib.suppress(OSError):  # who reads the file after the answer does not take the old run's end for it
            record.write_status()
        answer: Future[Any] = Future()
        barrier = self._settled(record)
        assert barrier is not None  # a run is asked for, never told
        barrier.add_done_callback(lambda _: answer.set_result(record.document))
        return answer

    def _reopened(self, job_id: str) -> JobRecord:
        try:
            return moves.reopen(self._workspace, job_id)
        except OSError as error:
            raise Refused("disk", f"{job_id} cannot be brought back to current/: {error}") from None
        except StorageError as error:
            self._damaged.turned_out(job_id, error)


def _at_work(job_id: str, fault: str | None) -> tuple[str, str]:
    """Code and message of the refusal to repair a job that has not ended."""
    if fault is None:
        return (
            "not_damaged",
            f"nothing is wrong with the log of {job_id}, which is at work; see: popctl status {job_id}",
        )
    todo = f"popctl stop {job_id}, then: popctl doctor --repair {job_id}"
    return "running", f"{fault}; {job_id} is at work, so first: {todo}"
