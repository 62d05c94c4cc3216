"""One attempt of one task, from its letter to its output: load, then stage by stage as `core.stages` says.

Runs in a thread of its own, started by the job. Whatever the task's code does ends in an `Outcome`, and so does a disk
that fails; where it is full, the attempt waits. An error of the runner itself (a lost daemon) is raised, and ends the
process.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

from pop_actors.core import events as e
from pop_actors.core.ids import timestamp
from pop_actors.core.job_spec import TaskEntry
from pop_actors.core.stages import SEED, STAGES, Fail, Finish
from pop_actors.runner.batch import settled
from pop_actors.runner.checkpoint import Checkpoint, Line
from pop_actors.runner.clockwork import Deadline
from pop_actors.runner.context import Material, Meta, StageContext
from pop_actors.runner.failures import Failure, disk_failed, failure_from, failure_of, flagged
from pop_actors.runner.forks import here_only
from pop_actors.runner.json_values import InvalidResult, merged_flags, plain, result_of
from pop_actors.runner.kept_files import KeptFiles
from pop_actors.runner.llm import Llm
from pop_actors.runner.llm_call import Caller, Purse
from pop_actors.runner.llm_choice import Choice, choice_of_config, override_of
from pop_actors.runner.progress import Progress
from pop_actors.runner.room import Leaving, Room
from pop_actors.runner.task_io import FileIndex, TaskIO
from pop_actors.runner.task_modules import LOAD, Handler, load_stages, target_of
from pop_actors.runner.task_record import TaskRecord
from pop_actors.runner.workplace import Begin, Failed, Outcome, Succeeded, Suspended, Workplace
from pop_actors.storage.fault_points import reach


class Attempt:
    """One attempt. `run` is called once."""

    def __init__(self, place: Workplace, entry: TaskEntry, begin: Begin, upstream: Mapping[str, Any]) -> None:
        spec = place.spec
        self._place = place
        self._entry = entry
        self._number = begin.attempt
        self._begin = begin
        self._upstream = upstream
        self._record = TaskRecord(place.directory, spec, entry, begin.attempt, list(upstream))
        self._index = FileIndex(lambda kind, name: self._note(e.FileWritten, kind=kind, name=name), place.writes)
        self._files = KeptFiles(place.directory, entry.name)
        self._room = Room(
            place.suspending,
            lambda: self._report(e.TaskHeld, reason=self._room.reason),
            lambda seconds: self._report(e.TaskReleased, seconds=round(seconds, 3)),
        )
        self._progress = Progress(place.seed, (), 0)
        self._at = LOAD
        llm = spec.llm
        pipeline = Choice(llm.provider, llm.model, llm.temperature, llm.max_tokens, llm.reasoning_effort, llm.fallback)
        self._levels = (choice_of_config(entry.config), pipeline)
        self._override = override_of(entry.config, spec.llm_override)
        self._log = _log_of(entry.name)

    def run(self) -> Outcome:
        """Do what is left of the attempt."""
        fresh = self._begin.is_new and self._number == 1 and not self._place.spec.resumed
        path, run_id = self._record.directory.checkpoint, self._place.spec.run_id
        try:
            self._room.write(lambda: self._record.open(fresh=fresh))
            self._checkpoint = self._room.write(lambda: Checkpoint(path, run_id, fresh=fresh))
            if not fresh and not self._checkpoint.of_attempt(self._number):
                self._room.write(self._record.forget_control)
        except Leaving:
            return Suspended()
        except OSError as error:
            return Failed(disk_failed(error, LOAD), 0.0, 0)
        try:
            return self._run()
        except Leaving:
            return Suspended()
        except OSError as error:  # of the runner's own files: what a task's code raises does not come here
            return self._give_up(disk_failed(error, self._at))
        finally:
            self._checkpoint.close()

    def _run(self) -> Outcome:
        if self._begin.is_new:
            self._note(e.TaskStarted, attempt=self._number)
            reach("runner.task-started")
        self._take_up_again()
        failure = self._failed_before()
        if failure is not None:
            return self._give_up(failure)
        handlers = self._load()
        if isinstance(handlers, Failure):
            return self._give_up(handlers)
        self._progress = Progress(self._place.seed, handlers, self._entry.max_refinements)
        self._progress.retrace(lambda stage, number: self._checkpoint.find(self._number, stage, number))
        return self._go_through(handlers)

    def _take_up_again(self) -> None:
        """Files of finished stages are announced again: their reports, and that of the attempt itself, may have been
        lost with the process."""
        for line in self._checkpoint.of_attempt(self._number):
            for kind, name in line.files:
                self._index.add(kind, name)
        self._index.take()
        self._index.written()

    def _failed_before(self) -> Failure | None:
        """The failure that ended this attempt already, if one did: then only its report was lost."""
        lines = self._checkpoint.of_attempt(self._number)
        if lines and lines[-1].failure is not None:
            return failure_from(lines[-1].failure, lines[-1].stage)
        stage = self._begin.overdue
        if stage is None:
            return None
        message = f"not finished within {stage.timeout:g} s; the process was ended"
        failure = flagged(stage.stage, "timeout", message)
        flags = lines[-1].flags if lines else {}
        self._append(stage.stage, stage.round, stage.at, stage.timeout * 1000, flags=flags, failure=failure)
        return failure

    def _load(self) -> dict[str, Handler] | Failure:
        def load() -> dict[str, Handler]:
            target = target_of(self._place.spec.task_modules, self._entry.task)
            return load_stages(target, self._entry.name)

        deadline = self._deadline()
        self._start(LOAD, 0, deadline)
        started, clock = time.time(), time.perf_counter()
        try:
            with self._captured(LOAD, 0):
                handlers = deadline.guard(lambda: here_only(load))
        except BaseException as error:  # noqa: BLE001  (whatever a task's code raises is that task's failure)
            failure = failure_of(error, LOAD)
            ms = _milliseconds_since(clock)
            self._append(LOAD, 0, timestamp(started), ms, failure=failure)
            self._finished(LOAD, 0, ms, ok=False)
            return failure
        self._finished(LOAD, 0, _milliseconds_since(clock), ok=True)
        return handlers

    def _go_through(self, handlers: Mapping[str, Handler]) -> Outcome:
        while True:
            step = self._progress.next()
            if isinstance(step, Finish):
                return self._succeed()
            if isinstance(step, Fail):
                return self._give_up(self._flagged(step))
            if self._place.suspending.is_set():
                return Suspended()
            failure = self._stage(step.stage, step.round, handlers[step.stage])
            if failure is not None:
                return self._give_up(failure)
            if step.stage == "refine":
                reach("runner.refined")

    def _flagged(self, step: Fail) -> Failure:
        if step.reason == "validation":
            return flagged(step.stage, "validation", f"{step.stage} set validationFailed")
        rounds = self._entry.max_refinements
        return flagged(step.stage, "quality", f"needsRefinement is still true after {rounds} of {rounds} rounds")

    def _stage(self, stage: str, number: int, handler: Handler) -> Failure | None:
        """Run one stage and write its line. The failure it ended in, if it did."""
        deadline = self._deadline()
        if deadline.seconds <= 0:
            return flagged(stage, "timeout", f"the task's {self._entry.timeout:g} s were over before this stage")
        paid: list[dict[str, Any]] = []
        io = TaskIO(self._place.directory, self._entry.name, self._index, deadline, self._room)
        llm = self._llm(stage, number, deadline, paid)
        context = StageContext(self._material(), self._meta(number), io, llm, self._log)
        self._start(stage, number, deadline)
        reach("runner.stage-started")
        started, clock = time.time(), time.perf_counter()
        failure: Failure | None = None
        output, flags = None, self._progress.flags
        try:
            with self._captured(stage, number):
                output, flags = deadline.guard(
                    lambda: here_only(lambda: self._result(stage, handler, context, deadline))
                )
                io.close(ok=True)
        except Leaving:
            io.close(ok=False)
            raise
        except BaseException as error:  # noqa: BLE001  (whatever a task's code raises is that task's failure)
            failure = failure_of(error, stage)
            io.close(ok=False)
        ms = _milliseconds_since(clock)
        reach("runner.stage-ran")
        self._keep_files(failure)
        self._append(stage, number, timestamp(started), ms, output=output, flags=flags, calls=paid, failure=failure)
        reach("runner.stage-done")
        self._finished(stage, number, ms, ok=failure is None)
        if failure is None:
            self._progress.take(stage, number, output, flags)
        return failure

    def _keep_files(self, failure: Failure | None) -> None:
        """What the stage wrote is on disk before a line says that it is over. It may have failed already."""
        try:
            self._files.keep(self._index.written())
        except OSError as error:
            if failure is None:
                raise
            self._log.error("what the failed stage wrote is not safe on disk: %s", error)

    def _result(self, stage: str, handler: Handler, context: StageContext, deadline: Deadline) -> tuple[Any, Any]:
        output, added = result_of(settled(handler(context), deadline), stage)
        return output, merged_flags(self._progress.flags, added, stage)

    def _material(self) -> Material:
        progress = self._progress
        return Material(
            dict(progress.outputs), self._upstream, progress.output, progress.previous_stage, progress.flags,
            self._entry.config,
        )  # fmt: skip

    def _meta(self, number: int) -> Meta:
        spec = self._place.spec
        return Meta(self._entry.name, spec.job_id, spec.run_id, self._number, number, spec.mode)

    def _llm(self, stage: str, number: int, deadline: Deadline, paid: list[dict[str, Any]]) -> Llm:
        place, spec = self._place, self._place.spec
        return Llm(
            Caller(
                place.gateway, spec.job_id, spec.run_id, place.epoch, self._entry.name, self._number, stage, number,
                deadline, spec.request_timeout, paid, self._levels, self._override, self._room,
                Purse(spec.pipeline, spec.priority, spec.budget_usd), place.writes,
            )
        )  # fmt: skip

    def _deadline(self) -> Deadline:
        """The stage's time: its own, or what is left of the task's where that is less."""
        seconds = self._entry.stage_timeout
        if self._entry.timeout is not None:
            spent = sum(line.ms for line in self._checkpoint.of_attempt(self._number)) / 1000
            seconds = min(seconds, self._entry.timeout - spent)
        return Deadline(self._place.clockwork, seconds)

    def _captured(self, stage: str, number: int) -> Any:
        header = f"attempt {self._number}, round {number}, {timestamp(time.time())}"
        return self._place.capture.stage(
            self._entry.name, stage, header, lambda name: self._index.add("logs", name)
        )  # fmt: skip

    def _start(self, stage: str, number: int, deadline: Deadline) -> None:
        self._at = stage
        self._report(e.StageStarted, stage=stage, round=number, attempt=self._number, timeout=deadline.seconds)

    def _finished(self, stage: str, number: int, ms: float, *, ok: bool) -> None:
        self._note(e.StageFinished, stage=stage, round=number, attempt=self._number, ok=ok, ms=ms)

    def _note(self, kind: type[e.Event], /, **fields: Any) -> None:
        self._place.stream.note(kind, task=self._entry.name, **fields)

    def _report(self, kind: type[e.Event], /, **fields: Any) -> None:
        self._place.stream.report(kind, task=self._entry.name, **fields)

    def _append(
        self,
        stage: str,
        number: int,
        started_at: str,
        ms: float,
        *,
        output: Any = None,
        flags: dict[str, Any] | None = None,
        calls: list[dict[str, Any]] | None = None,
        failure: Failure | None = None,
    ) -> None:
        line = Line(
            stage=stage,
            round=number,
            ok=failure is None,
            ms=ms,
            output=output,
            flags=flags or {},
            started_at=started_at,
            run_id=self._place.spec.run_id,
            attempt=self._number,
            files=self._index.take(),
            calls=calls or [],
            failure=failure.document() if failure else None,
        )
        self._room.write(lambda: self._checkpoint.append(line))

    def _succeed(self) -> Outcome:
        output = self._progress.output
        if self._progress.previous_stage == SEED:  # only a seed that passes through as it is was not checked before
            try:
                output = plain(output, "output")
            except InvalidResult as error:
                return self._give_up(failure_of(error, STAGES[-1]))
        path = self._progress.path + self._progress.never_reached()
        self._room.write(lambda: self._record.close_well(output, self._checkpoint.lines, path))
        reach("runner.output-written")
        return Succeeded(output, self._checkpoint.milliseconds, self._progress.rounds)

    def _give_up(self, failure: Failure) -> Failed:
        last_output = None if self._progress.previous_stage == SEED else self._progress.output
        lines, path = self._checkpoint.lines, self._progress.path

        def close() -> None:
            with self._index.adding("logs", self._record.details):
                self._record.close_badly(failure, lines, path, last_output)

        try:
            self._room.write(close)
            self._room.write(self._checkpoint.sync)
        except OSError as error:  # papers for people: what went wrong is in the job's log all the same
            self._log.error("what attempt %d leaves behind could not be written: %s", self._number, error)
        return Failed(failure, self._checkpoint.milliseconds, self._progress.rounds)


def _log_of(task: str) -> logging.Logger:
    """Everything a task logs is kept. Said once for all of them, since each change of a level goes through every logger
    there is."""
    tasks = logging.getLogger("task")
    if tasks.level != logging.DEBUG:
        tasks.setLevel(logging.DEBUG)
    return tasks.getChild(task)


def _milliseconds_since(moment: float) -> float:
    """`moment` is of perf_counter."""
    return round((time.perf_counter() - moment) * 1000, 3)
