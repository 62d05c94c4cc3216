"""The scheduler: which seed becomes a job next, how many run at once, and what operators ask of jobs.

The watcher tells it of seeds, the status-writer of claims, the jobs supervisor of ends. It decides and tells; it does
no I/O beyond asking the catalogue for a pipeline.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pop_actors.actors.actor import Actor
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.timers import Timers
from pop_actors.core import events as e
from pop_actors.core.ids import run_id, timestamp
from pop_actors.core.job_spec import JobSpec
from pop_actors.core.locks import Locks
from pop_actors.core.restart_plan import tasks_to_reset
from pop_actors.core.resume_queue import ResumeQueue
from pop_actors.core.states import ENDED
from pop_actors.core.status import Document
from pop_actors.errors import PopError, Refused
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.gates import Decided, Gates
from pop_actors.system.intake import CLAIM_RETRY_SECONDS, Intake
from pop_actors.system.job_specs import JobSpecs

TO_RUN = frozenset({"pending", "running"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Resume:
    """Scheduler → itself: this job waits for a slot."""

    job_id: str


@dataclass(frozen=True, slots=True)
class _Start:
    """Scheduler → itself: what had to be noted before this start is on disk."""

    spec: JobSpec


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
        self._status_writer = status_writer
        self._jobs = jobs
        self._watcher = watcher
        self._timers = timers
        self._locks = Locks()
        self._intake = Intake(board, self._locks, is_complete, status_writer)
        self._resumes = ResumeQueue(self._locks, self._conflicts)
        self._gates = Gates(board, status_writer, self.put)
        self._running: set[str] = set()
        self._stopping: dict[str, list[Future[Any]]] = {}
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
            _Resume: lambda message: self._resumes.add(message.job_id),
            _Start: self._start,
            Decided: self._decided,
            _FillSlots: lambda _: None,
        }

    def on_start(self) -> None:
        """Seeds that wait are on the board; what runs, the jobs supervisor tells, now or when it starts."""
        self._jobs.tell(m.SchedulerUp())

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

    # Seeds

    def _seeds_found(self, message: m.SeedsFound) -> None:
        for seed in message.seeds:
            self._intake.found(seed)

    def _claimed(self, message: m.Claimed) -> None:
        job_id = message.seed.job_id
        if not self._intake.claimed(message):  # another incarnation had it claimed
            self._resumes.add(job_id)
        if job_id in self._stopping:
            self._note_stopped(job_id)

    def _claim_failed(self, message: m.ClaimFailed) -> None:
        self._intake.failed(message)
        self._let_go(message.job_id)
        for asker in self._stopping.pop(message.job_id, ()):
            asker.set_exception(Refused("not_found", f"{message.job_id} is no job: {message.why}"))
        if message.retry:
            self._watcher.tell(m.LookAgain(message.job_id))
            self._timers.after(CLAIM_RETRY_SECONDS, lambda: self.put(_FillSlots()))

    def _status_writer_up(self, message: m.StatusWriterUp) -> None:  # noqa: ARG002  (one shape for every handler)
        """Of the claims without an answer some have become jobs, the seeds of the others the watcher is to find anew.
        Departures may not have been told: whatever waits for a job is looked at again. Nor may it have been told what
        came of a note: whatever is to run, and is nowhere, is taken up."""
        for job_id in self._intake.forget_claims():
            if self._board.job(job_id) is not None:
                self._resumes.add(job_id)
            else:
                self._let_go(job_id)
                self._watcher.tell(m.LookAgain(job_id))
            if job_id in self._stopping:
                self._note_stopped(job_id)
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
            self._order(self._specs.fresh(claimed.seed, claimed.run_id))
        return True

    def _resume_one(self) -> bool:
        job_id = self._resumes.take()
        if job_id is None:
            return False
        document = self._board.job(job_id)
        if document is None or document["state"] not in TO_RUN or job_id in self._running:
            if job_id not in self._running:
                self._let_go(job_id)
            return True
        try:
            spec = self._specs.resumed(document)
        except PopError as error:
            self._note(job_id, _cannot_load(error))
            self._let_go(job_id)
            return True
        self._running.add(job_id)
        last = self._board.last_epoch(job_id)
        if document["state"] == "pending" and last == document["epoch"]:
            self._order(spec)
        else:
            lost = e.ProcessDown(at=_now(), cause="lost", detail="the service was down", ended=last)
            noted = self._status_writer.request(m.Note(job_id, lost))
            noted.add_done_callback(lambda _: self.put(_Start(spec)))
        return True

    def _start(self, message: _Start) -> None:
        """Unless it was ended meanwhile."""
        if message.spec.job_id in self._running:
            self._order(message.spec)

    def _order(self, spec: JobSpec) -> None:
        """Have it started, with an epoch that no process of the job has had."""
        epoch = self._board.last_epoch(spec.job_id) + 1
        self._board.give_epoch(spec.job_id, epoch)
        self._jobs.tell(m.StartJob(spec, epoch))

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
        for job in self._board.jobs():
            if job["state"] in {"running", "waiting"}:
                self._locks.take(job["id"], self._conflicts(job["id"]))
        self._take_up_unfinished()
        for job_id in self._stopping.keys() - self._intake.claiming - self._running - self._gates.deciding:
            self._note_stopped(job_id)
        for job_id in self._gates.undecided - self._running:
            self._gates.has_left(job_id)

    def _take_up_unfinished(self) -> None:
        """What is to run and is nowhere on its way to that, oldest first."""
        claimed = self._intake.claiming | self._intake.ahead
        elsewhere = claimed | self._running | self._stopping.keys() | self._gates.deciding
        unfinished = [job for job in self._board.jobs() if job["state"] in TO_RUN and job["id"] not in elsewhere]
        for job in sorted(unfinished, key=lambda job: (job["createdAt"], job["id"])):
            self._resumes.add(job["id"])

    def _job_ended(self, message: m.JobEnded) -> None:
        job_id = message.job_id
        self._running.discard(job_id)
        document = self._board.job(job_id)
        state = None if document is None else document["state"]
        if state != "waiting":
            self._let_go(job_id)
        if job_id in self._stopping:
            self._note_stopped(job_id)
        elif self._starts_jobs and document is not None and state in TO_RUN:
            if state == "pending" and document["epoch"] == self._board.last_epoch(job_id) and not message.gave_up:
                self._resumes.add(job_id)  # it was told to leave, and nothing else goes on without it
            else:
                self._note(job_id, _left_silently())
        self._gates.has_left(job_id)

    def _tell_when_quiet(self) -> None:
        if not self._running and not self._intake.claiming:
            for asker in self._all_quiet:
                asker.set_result(None)
            self._all_quiet.clear()

    def _stop_job(self, message: m.StopJob) -> Future[Any]:
        job_id = message.job_id
        answer: Future[Any] = Future()
        if self._board.seed(job_id) is not None:
            raise Refused("waiting", f"{job_id} is a seed that waits in pending/; remove its file to withdraw it")
        document = self._board.job(job_id)
        if document is None and job_id not in self._intake.claiming:
            raise Refused("not_found", f"there is no unfinished job {job_id}; see: popctl list --all")
        _refuse_damaged(document)
        if document is not None and document["state"] in ENDED:
            raise Refused("not_running", f"{job_id} has ended already ({document['state']})")
        self._stopping.setdefault(job_id, []).append(answer)
        if job_id in self._running:
            self._jobs.tell(m.EndJob(job_id, suspend=False))
        elif job_id not in self._intake.claiming and job_id not in self._gates.deciding:
            self._note_stopped(job_id)
        return answer

    def _note_stopped(self, job_id: str) -> None:
        askers = self._stopping.pop(job_id)
        self._resumes.drop(job_id)
        self._intake.drop(job_id)
        self._let_go(job_id)
        document = self._board.job(job_id)
        if document is None or document["state"] in ENDED:
            state = "done" if document is None else document["state"]
            for asker in askers:
                asker.set_result(state)
            return

        def answer(done: Future[Any]) -> None:
            error = done.exception()
            for asker in askers:
                asker.set_result("stopped") if error is None else asker.set_exception(error)

        noted = self._status_writer.request(m.Note(job_id, e.JobStopped(at=_now())))
        noted.add_done_callback(answer)

    def _restart_job(self, message: m.RestartJob) -> Future[Any]:
        job_id = message.job_id
        document = self._board.job(job_id)
        if job_id in self._running or job_id in self._intake.claiming:
            raise Refused("running", f"{job_id} is running; stop it first: popctl stop {job_id}")
        _refuse_damaged(document)
        if document is not None and document["state"] == "waiting":
            raise Refused("waiting", f"{job_id} waits at a gate; end it first: popctl reject {job_id}")
        plan = self._specs.for_restart(job_id, document)
        reset = tasks_to_reset(plan.depends_on, message.from_task, only=message.only)
        now = time.time()
        event = e.JobRestarted(
            at=timestamp(now), run_id=run_id(now, secrets.token_hex(3)), reset=reset, tasks=plan.task_names
        )
        answer: Future[Any] = Future()
        begun = self._status_writer.request(m.BeginRun(job_id, event))
        begun.add_done_callback(lambda done: self._begun(done, answer))
        return answer

    def _begun(self, done: Future[Document], answer: Future[Any]) -> None:
        """In the status-writer's thread: tell the operator, and have the job queued by a message to oneself."""
        error = done.exception()
        if error is not None:
            answer.set_exception(error)
            return
        document = done.result()
        self.tell_self(_Resume(document["id"]))
        answer.set_result({"id": document["id"], "pipelineId": document["pipelineId"]})

    def _note(self, job_id: str, event: e.Event) -> None:
        self._status_writer.tell(m.Note(job_id, event))

    def _decide_gate(self, message: m.DecideGate) -> Future[Any]:
        job_id = message.job_id
        if job_id in self._stopping:
            raise Refused("not_waiting", f"{job_id} is being stopped")
        return self._gates.ask(message, is_leaving=job_id in self._running)

    def _decided(self, message: Decided) -> None:
        job_id = message.order.job_id
        self._gates.settle(message)
        if job_id in self._stopping:
            self._note_stopped(job_id)
        elif message.order.approve:
            self._resumes.add(job_id)
        else:
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


def _refuse_damaged(document: Document | None) -> None:
    """A job that was set aside because its files are damaged can only be repaired; what it says tells how."""
    if document is not None and document.get("damaged"):
        raise Refused("damaged", document["damaged"])


def _cannot_load(error: PopError) -> e.JobFailed:
    info = e.ErrorInfo(name=type(error).__name__, message=f"the job cannot go on: {error}")
    return e.JobFailed(at=_now(), reason="load", error=info)


def _left_silently() -> e.JobFailed:
    info = e.ErrorInfo(name="ProcessLeft", message="the job's process left without saying how the run ended")
    return e.JobFailed(at=_now(), reason="crashed", error=info)
