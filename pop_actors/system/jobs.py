"""The supervisor of job processes: one child a run, restarted where it crashes, given up where it crashes too often.

The scheduler tells it what to start and end. It ends a process whose stage outlives its timeout, since a stage stuck in
C code cannot be ended from within, and a job that uses more than it may. What it does is noted in the job's log before
a successor reads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pop_actors.actors import supervision_messages as supervision
from pop_actors.actors.child import ChildSpec, ExitReason, Starter
from pop_actors.actors.policy import Policy
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
from pop_actors.core.states import AT_REST
from pop_actors.errors import Refused, Unavailable
from pop_actors.storage.fault_points import lasting
from pop_actors.storage.layout import Workspace
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.crash_streaks import CrashStreaks
from pop_actors.system.gateway.messages import JobGone, JobStopped
from pop_actors.system.job_limits import limits_of
from pop_actors.system.job_watch import JobWatch, OverLimit
from pop_actors.system.notes import Notes
from pop_actors.system.stage_deadlines import StageDeadlines

ENTRY = "pop_actors.runner.job:JobActor"
LOOK_SECONDS = 0.25
RETRY_SECONDS = 0.05
STOP_SECONDS = 5.0
LOOKS_PER_DEADLINE = 6
MOST_HEARTBEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Look:
    """Jobs → itself: time to look for stages that are overdue."""


@dataclass(frozen=True, slots=True)
class _CrashNoted:
    """Jobs → itself: a job's crash is in its log, and all that came before it."""

    job_id: str
    epoch: int
    reason: ExitReason


@dataclass(frozen=True, slots=True)
class _EndNoted:
    """Jobs → itself: that a job is in error stands in its log."""

    job_id: str


class Jobs(Supervisor):
    """A dynamic supervisor with a restart budget for each job."""

    mailbox_policy = "block"  # an order to start or end a job comes once

    def __init__(
        self,
        settings: JobsSettings,
        workspace: Workspace,
        host: ProcessHost,
        board: Board,
        feed: seen.Feed,
        timers: Timers,
        status_writer: Ref,
        scheduler: Ref,
        gateway: Ref,
    ) -> None:
        policy = Policy(
            dynamic=True,
            intensity_scope="child",
            max_restarts=settings.max_restarts,
            period_seconds=settings.restart_period_seconds,
            heartbeat_seconds=min(MOST_HEARTBEAT_SECONDS, settings.heartbeat_deadline_seconds / LOOKS_PER_DEADLINE),
            heartbeat_deadline=settings.heartbeat_deadline_seconds,
        )
        super().__init__((), timers=timers, policy=policy, feed=feed, prefix=f"{m.JOBS}/", label="job")
        self._settings = settings
        self._host = host
        self._board = board
        self._notes = Notes(status_writer, timers)
        self._scheduler = scheduler
        self._gateway = gateway
        self._deadlines = StageDeadlines()
        self._observations = feed
        self._streaks = CrashStreaks()
        self._stop_listening = [feed.add(heard.on_observation) for heard in (self._deadlines, self._streaks)]
        self._limits = limits_of(settings)
        self._watch = JobWatch(self._limits, workspace, self._pids, self.put)
        self._backoff = Backoff(minimum=0.1, maximum=10.0, reset_after=settings.restart_period_seconds)
        self._doomed: dict[str, e.ErrorInfo] = {}
        self._noted: dict[str, Future[Any]] = {}
        self._ending: set[str] = set()
        self._stopping: set[str] = set()  # of those, the ones that are not to go on later
        self._failing: set[str] = set()
        self._is_looking = False
        self._orders: dict[type, Callable[[Any], None]] = {
            m.StartJob: self._start_job,
            m.EndJob: self._end_job,
            m.SchedulerUp: self._tell_what_runs,
            _Look: self._look,
            _CrashNoted: self._crash_noted,
            _EndNoted: self._end_noted,
            OverLimit: self._over_limit,
        }

    def on_start(self) -> None:
        super().on_start()
        self._watch.start()
        self._tell(self._scheduler, m.JobsUp())

    def on_stop(self) -> None:
        for stop_listening in self._stop_listening:
            stop_listening()
        self._watch.stop()
        super().on_stop()

    def receive(self, message: Any) -> object:
        order = self._orders.get(type(message))
        return order(message) if order is not None else super().receive(message)

    def _tell_what_runs(self, message: m.SchedulerUp) -> None:  # noqa: ARG002  (one shape for every order)
        self._tell(self._scheduler, m.JobsUp((*self._machine.children, *self._failing)))

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
                    backoff=self._backoff,
                    first_epoch=message.epoch,
                )
            )
        )
        started.add_done_callback(lambda done: self._refused(job_id, done.exception()))
        self._look_later()
        self._watch.wake()

    def _pids(self) -> dict[str, int | None]:
        """The process of each job, None where it is still to come; for the watch's thread."""
        running = {job_id: self.running(job_id) for job_id in list(self._machine.children)}
        return {job_id: None if child is None else child.pid for job_id, child in running.items()}

    def _refused(self, job_id: str, error: BaseException | None) -> None:
        """One that was launched and did not get ready is heard of as of any exit; so is one that is there already."""
        was_launched = isinstance(error, Refused) and error.code in {"start_failed", "terminated"}
        if error is not None and not was_launched and job_id not in self._machine.children:
            self._tell(self._scheduler, m.JobEnded(job_id, gave_up=True))

    def _starter(self, message: m.StartJob) -> Starter:
        spec = message.spec

        def arguments(epoch: int) -> dict[str, Any]:
            self._board.give_epoch(spec.job_id, epoch)
            again = epoch > message.epoch
            armed = lasting(spec.fault_point) if again else spec.fault_point
            told = {"resumed": again or spec.resumed, "fault_point": armed}
            return {"spec": spec.model_copy(update=told).model_dump(mode="json")}

        return process(
            self._host,
            ENTRY,
            arguments,
            after=lambda: self._noted.pop(spec.job_id, None),
            limits=self._limits.kernel_limits,
        )

    def _end_job(self, message: m.EndJob) -> None:
        child = self.running(message.job_id)
        self._ending.add(message.job_id)
        if not message.suspend:
            self._stopping.add(message.job_id)
        self._end(message.job_id, Stop(suspend=message.suspend))
        if isinstance(child, ProcessChild) and not message.suspend:
            self._timers.after(STOP_SECONDS, lambda: _end_by_force(child))

    def _end(self, job_id: str, how: Stop | None = None) -> None:
        """Have it end and not come back. Where there is nothing to end now, nobody would hear of its exit."""
        child = self._machine.children.get(job_id)
        if child is not None:
            has_process = child.incarnation is not None
            self._carry_out(supervision.TerminateChild(job_id, how))
            if has_process:
                return
        if job_id not in self._failing:
            self._forget(job_id)
            self._tell(self._scheduler, m.JobEnded(job_id, gave_up=False))

    def _forget(self, job_id: str) -> None:
        """Its run is over, as far as processes go."""
        self._noted.pop(job_id, None)
        self._ending.discard(job_id)
        if job_id in self._stopping:
            self._stopping.remove(job_id)
            self._tell(self._gateway, JobStopped(job_id))
        self._streaks.forget(job_id)

    # What becomes of them

    def on_child_exit(self, spec: ChildSpec, epoch: int, reason: ExitReason, will_restart: bool) -> None:
        overdue = self._deadlines.overdue_task(spec.id) if reason.kind == "timeout" else ""
        self._deadlines.forget(spec.id)
        self._tell(self._gateway, JobGone(spec.id))
        if reason.is_abnormal:
            down = e.ProcessDown(
                at=timestamp(time.time()), cause=reason.kind, detail=reason.detail[-2000:], ended=epoch, task=overdue
            )
            noted = self._noted[spec.id] = self._notes.note(spec.id, down)
            if will_restart:
                noted.add_done_callback(lambda _: self.put(_CrashNoted(spec.id, epoch, reason)))
        if will_restart:
            return
        was_asked = spec.id in self._ending
        self._forget(spec.id)
        doom = self._doomed.pop(spec.id, None)
        if doom is not None and reason.is_abnormal:
            self._fail(spec.id, doom)
        elif was_asked or not reason.is_abnormal:
            self._tell(self._scheduler, m.JobEnded(spec.id, gave_up=False))

    def on_give_up(self, spec: ChildSpec, epoch: int, reason: ExitReason) -> None:  # noqa: ARG002  (the same)
        """The budget is spent."""
        message = (
            f"its process ended more than {self._settings.max_restarts} times in "
            f"{self._settings.restart_period_seconds:g} s, last: {reason}"
        )
        self._fail(spec.id, e.ErrorInfo(name="ProcessCrashed", message=message))

    def _crash_noted(self, message: _CrashNoted) -> None:
        """Let a job be that was killed on its way out; give up on one that crashes too slowly for the budget, but
        always before it gets anywhere."""
        child = self._machine.children.get(message.job_id)
        if child is None or child.epoch > message.epoch + 1:
            return  # it was ended meanwhile
        document = self._board.job(message.job_id)
        if document is None or document["state"] in AT_REST:
            self._end(message.job_id)
            return
        if self._streaks.crashed(message.job_id) <= self._settings.max_restarts:
            return
        words = (
            f"its process ended {self._settings.max_restarts + 1} times before a stage or a task was finished, "
            f"last: {message.reason}"
        )
        self._end_in_error(message.job_id, e.ErrorInfo(name="ProcessCrashed", message=words))

    def _over_limit(self, message: OverLimit) -> None:
        """A job uses too much. It would do so again, so it is not started again."""
        child = self.running(message.job_id)
        if child is None or child.pid != message.pid or message.job_id in self._doomed:
            return  # that process is gone already
        self._observations.publish(seen.JobOverLimit(message.job_id, message.excess.resource))
        self._end_in_error(message.job_id, message.excess.error)

    def _end_in_error(self, job_id: str, error: e.ErrorInfo) -> None:
        """Kill its process, where there is one now, and let it not come back."""
        child = self.running(job_id)
        if isinstance(child, ProcessChild):
            self._doomed[job_id] = error
            child.kill(ExitReason("signal", f"SIGKILL: {error.message}"))
        elif job_id in self._machine.children:
            self._fail(job_id, error)
        self._end(job_id)

    def _fail(self, job_id: str, error: e.ErrorInfo) -> None:
        """The job is in error, and its slot is free."""
        document = self._board.job(job_id) or {}
        failed = e.JobFailed(
            at=timestamp(time.time()),
            task=document.get("current") or "",
            stage=document.get("currentStage") or "",
            reason="crashed",
            error=error,
        )
        self._forget(job_id)
        self._failing.add(job_id)
        self._notes.note(job_id, failed).add_done_callback(lambda _: self.put(_EndNoted(job_id)))

    def _end_noted(self, message: _EndNoted) -> None:
        self._failing.discard(message.job_id)
        self._forget(message.job_id)
        self._tell(self._scheduler, m.JobEnded(message.job_id, gave_up=True))

    def _tell(self, ref: Ref, message: object) -> None:
        """Until it is taken: an actor that is about to go must not take this one, and all jobs, with it."""
        try:
            ref.tell(message)
        except Unavailable:
            self._timers.after(RETRY_SECONDS, lambda: self._tell(ref, message))

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


def _end_by_force(child: ProcessChild) -> None:
    """In the timers' thread: this one, and not whoever has come after it."""
    child.kill()
