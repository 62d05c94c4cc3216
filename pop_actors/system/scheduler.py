"""The scheduler: which seed becomes a job next, how many run at once, and what operators ask of jobs.

The watcher tells it of seeds, the status-writer of claims, the jobs supervisor of ends. It decides and tells; it does
no I/O beyond asking the catalogue for a pipeline.
"""

from __future__ import annotations

import heapq
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pop_actors.actors.actor import Actor
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.timers import Timers
from pop_actors.core import events as e
from pop_actors.core.ids import run_id, timestamp
from pop_actors.core.restart_plan import tasks_to_reset
from pop_actors.core.status import Document
from pop_actors.errors import PopError, Refused
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.job_specs import JobSpecs

CLAIM_RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Resume:
    """Scheduler → itself: this job waits for a slot."""

    job_id: str


@dataclass(frozen=True, slots=True)
class _Start:
    """Scheduler → itself: what had to be noted before this start is on disk."""

    order: m.StartJob


@dataclass(frozen=True, slots=True)
class _FillSlots:
    """Scheduler → itself: look again what may start or be claimed, as after every message."""


class Scheduler(Actor):
    """Owns the queue of seeds and the slots."""

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
        self._is_complete = is_complete
        self._status_writer = status_writer
        self._jobs = jobs
        self._watcher = watcher
        self._timers = timers
        self._queue: list[m.Rank] = []
        self._parked: dict[str, list[m.Rank]] = {}
        self._held_locks: dict[str, str] = {}
        self._conflicts: dict[str, tuple[str, ...]] = {}
        self._to_resume: deque[str] = deque()
        self._claiming: dict[str, m.Rank] = {}
        self._claimed_ahead: list[tuple[m.Rank, m.Claimed]] = []
        self._running: set[str] = set()
        self._stopping: dict[str, list[Future[Any]]] = {}
        self._starts_jobs = True
        self._knows_jobs = False
        self._retry_at = 0.0
        self._all_quiet: list[Future[Any]] = []
        self._handlers: dict[type, Callable[[Any], object]] = {
            m.SeedFound: self._seed_found,
            m.SeedsFound: self._seeds_found,
            m.SeedGone: self._seed_gone,
            m.Claimed: self._claimed,
            m.ClaimFailed: self._claim_failed,
            m.StatusWriterUp: self._status_writer_up,
            m.JobsUp: self._jobs_up,
            m.JobEnded: self._job_ended,
            m.JobDeparted: lambda message: self._unpark(message.job_id),
            m.StopJob: self._stop_job,
            m.RestartJob: self._restart_job,
            m.SetClaiming: self._set_claiming,
            m.SuspendAll: self._suspend_all,
            _Resume: self._resume,
            _Start: self._start,
            _FillSlots: lambda _: None,
        }

    def on_start(self) -> None:
        """Seeds that wait are on the board; what runs, the jobs supervisor tells, now or when it starts."""
        self._queue = [seed.rank for seed in self._board.seeds()]
        heapq.heapify(self._queue)
        self._jobs.tell(m.SchedulerUp())

    def receive(self, message: object) -> object:
        answer = self._handlers[type(message)](message)
        self._fill_slots()
        return answer

    def snapshot(self) -> dict[str, Any]:
        return {
            **super().snapshot(),
            "waitingSeeds": self._board.seed_count(),
            "running": len(self._running),
            "slots": self._max_running,
            "claiming": self._board.claims_seeds,
        }

    # Seeds

    def _seed_found(self, seed: m.SeedFound) -> None:
        if seed.job_id in self._claiming or self._board.job(seed.job_id) is not None:
            return
        known = self._board.seed(seed.job_id)
        self._board.put_seed(seed)
        if known is None or known.rank != seed.rank:
            heapq.heappush(self._queue, seed.rank)

    def _seeds_found(self, message: m.SeedsFound) -> None:
        for seed in message.seeds:
            self._seed_found(seed)

    def _seed_gone(self, message: m.SeedGone) -> None:
        self._board.drop_seed(message.job_id)

    def _claimed(self, message: m.Claimed) -> None:
        job_id = message.seed.job_id
        self._claiming.pop(job_id, None)
        if job_id in self._stopping:
            self._note_stopped(job_id)
            return
        heapq.heappush(self._claimed_ahead, (message.seed.rank, message))

    def _claim_failed(self, message: m.ClaimFailed) -> None:
        self._claiming.pop(message.job_id, None)
        self._unpark(message.job_id)
        for asker in self._stopping.pop(message.job_id, ()):
            asker.set_exception(Refused("not_found", f"{message.job_id} is no job: {message.why}"))
        if message.retry:
            self._retry_at = time.monotonic() + CLAIM_RETRY_SECONDS
            self._watcher.tell(m.LookAgain(message.job_id))
            self._timers.after(CLAIM_RETRY_SECONDS, lambda: self.put(_FillSlots()))

    def _status_writer_up(self, message: m.StatusWriterUp) -> None:  # noqa: ARG002  (one shape for every handler)
        """Of the claims without an answer some have become jobs, the seeds of the others the watcher is to find anew.
        Departures may not have been told: whatever waits for a job is looked at again."""
        claiming, self._claiming = self._claiming, {}
        for job_id in claiming:
            if self._board.job(job_id) is not None:
                self._to_resume.append(job_id)
            else:
                self._unpark(job_id)
                self._watcher.tell(m.LookAgain(job_id))
            if job_id in self._stopping:
                self._note_stopped(job_id)
        for job_id in list(self._parked):
            self._requeue(job_id)

    # Slots

    def _fill_slots(self) -> None:
        """Start what may start, and claim ahead as many as can run at once, so that no slot waits for a claim."""
        if not self._starts_jobs:
            self._tell_when_quiet()
        if not (self._starts_jobs and self._knows_jobs):
            return
        while len(self._running) < self._max_running and (self._resume_one() or self._start_one()):
            continue
        while len(self._claiming) + len(self._claimed_ahead) < self._wanted_claims() and self._claim_one():
            continue

    def _wanted_claims(self) -> int:
        if self._to_resume and len(self._running) >= self._max_running:
            return 0
        free = self._max_running - len(self._running)
        outranked = len(self._claimed_ahead) if self._is_outranked() else 0
        return free + self._max_running + outranked

    def _is_outranked(self) -> bool:
        """Whether a seed that waits comes before every job that was claimed ahead."""
        seed = self._next_seed()
        return seed is not None and bool(self._claimed_ahead) and seed.rank < self._claimed_ahead[0][0]

    def _start_one(self) -> bool:
        if not self._claimed_ahead or (self._board.claims_seeds and self._is_outranked()):
            return False
        if any(rank < self._claimed_ahead[0][0] for rank in self._claiming.values()):  # it will be here in a moment
            return False
        _, claimed = heapq.heappop(self._claimed_ahead)
        job_id = claimed.seed.job_id
        document = self._board.job(job_id)
        if document is not None and document["state"] == "pending" and job_id not in self._running:
            self._running.add(job_id)
            self._jobs.tell(m.StartJob(self._specs.fresh(claimed.seed, claimed.run_id), epoch=1))
        return True

    def _resume_one(self) -> bool:
        job_id = next((job_id for job_id in self._to_resume if self._has_its_locks(job_id)), None)
        if job_id is None:
            return False
        self._to_resume.remove(job_id)
        self._held_locks.update(dict.fromkeys(self._conflicts.get(job_id, ()), job_id))
        document = self._board.job(job_id)
        if document is None or document["state"] not in {"pending", "running"} or job_id in self._running:
            return True
        try:
            spec = self._specs.resumed(document)
        except PopError as error:
            self._note(job_id, _cannot_load(error))
            self._unpark(job_id)
            return True
        self._running.add(job_id)
        start = m.StartJob(spec, document["epoch"] + 1)
        if document["state"] == "pending":
            self._jobs.tell(start)
        else:
            lost = e.ProcessDown(at=timestamp(time.time()), cause="lost", detail="the service was down")
            noted = self._status_writer.request(m.Note(job_id, lost))
            noted.add_done_callback(lambda _: self.put(_Start(start)))
        return True

    def _start(self, message: _Start) -> None:
        """Unless it was ended meanwhile."""
        if message.order.spec.job_id in self._running:
            self._jobs.tell(message.order)

    def _has_its_locks(self, job_id: str) -> bool:
        """Whether nobody else holds what a job that waits to go on conflicts over."""
        return all(self._held_locks.get(lock, job_id) == job_id for lock in self._conflicts.get(job_id, ()))

    def _claim_one(self) -> bool:
        if not self._board.claims_seeds or time.monotonic() < self._retry_at:
            return False
        seed = self._next_seed()
        if seed is None:
            return False
        heapq.heappop(self._queue)
        self._board.drop_seed(seed.job_id)
        self._claiming[seed.job_id] = seed.rank
        self._held_locks.update(dict.fromkeys(seed.conflicts, seed.job_id))
        now = time.time()
        self._status_writer.tell(m.Claim(seed, run_id(now, secrets.token_hex(3))))
        return True

    def _next_seed(self) -> m.SeedFound | None:
        """The first in rank that nothing holds back, left in the queue; held ones are parked at what they wait for."""
        while self._queue:
            rank = self._queue[0]
            seed = self._board.seed(rank[2])
            if seed is not None and seed.rank == rank:
                obstacle = self._obstacle(seed)
                if obstacle is None:
                    return seed
                self._parked.setdefault(obstacle, []).append(rank)
            heapq.heappop(self._queue)
        return None

    def _obstacle(self, seed: m.SeedFound) -> str | None:
        """The job this seed must wait for, or the job that holds what it conflicts over."""
        for job_id in seed.depends_on:
            if not self._is_complete(job_id):
                return job_id
        return next((self._held_locks[lock] for lock in seed.conflicts if lock in self._held_locks), None)

    def _unpark(self, job_id: str) -> None:
        """A job has ended: what waited for it is looked at again."""
        for lock in [lock for lock, holder in self._held_locks.items() if holder == job_id]:
            del self._held_locks[lock]
        self._requeue(job_id)

    def _requeue(self, job_id: str) -> None:
        for rank in self._parked.pop(job_id, ()):
            heapq.heappush(self._queue, rank)

    # Jobs

    def _jobs_up(self, message: m.JobsUp) -> None:
        """This runs now, and nothing else does: everything else unfinished is to be taken up, oldest first."""
        self._knows_jobs = True
        self._running = set(message.running)
        unfinished = [job for job in self._board.jobs() if job["state"] in {"pending", "running"}]
        unfinished.sort(key=lambda job: (job["createdAt"], job["id"]))
        ahead = {claimed.seed.job_id for _, claimed in self._claimed_ahead}
        elsewhere = self._claiming.keys() | ahead | self._running | self._stopping.keys()
        self._to_resume = deque(job["id"] for job in unfinished if job["id"] not in elsewhere)
        self._conflicts = {job_id: self._specs.conflicts(job_id) for job_id in (*self._to_resume, *self._running)}
        for job_id in self._stopping.keys() - self._claiming.keys() - self._running:
            self._note_stopped(job_id)
        for job in unfinished:
            if job["state"] == "running":  # it held them when the service went down, and comes before who waited
                self._held_locks.update(dict.fromkeys(self._conflicts.get(job["id"], ()), str(job["id"])))

    def _job_ended(self, message: m.JobEnded) -> None:
        self._running.discard(message.job_id)
        self._conflicts.pop(message.job_id, None)
        self._unpark(message.job_id)
        if message.job_id in self._stopping:
            self._note_stopped(message.job_id)
        elif self._starts_jobs and self._is_unaccounted(message.job_id):
            self._note(message.job_id, _left_silently())

    def _tell_when_quiet(self) -> None:
        if not self._running and not self._claiming:
            for asker in self._all_quiet:
                asker.set_result(None)
            self._all_quiet.clear()

    def _is_unaccounted(self, job_id: str) -> bool:
        """Whether a job's process is gone for good while its status says that it runs."""
        document = self._board.job(job_id)
        return document is not None and document["state"] == "running"

    def _stop_job(self, message: m.StopJob) -> Future[Any]:
        job_id = message.job_id
        answer: Future[Any] = Future()
        if self._board.seed(job_id) is not None:
            raise Refused("waiting", f"{job_id} is a seed that waits in pending/; remove its file to withdraw it")
        document = self._board.job(job_id)
        if document is None and job_id not in self._claiming:
            raise Refused("not_found", f"there is no unfinished job {job_id}; see: popctl list --all")
        if document is not None and document["state"] in {"stopped", "error"}:
            raise Refused("not_running", f"{job_id} has ended already ({document['state']})")
        self._stopping.setdefault(job_id, []).append(answer)
        if job_id in self._running:
            self._jobs.tell(m.EndJob(job_id, suspend=False))
        elif job_id not in self._claiming:
            self._note_stopped(job_id)
        return answer

    def _note_stopped(self, job_id: str) -> None:
        askers = self._stopping.pop(job_id)
        self._to_resume = deque(waiting for waiting in self._to_resume if waiting != job_id)
        self._claimed_ahead = [(rank, claimed) for rank, claimed in self._claimed_ahead if rank[2] != job_id]
        heapq.heapify(self._claimed_ahead)
        self._unpark(job_id)
        document = self._board.job(job_id)
        if document is None or document["state"] not in {"pending", "running"}:
            state = "done" if document is None else document["state"]
            for asker in askers:
                asker.set_result(state)
            return

        def answer(_: Future[Any]) -> None:
            for asker in askers:
                asker.set_result("stopped")

        noted = self._status_writer.request(m.Note(job_id, e.JobStopped(at=timestamp(time.time()))))
        noted.add_done_callback(answer)

    def _restart_job(self, message: m.RestartJob) -> Future[Any]:
        if message.job_id in self._running or message.job_id in self._claiming:
            raise Refused("running", f"{message.job_id} is running; stop it first: popctl stop {message.job_id}")
        plan = self._specs.for_restart(message.job_id, self._board.job(message.job_id))
        reset = tasks_to_reset(plan.depends_on, message.from_task, only=message.only)
        now = time.time()
        event = e.JobRestarted(
            at=timestamp(now), run_id=run_id(now, secrets.token_hex(3)), reset=reset, tasks=plan.task_names
        )
        answer: Future[Any] = Future()
        begun = self._status_writer.request(m.BeginRun(message.job_id, event))
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

    def _resume(self, message: _Resume) -> None:
        self._conflicts[message.job_id] = self._specs.conflicts(message.job_id)
        self._to_resume.append(message.job_id)

    def _note(self, job_id: str, event: e.Event) -> None:
        self._status_writer.tell(m.Note(job_id, event))

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


def _cannot_load(error: PopError) -> e.JobFailed:
    info = e.ErrorInfo(name=type(error).__name__, message=f"the job cannot go on: {error}")
    return e.JobFailed(at=timestamp(time.time()), reason="load", error=info)


def _left_silently() -> e.JobFailed:
    info = e.ErrorInfo(name="ProcessLeft", message="the job's process left without saying how the run ended")
    return e.JobFailed(at=timestamp(time.time()), reason="crashed", error=info)
