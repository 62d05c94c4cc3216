"""The scheduler: which seed becomes a job next, how many run at once, and what operators ask of jobs.

The watcher tells it of seeds, the status-writer of claims, the jobs supervisor of ends. It decides and tells; it does
no I/O beyond asking the catalogue for a pipeline.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pop_actors.actors.actor import Actor
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.timers import Timers
from pop_actors.core import events as e
from pop_actors.core.ids import timestamp
from pop_actors.core.locks import Locks
from pop_actors.core.resume_queue import ResumeQueue
from pop_actors.core.states import ENDED
from pop_actors.core.status import Document
from pop_actors.errors import PopError, Refused
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.gates import Decided, Gates
from pop_actors.system.intake import CLAIM_RETRY_SECONDS, Intake
from pop_actors.system.job_specs import JobSpecs
from pop_actors.system.notes import Notes
from pop_actors.system.restarts import Restarts
from pop_actors.system.starts import ReadyToStart, Starts
from pop_actors.system.stops import Stops

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Resume:
    """Scheduler → itself: this job waits for a slot."""

    job_id: str


@dataclass(frozen=True, slots=True)
class _Registered:
    """Scheduler → itself: it can be found now, so whoever hears of it may answer at once."""


@dataclass(frozen=True, slots=True)
class _FillSlots:
    """Scheduler → itself: look again what may start or be claimed, as after every message."""


class Scheduler(Actor):
    """Owns the queue of seeds and the slots."""

    mailbox_policy = "block"  # the end of a claim or of a job frees a slot, and comes once

    def __init__(
        self,
        max_running: int,
        board: Board,
        specs: JobSpecs,
        is_complete: Callable[[str], bool],
        status_writer: Ref,
        jobs: Ref,
        watcher: Ref,
        timers: Timers,
    ) -> None:
        super().__init__()
        self._max_running = max_running
        self._board = board
        self._specs = specs
        self._jobs = jobs
        self._watcher = watcher
        self._timers = timers
        self._locks = Locks()
        self._notes = Notes(status_writer, timers)
        self._intake = Intake(board, self._locks, is_complete, status_writer)
        self._resumes = ResumeQueue(self._locks, self._conflicts)
        self._starts = Starts(board, specs, self._notes, jobs, self.put)
        self._stops = Stops(board, self._notes)
        self._gates = Gates(board, self._notes, self.put)
        self._restarts = Restarts(board, specs, status_writer, lambda job_id: self.put(_Resume(job_id)))
        self._running: set[str] = set()
        self._starts_jobs = True
        self._knows_jobs = False
        self._all_quiet: list[Future[Any]] = []
        self._handlers: dict[type, Callable[[Any], object]] = {
            m.SeedFound: self._intake.found,
            m.SeedsFound: self._seeds_found,
            m.SeedGone: lambda message: self._board.drop_seed(message.job_id),
            m.Claimed: self._claimed,
            m.ClaimFailed: self._claim_failed,
            m.StatusWriterUp: self._status_writer_up,
            m.JobsUp: self._jobs_up,
            m.JobEnded: self._job_ended,
            m.JobDeparted: lambda message: self._let_go(message.job_id),
            m.StopJob: self._stop_job,
            m.RestartJob: self._restart_job,
            m.DecideGate: self._decide_gate,
            m.SetClaiming: self._set_claiming,
            m.DiskHasRoom: lambda _: None,
            m.SuspendAll: self._suspend_all,
            m.JobRepaired: lambda message: self._resumes.add(message.job_id),
            _Registered: self._announce,
            _Resume: lambda message: self._resumes.add(message.job_id),
            ReadyToStart: self._ready_to_start,
            Decided: self._decided,
            _FillSlots: lambda _: None,
        }

    def on_start(self) -> None:
        self.put(_Registered())

    def receive(self, message: object) -> object:
        answer = self._handlers[type(message)](message)
        self._fill_slots()
        return answer

    def snapshot(self) -> dict[str, Any]:
        return {
            **super().snapshot(),
            "waitingSeeds": self._board.seed_count(),
            "waitingJobs": len(self._resumes),
            "running": len(self._running),
            "slots": self._max_running,
            "claiming": self._board.claims_seeds,
        }

    def _announce(self, message: _Registered) -> None:  # noqa: ARG002  (one shape for every handler)
        """What runs, the jobs supervisor tells, now or when it starts. Seeds that wait are on the board; those told of
        while nobody was here, the watcher is to tell anew."""
        self._jobs.tell(m.SchedulerUp())
        self._watcher.tell(m.LookAgain())

    # Seeds

    def _seeds_found(self, message: m.SeedsFound) -> None:
        for seed in message.seeds:
            self._intake.found(seed)

    def _claimed(self, message: m.Claimed) -> None:
        job_id = message.seed.job_id
        if not self._intake.claimed(message):  # another incarnation had it claimed
            self._resumes.add(job_id)
        if job_id in self._stops:
            self._stop_now(job_id)

    def _claim_failed(self, message: m.ClaimFailed) -> None:
        self._intake.failed(message)
        self._let_go(message.job_id)
        self._stops.refuse(message.job_id, Refused("not_found", f"{message.job_id} is no job: {message.why}"))
        if message.retry:
            self._watcher.tell(m.LookAgain(message.job_id))
            self._timers.after(CLAIM_RETRY_SECONDS, lambda: self.put(_FillSlots()))

    def _status_writer_up(self, message: m.StatusWriterUp) -> None:  # noqa: ARG002
        """Of the claims without an answer some have become jobs; the others' seeds, and those it was to turn down, the
        watcher is to find anew. Departures may not have been told: whatever waits for a job is looked at again."""
        for job_id in self._intake.forget_claims():
            if self._board.job(job_id) is not None:
                self._resumes.add(job_id)
            else:
                self._let_go(job_id)
            if job_id in self._stops:
                self._stop_now(job_id)
        self._watcher.tell(m.LookAgain())
        self._intake.unpark_all()
        if self._knows_jobs:
            self._take_up_unfinished()

    # Slots

    def _fill_slots(self) -> None:
        """Start what may start, and claim ahead as many as can run at once, so that no slot waits for a claim."""
        if not self._starts_jobs:
            self._tell_when_quiet()
        if not (self._starts_jobs and self._knows_jobs):
            return
        while len(self._running) < self._max_running and (self._resume_one() or self._start_one()):
            continue
        free = self._max_running - len(self._running)
        if free or not self._resumes.has_turns:
            self._intake.claim(free, most_ahead=self._max_running)

    def _start_one(self) -> bool:
        claimed = self._intake.next_to_start()
        if claimed is None:
            return False
        job_id = claimed.seed.job_id
        document = self._board.job(job_id)
        if document is not None and document["state"] == "pending" and job_id not in self._running:
            self._running.add(job_id)
            self._starts.begin(claimed)
        else:
            self._has_no_use_for_a_slot(job_id, document)
        return True

    def _resume_one(self) -> bool:
        job_id = self._resumes.take()
        if job_id is None:
            return False
        document = self._board.job(job_id)
        if document is None or document["state"] not in m.TO_RUN or job_id in self._running:
            self._has_no_use_for_a_slot(job_id, document)
            return True
        try:
            self._starts.resume(document)
        except PopError as error:
            self._notes.note(job_id, _cannot_load(error))
            self._let_go(job_id)
        else:
            self._running.add(job_id)
        return True

    def _ready_to_start(self, message: ReadyToStart) -> None:
        job_id = message.spec.job_id
        document = self._board.job(job_id)
        if not self._starts.still_waits(message):
            self._take_up_unfinished()  # who called it off left it alone, since it was being noted
        elif document is not None and document["state"] in m.TO_RUN:
            self._starts.order(message.spec)
        else:
            self._running.discard(job_id)
            self._has_no_use_for_a_slot(job_id, document)
            if job_id in self._stops:
                self._stop_now(job_id)

    def _has_no_use_for_a_slot(self, job_id: str, document: Document | None) -> None:
        """It came to the head of a queue and has ended, waits at a gate, which holds what it holds, or runs already."""
        if job_id not in self._running and (document is None or document["state"] != "waiting"):
            self._let_go(job_id)

    def _conflicts(self, job_id: str) -> Sequence[str]:
        """What a job must not share with another while it is under way."""
        document = self._board.job(job_id)
        if document is None:
            return ()
        known: Sequence[str] | None = document.get("conflicts")
        return self._specs.conflicts(job_id) if known is None else known

    def _let_go(self, job_id: str) -> None:
        """A job is not under way any more: what waited for it, or for what it held, is looked at again."""
        self._locks.release(job_id)
        self._resumes.unpark(job_id)
        self._intake.unpark(job_id)

    # Jobs

    def _jobs_up(self, message: m.JobsUp) -> None:
        """This runs now, and nothing else does: everything else unfinished is to be taken up, oldest first. What was
        under way holds what it conflicts over before anybody else can take it."""
        self._knows_jobs = True
        self._running = set(message.running)
        self._starts.call_off_all()
        for job in self._board.jobs():
            if job["state"] in {"running", "waiting"}:
                self._locks.take(job["id"], self._conflicts(job["id"]))
        self._take_up_unfinished()
        for job_id in self._stops:
            if job_id not in self._busy():
                self._stop_now(job_id)
        for job_id in self._gates.undecided - self._running:
            self._gates.has_left(job_id)

    def _take_up_unfinished(self) -> None:
        """What is to run and is nowhere on its way to that, oldest first."""
        elsewhere = {*self._busy(), *self._intake.ahead, *self._stops, *self._notes.open}
        unfinished = [job for job in self._board.jobs() if job["state"] in m.TO_RUN and job["id"] not in elsewhere]
        for job in sorted(unfinished, key=lambda job: (job["createdAt"], job["id"])):
            self._resumes.add(job["id"])

    def _busy(self) -> set[str]:
        """Somebody is at work on these and will tell of it."""
        return {*self._intake.claiming, *self._running, *self._gates.deciding}

    def _job_ended(self, message: m.JobEnded) -> None:
        job_id = message.job_id
        self._running.discard(job_id)
        self._starts.call_off(job_id)
        document = self._board.job(job_id)
        state = None if document is None else document["state"]
        if state != "waiting":
            self._let_go(job_id)
        if job_id in self._stops:
            self._stop_now(job_id)
        elif self._starts_jobs and document is not None and state in m.TO_RUN:
            if state == "pending" and document["epoch"] == self._board.last_epoch(job_id) and not message.gave_up:
                self._resumes.add(job_id)  # it was told to leave, and nothing else goes on without it
            else:
                self._notes.note(job_id, _left_silently())
        self._gates.has_left(job_id)

    def _tell_when_quiet(self) -> None:
        if not self._running and not self._intake.claiming:
            for asker in self._all_quiet:
                asker.set_result(None)
            self._all_quiet.clear()

    def _stop_job(self, message: m.StopJob) -> Future[Any]:
        job_id = message.job_id
        answer = self._stops.ask(job_id, is_being_claimed=job_id in self._intake.claiming)
        if job_id in self._running:
            self._jobs.tell(m.EndJob(job_id, suspend=False))
        elif job_id not in self._busy():
            self._stop_now(job_id)
        return answer

    def _stop_now(self, job_id: str) -> None:
        """Nothing works on it: take it out of every queue."""
        self._resumes.drop(job_id)
        self._intake.drop(job_id)
        self._let_go(job_id)
        self._stops.carry_out(job_id)

    def _restart_job(self, message: m.RestartJob) -> Future[Any]:
        job_id = message.job_id
        if job_id in self._running or job_id in self._intake.claiming:
            raise Refused("running", f"{job_id} is running; stop it first: popctl stop {job_id}")
        return self._restarts.ask(message)

    def _decide_gate(self, message: m.DecideGate) -> Future[Any]:
        job_id = message.job_id
        if job_id in self._stops:
            raise Refused("not_waiting", f"{job_id} is being stopped")
        return self._gates.ask(message, is_leaving=job_id in self._running)

    def _decided(self, message: Decided) -> None:
        job_id = message.order.job_id
        self._gates.settle(message)
        document = self._board.job(job_id)
        if job_id in self._stops:
            self._stop_now(job_id)
        elif document is not None and document["state"] in m.TO_RUN:
            self._resumes.add(job_id)
        elif document is None or document["state"] in ENDED:
            self._let_go(job_id)

    # The service

    def _set_claiming(self, message: m.SetClaiming) -> None:
        self._board.claims_seeds = message.on
        _log.info("claiming of seeds is %s", "on" if message.on else "off")

    def _suspend_all(self, message: m.SuspendAll) -> Future[Any]:  # noqa: ARG002
        self._starts_jobs = False
        quiet: Future[Any] = Future()
        for job_id in self._running:
            self._jobs.tell(m.EndJob(job_id, suspend=True))
        self._all_quiet.append(quiet)
        return quiet


def _now() -> str:
    return timestamp(time.time())


def _cannot_load(error: PopError) -> e.JobFailed:
    info = e.ErrorInfo(name=type(error).__name__, message=f"the job cannot go on: {error}")
    return e.JobFailed(at=_now(), reason="load", error=info)


def _left_silently() -> e.JobFailed:
    info = e.ErrorInfo(name="ProcessLeft", message="the job's process left without saying how the run ended")
    return e.JobFailed(at=_now(), reason="crashed", error=info)
