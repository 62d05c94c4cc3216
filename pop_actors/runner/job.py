"""The actor a job's process runs: which task starts when, what happens when one ends, and how the run ends.

The main thread coordinates and does nothing else. Each attempt of a task has a thread (`attempts.py`), which posts its
outcome here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from pop_actors.actors.process_actor import ProcessActor, ProcessContext
from pop_actors.core import events as e
from pop_actors.core.ids import seconds_of
from pop_actors.core.job_spec import JobSpec, TaskEntry
from pop_actors.core.messages import Stop
from pop_actors.core.strict_json import parse
from pop_actors.errors import Damaged
from pop_actors.runner.attempts import AttemptBroke, AttemptEnded, Attempts, RetryDue
from pop_actors.runner.capture import Capture
from pop_actors.runner.clockwork import Clockwork
from pop_actors.runner.directives import Directives
from pop_actors.runner.event_stream import EventStream
from pop_actors.runner.failures import Failure, backoff
from pop_actors.runner.gates import gate_of
from pop_actors.runner.history import History, TaskPast, after, history_of
from pop_actors.runner.room import Room
from pop_actors.runner.run_code import change_of, code_of, question_about
from pop_actors.runner.run_state import RunState
from pop_actors.runner.run_tasks import RunTasks
from pop_actors.runner.workplace import Begin, Failed, Outcome, Succeeded, Workplace
from pop_actors.runner.writes import Writes
from pop_actors.storage import fault_points
from pop_actors.storage.fault_points import reach
from pop_actors.storage.files import drop_temporaries
from pop_actors.storage.jsonl import read_lines
from pop_actors.storage.layout import JobDirectory
from pop_actors.storage.moves import unlink_if_there
from pop_actors.storage.process_log import PROCESS_LOG
from pop_actors.storage.runner_pid import write_runner_pid
from pop_actors.storage.task_code import CodeReader

LAST_WRITE_SECONDS = 2.0
_log = logging.getLogger("pop_actors.runner")


class JobActor(ProcessActor):
    """One run of one job. `spec` is the document of a `JobSpec`."""

    def __init__(self, context: ProcessContext, spec: dict[str, Any]) -> None:
        super().__init__(context)
        self._spec = JobSpec.model_validate(spec)
        self._directory = JobDirectory(Path(self._spec.directory))
        self._tasks = RunTasks(self._spec, self._directory)
        self._state = RunState(self._spec.entries)
        self._process_log_is_known = False
        self._capture = Capture(self._directory.files("logs"))
        self._writes = Writes()
        self._clockwork = Clockwork()
        self._suspending = threading.Event()
        self._stream = EventStream(
            context.ref("status-writer"), self._spec.job_id, self._spec.run_id, context.epoch, self._clockwork
        )  # fmt: skip
        self._room = Room(self._suspending)
        self._directives = Directives(self._tasks, self._directory, self._state, self._stream, self._room)

    def run(self) -> None:
        """The actor's life, with the process's output going to the job's logs."""
        self.context.ready()  # from here on it may have to wait for the disk, which is no failed start
        if not self._directory.path.is_dir():
            _log.info("job %s has left current/: its run is over", self._spec.job_id)
            return
        writes_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        fault_points.arm(self._spec.fault_point)
        try:
            with contextlib.ExitStack() as output:
                self._room.write(lambda: output.enter_context(self._capture.installed()))
                super().run()
        finally:
            sys.dont_write_bytecode = writes_bytecode
            self._clockwork.stop()

    def on_start(self) -> None:
        past = self._history()
        if past.is_at_rest:
            self._capture.forget_unused_process_log()
            self.stop()
            return
        self._room.write(lambda: write_runner_pid(self._directory.runner_pid, os.getpid()))
        try:
            self._directives.have_added(*past.patches)
        except Damaged as error:
            self._end(e.JobFailed, reason="load", error=e.ErrorInfo(name="Damaged", message=str(error)))
            return
        spec = self._tasks.spec
        if spec.resumed:
            self._tidy()
        place = Workplace(
            spec,
            self._directory,
            self.context.epoch,
            parse(self._directory.seed.read_bytes()),
            self._stream,
            self.context.ref("gateway"),
            self._capture,
            self._clockwork,
            self._suspending,
            self._writes,
        )
        self._attempts = Attempts(place, self._state, self.context.mailbox.put)
        history = self._begin(past)
        if history.held is not None:
            self._end(e.JobWaiting, reason="code", message=question_about(history.held))
            return
        self._take_up(history)
        self._go_on()

    def on_receive(self, message: object) -> None:
        match message:
            case AttemptEnded(task, attempt, outcome):
                self._attempt_ended(self._tasks.by_name[task], attempt, outcome)
                self._go_on()
            case AttemptBroke(error):
                raise error
            case RetryDue(task, attempt):
                if self._state.is_pausing(task) and not self._suspending.is_set():
                    reach("runner.retry-due")
                    self._attempts.start(self._tasks.by_name[task], Begin(attempt))
            case Stop(suspend=True):
                self._suspending.set()
                self._go_on()
            case Stop():
                self._end(e.JobStopped)
            case _:
                _log.warning("a job does not understand %s", type(message).__name__)

    # What was before

    def _tidy(self) -> None:
        """Whoever was killed in the middle of a write left a temporary file; now nobody else writes there."""
        for folder in ("tasks", "files"):
            for place, _, _ in os.walk(self._directory.path / folder):
                drop_temporaries(place)

    def _history(self) -> History:
        if not self._spec.resumed:
            return History()
        return history_of(e.event_from(document) for _, document in read_lines(self._directory.events))

    def _begin(self, history: History) -> History:
        """Note the start; and where the code is not what the run had before, say so before anything goes on with it."""
        reader = CodeReader(self._spec.root)
        code = code_of(self._tasks.spec, self._directory, reader)
        self._directives.code = history.code or code
        known = history.code is not None
        self._stream.note(e.JobStarted, pid=os.getpid(), resumed=history.started, code=None if known else code)
        reach("runner.started")
        change = change_of(history, code, self._tasks.spec, reader)
        if change is None:
            return history
        self._directives.code = code
        self._stream.report(e.CodeChanged, **{name: getattr(change, name) for name in _TOLD_OF_A_CHANGE})
        reach("runner.code-changed")
        return after(history, change)

    def _take_up(self, history: History) -> None:
        for entry in self._tasks.entries:
            past = history.of(entry.name)
            if past.ended is not None:
                self._has_ended(entry, past, past.ended)
        self._directives.skip_what_the_seed_says()
        for entry in self._tasks.entries:
            past = history.of(entry.name)
            if past.ended is not None and past.control is not None:
                self._directives.carry_out(past.control)
        for entry in self._tasks.entries:
            past = history.of(entry.name)
            if past.ended is None and past.attempt and self._state.is_pending(entry.name):
                self._resume(entry, past, history.timed_out)

    def _has_ended(self, entry: TaskEntry, past: TaskPast, end: e.TaskDone | e.TaskFailed | e.TaskSkipped) -> None:
        match end:
            case e.TaskDone():
                self._state.succeeds(entry.name, None if past.approved else gate_of(entry, past.control))
            case e.TaskSkipped():
                self._state.is_skipped(entry.name)
            case e.TaskFailed():
                self._state.fails(entry, Failure(end.stage, end.reason, end.error))

    def _resume(self, entry: TaskEntry, past: TaskPast, timed_out: e.StageStarted | None) -> None:
        failed = past.attempt_failed
        if failed is None and past.begins_anew:
            self._attempts.start(entry, Begin(past.attempt + 1))
            return
        if failed is None:
            overdue = timed_out if timed_out is not None and timed_out.task == entry.name else None
            self._attempts.start(entry, Begin(past.attempt, is_new=False, overdue=overdue))
            return
        failure = Failure(failed.stage, failed.reason, failed.error)
        self._state.pauses(entry.name, past.attempt, Failed(failure, 0.0, 0))
        pause = max(0.0, seconds_of(failed.at) + failed.retry_in - time.time())
        self._attempts.start_later(entry.name, past.attempt + 1, min(pause, failed.retry_in))

    # What happens

    def _go_on(self) -> None:
        if not self._running:
            return
        if self._state.is_over:
            self._conclude()
        elif self._suspending.is_set():
            if not self._state.runs_a_task:
                self._end(e.JobSuspended)
        else:
            for entry in self._state.ready():
                self._attempts.start(entry, Begin(1))
            if self._state.waits_for_nobody:
                self._wait_or_get_stuck()

    def _attempt_ended(self, entry: TaskEntry, attempt: int, outcome: Outcome) -> None:
        self._announce_process_log(entry.name)
        match outcome:
            case Succeeded(output, milliseconds, refinements):
                control = self._directives.take(entry)
                self._state.succeeds(entry.name, gate_of(entry, control))
                self._attempts.keep(entry.name, output)
                self._settle(
                    e.TaskDone, task=entry.name, attempt=attempt, execution_time=milliseconds, refinements=refinements
                )
                reach("runner.task-confirmed")
                if control is not None:
                    self._directives.carry_out(control)
                    self._directives.skip_what_the_seed_says()
                if self._state.is_gated(entry.name):
                    reach("runner.gate-reached")
            case Failed():
                self._attempt_failed(entry, attempt, outcome)
            case _:
                self._state.is_to_begin_later(entry.name)

    def _attempt_failed(self, entry: TaskEntry, attempt: int, failed: Failed) -> None:
        failure = failed.failure
        if failure.final or attempt >= entry.max_attempts or self._state.first_failed is not None:
            self._state.fails(entry, failure)
            self._settle(e.TaskFailed, **_task_failed(entry, attempt, failed))
            return
        pause = backoff(attempt, self._spec.retry_backoff_seconds, random.random())  # noqa: S311  (no secret)
        self._state.pauses(entry.name, attempt, failed)
        self._stream.report(
            e.AttemptFailed,
            task=entry.name,
            attempt=attempt,
            stage=failure.stage,
            reason=failure.reason,
            error=failure.error,
            retry_in=pause,
        )
        reach("runner.attempt-failed")
        self._attempts.start_later(entry.name, attempt + 1, pause)

    def _settle(self, kind: type[e.Event], /, **fields: Any) -> None:
        """A task's end, on disk before anything builds on it; at the run's end it shares that one's barrier."""
        record = self._stream.note if self._state.is_over else self._stream.confirm
        record(kind, **fields)

    def _announce_process_log(self, task: str) -> None:
        if not self._process_log_is_known and self._capture.process_log_is_used():
            self._process_log_is_known = True
            self._stream.note(e.FileWritten, task=task, kind="logs", name=PROCESS_LOG)

    # How it ends

    def _conclude(self) -> None:
        if self._state.first_failed is None:
            self._end(e.JobDone)
            return
        self._give_up_pausing()
        entry, failure = self._state.first_failed
        if failure.reason == "quality" and entry.on_refinement_exhausted == "reject":
            self._end(e.JobRejected, task=entry.name, stage=failure.stage, message=failure.error.message)
        else:
            self._end(e.JobFailed, task=entry.name, stage=failure.stage, reason=failure.reason, error=failure.error)

    def _give_up_pausing(self) -> None:
        """Tasks between two attempts are not tried again once the job has failed."""
        for entry, attempt, failed in self._state.pausing():
            self._stream.note(e.TaskFailed, **_task_failed(entry, attempt, failed))

    def _wait_or_get_stuck(self) -> None:
        """Nothing can go on by itself: a person is asked about the first task whose gate is closed."""
        closed = self._state.closed_gate()
        if closed is None:
            self._stuck()
            return
        task, gate = closed
        self._end(e.JobWaiting, task=task, reason=gate.reason, message=gate.message, artifacts=gate.artifacts)

    def _stuck(self) -> None:
        pending = ", ".join(self._state.pending())
        message = f"these tasks wait for each other, or for tasks that do not exist: {pending}"
        self._end(e.JobFailed, reason="exception", error=e.ErrorInfo(name="DependencyCycle", message=message))

    def _end(self, kind: type[e.Event], /, **fields: Any) -> None:
        """The run's last event; after its barrier the directory may be elsewhere, so it is tidied before. An attempt
        that is under way still, where the job is stopped, writes nothing from here on that this event did not know."""
        if not self._writes.end(LAST_WRITE_SECONDS):
            _log.warning("a file is being written still, %g s after the run was to end", LAST_WRITE_SECONDS)
        self._capture.end()
        self._capture.forget_unused_process_log()
        for task in self._state.running():
            self._announce_process_log(task)
        unlink_if_there(self._directory.runner_pid)
        reach("runner.before-end")
        self._stream.end(kind, **fields)
        reach("runner.ended")
        self.stop()


_TOLD_OF_A_CHANGE = ("tasks", "files", "action", "code")


def _task_failed(entry: TaskEntry, attempt: int, failed: Failed) -> dict[str, Any]:
    failure = failed.failure
    return {
        "task": entry.name,
        "attempt": attempt,
        "stage": failure.stage,
        "reason": failure.reason,
        "error": failure.error,
        "execution_time": failed.milliseconds,
        "refinements": failed.refinements,
        "optional": entry.optional,
    }
