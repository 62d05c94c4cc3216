"""The supervisor of job processes: one child a run, restarted where it crashes, given up where it crashes too often.

The scheduler tells it what to start and end. It ends a process whose stage outlives its timeout, since a stage stuck in
C code cannot be ended from within. What it does is noted in the job's log before a successor reads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pop_actors.actors import supervision_messages as supervision
from pop_actors.actors.child import ChildSpec, ExitReason, Starter
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.process_child import ProcessChild, process
from pop_actors.actors.process_host import ProcessHost
from pop_actors.actors.restart_budget import Backoff
from pop_actors.actors.supervisor import Supervisor
from pop_actors.actors.timers import Timers
from pop_actors.config import JobsSettings
from pop_actors.core import events as e
from pop_actors.core import observations as seen
from pop_actors.core.ids import timestamp
from pop_actors.core.messages import Stop
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.gateway.messages import JobGone
from pop_actors.system.stage_deadlines import StageDeadlines

ENTRY = "pop_actors.runner.job:JobActor"
RESTARTS = Backoff(minimum=0.1, maximum=10.0)
LOOK_SECONDS = 0.25
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Look:
    """Jobs → itself: time to look for stages that are overdue."""


class Jobs(Supervisor):
    """A dynamic supervisor with a restart budget for each job."""

    def __init__(
        self,
        settings: JobsSettings,
        host: ProcessHost,
        board: Board,
        feed: seen.Feed,
        timers: Timers,
        status_writer: Ref,
        scheduler: Ref,
        gateway: Ref,
    ) -> None:
        policy = supervision.Policy(
            dynamic=True,
            intensity_scope="child",
            max_restarts=settings.max_restarts,
            period_seconds=settings.restart_period_seconds,
        )
        super().__init__((), timers=timers, policy=policy, feed=feed, prefix=f"{m.JOBS}/", label="job")
        self._settings = settings
        self._host = host
        self._board = board
        self._status_writer = status_writer
        self._scheduler = scheduler
        self._gateway = gateway
        self._deadlines = StageDeadlines()
        self._forget_deadlines = feed.add(self._deadlines.on_observation)
        self._noted: dict[str, Future[Any]] = {}
        self._ending: set[str] = set()
        self._is_looking = False
        self._orders: dict[type, Callable[[Any], None]] = {
            m.StartJob: self._start_job,
            m.EndJob: self._end_job,
            m.SchedulerUp: self._tell_what_runs,
            _Look: self._look,
        }

    def on_start(self) -> None:
        super().on_start()
        self._scheduler.tell(m.JobsUp())

    def on_stop(self) -> None:
        self._forget_deadlines()
        super().on_stop()

    def receive(self, message: Any) -> object:
        order = self._orders.get(type(message))
        return order(message) if order is not None else super().receive(message)

    def _tell_what_runs(self, message: m.SchedulerUp) -> None:  # noqa: ARG002  (one shape for every order)
        self._scheduler.tell(m.JobsUp(tuple(self._machine.children)))

    def _start_job(self, message: m.StartJob) -> None:
        job_id = message.spec.job_id
        started = self._carry_out(
            supervision.StartChild(
                ChildSpec(
                    id=job_id,
                    start=self._starter(message),
                    restart="transient",
                    kind="process",
                    shutdown=self._settings.shutdown_grace_seconds,
                    stop_message=Stop(suspend=True),
                    backoff=RESTARTS,
                    first_epoch=message.epoch,
                )
            )
        )
        started.add_done_callback(lambda done: self._refused(job_id) if done.exception() else None)
        self._look_later()

    def _refused(self, job_id: str) -> None:
        if self.running(job_id) is None:
            self._scheduler.tell(m.JobEnded(job_id, gave_up=True))

    def _starter(self, message: m.StartJob) -> Starter:
        spec = message.spec

        def arguments(epoch: int) -> dict[str, Any]:
            again = epoch > message.epoch or spec.resumed
            told = {"resumed": again, "fault_point": None if again else spec.fault_point}
            return {"spec": spec.model_copy(update=told).model_dump(mode="json")}

        return process(self._host, ENTRY, arguments, after=lambda: self._noted.pop(spec.job_id, None))

    def _end_job(self, message: m.EndJob) -> None:
        if self.running(message.job_id) is None:
            self._scheduler.tell(m.JobEnded(message.job_id, gave_up=False))
            return
        self._ending.add(message.job_id)
        self._carry_out(supervision.TerminateChild(message.job_id, Stop(suspend=message.suspend)))
        if not message.suspend:
            self._timers.after(STOP_SECONDS, lambda: self._end_by_force(message.job_id))

    def _end_by_force(self, job_id: str) -> None:
        child = self.running(job_id)
        if isinstance(child, ProcessChild):
            child.kill()

    # What becomes of them

    def on_child_exit(self, spec: ChildSpec, epoch: int, reason: ExitReason, will_restart: bool) -> None:  # noqa: ARG002  (the supervisor's hook)
        self._deadlines.forget(spec.id)
        self._gateway.tell(JobGone(spec.id))
        if reason.is_abnormal:
            down = e.ProcessDown(at=timestamp(time.time()), cause=reason.kind, detail=reason.detail[-2000:])
            self._noted[spec.id] = self._status_writer.request(m.Note(spec.id, down))
        if not will_restart:
            self._noted.pop(spec.id, None)
            if spec.id in self._ending or not reason.is_abnormal:
                self._ending.discard(spec.id)
                self._scheduler.tell(m.JobEnded(spec.id, gave_up=False))

    def on_give_up(self, spec: ChildSpec, epoch: int, reason: ExitReason) -> None:  # noqa: ARG002  (the same)
        """The budget is spent: the job is in error, and its slot is free."""
        document = self._board.job(spec.id) or {}
        message = (
            f"its process ended more than {self._settings.max_restarts} times in "
            f"{self._settings.restart_period_seconds:g} s, last: {reason}"
        )
        failed = e.JobFailed(
            at=timestamp(time.time()),
            task=document.get("current") or "",
            stage=document.get("currentStage") or "",
            reason="crashed",
            error=e.ErrorInfo(name="ProcessCrashed", message=message),
        )
        noted = self._status_writer.request(m.Note(spec.id, failed))
        noted.add_done_callback(lambda _: self._scheduler.tell(m.JobEnded(spec.id, gave_up=True)))

    # Timeouts that only the outside can enforce

    def _look(self, message: _Look) -> None:  # noqa: ARG002  (one shape for every order)
        self._is_looking = False
        for job_id, detail in self._deadlines.passed(time.monotonic()):
            child = self.running(job_id)
            if isinstance(child, ProcessChild):
                child.kill(ExitReason("timeout", detail))
        if self._running:
            self._look_later()

    def _look_later(self) -> None:
        if not self._is_looking:
            self._is_looking = True
            self._timers.after(LOOK_SECONDS, lambda: self.put(_Look()))
