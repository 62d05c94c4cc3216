"""One attempt of one task, from its letter to its output: load, then stage by stage as `core.stages` says.

Runs in a thread of its own, started by the job. Whatever the task's code does ends in an `Outcome`; an error of the
runner itself (a full disk, a lost daemon) is raised, and ends the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pop_actors.actors.process_actor import Ref
from pop_actors.core import events as e
from pop_actors.core.ids import timestamp
from pop_actors.core.job_spec import JobSpec, TaskEntry
from pop_actors.core.stages import SEED, STAGES, Fail, Finish
from pop_actors.runner.batch import settled
from pop_actors.runner.capture import Capture
from pop_actors.runner.checkpoint import Checkpoint, Line
from pop_actors.runner.clockwork import Clockwork, Deadline
from pop_actors.runner.context import Material, Meta, StageContext
from pop_actors.runner.event_stream import EventStream
from pop_actors.runner.failures import Failure, failure_from, failure_of, flagged
from pop_actors.runner.forks import here_only
from pop_actors.runner.json_values import InvalidResult, merged_flags, plain, result_of
from pop_actors.runner.llm import Caller, Choice, Llm, choice_of_config
from pop_actors.runner.progress import Progress
from pop_actors.runner.task_io import FileIndex, TaskIO
from pop_actors.runner.task_modules import LOAD, Handler, load_stages, target_of
from pop_actors.runner.task_record import TaskRecord
from pop_actors.storage.fault_points import reach
from pop_actors.storage.layout import JobDirectory


@dataclass(frozen=True, slots=True)
class Succeeded:
    """`milliseconds` over all attempts of this run; `output` is the task's final one."""

    output: Any
    milliseconds: float
    refinements: int


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure
    milliseconds: float
    refinements: int


@dataclass(frozen=True, slots=True)
class Suspended:
    """The attempt stopped at a stage boundary, and will go on there."""


Outcome = Succeeded | Failed | Suspended


@dataclass(frozen=True, slots=True)
class Workplace:
    """What the attempts of a job's process share. `suspending` is set when no further stage is to start."""

    spec: JobSpec
    directory: JobDirectory
    epoch: int
    seed: Any
    stream: EventStream
    gateway: Ref
    capture: Capture
    clockwork: Clockwork
    suspending: threading.Event


@dataclass(frozen=True, slots=True)
class Begin:
    """How an attempt begins. `is_new`: it was not under way before this process. `overdue`: the stage whose time was
    over when the daemon ended the process before."""

    attempt: int
    is_new: bool = True
    overdue: e.StageStarted | None = None


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
        self._index = FileIndex(lambda kind, name: self._note(e.FileWritten, kind=kind, name=name))
        pipeline = Choice(spec.llm.provider, spec.llm.model, spec.llm.temperature, spec.llm.max_tokens)
        self._levels = (choice_of_config(entry.config), pipeline)
        self._log = logging.getLogger(f"task.{entry.name}")
        self._log.setLevel(logging.DEBUG)

    def run(self) -> Outcome:
        """Do what is left of the attempt."""
        self._record.open()
        fresh = self._begin.is_new and self._number == 1 and not self._place.spec.resumed
        self._checkpoint = Checkpoint(self._record.directory.checkpoint, self._place.spec.run_id, fresh=fresh)
        try:
            return self._run()
        finally:
            self._checkpoint.close()

    def _run(self) -> Outcome:
        if self._begin.is_new:
            self._note(e.TaskStarted, attempt=self._number)
            reach("runner.task-started")
        else:
            self._take_up_again()
        self._progress = Progress(self._place.seed, (), 0)
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
        """Files of finished stages are announced again: the process may have ended before they were recorded."""
        for line in self._checkpoint.of_attempt(self._number):
            for kind, name in line.files:
                self._index.add(kind, name)
        self._index.take()

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
        io = TaskIO(self._place.directory, self._entry.name, self._index, deadline)
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
        except BaseException as error:  # noqa: BLE001  (whatever a task's code raises is that task's failure)
            failure = failure_of(error, stage)
            io.close(ok=False)
        ms = _milliseconds_since(clock)
        reach("runner.stage-ran")
        self._append(stage, number, timestamp(started), ms, output=output, flags=flags, calls=paid, failure=failure)
        reach("runner.stage-done")
        self._finished(stage, number, ms, ok=failure is None)
        if failure is None:
            self._progress.take(stage, number, output, flags)
        return failure

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
                deadline, spec.request_timeout, paid, self._levels, spec.llm_override,
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
        self._place.stream.report(
            e.StageStarted, task=self._entry.name, stage=stage, round=number, attempt=self._number,
            timeout=deadline.seconds,
        )  # fmt: skip

    def _finished(self, stage: str, number: int, ms: float, *, ok: bool) -> None:
        self._note(e.StageFinished, stage=stage, round=number, attempt=self._number, ok=ok, ms=ms)

    def _note(self, kind: type[e.Event], /, **fields: Any) -> None:
        self._place.stream.note(kind, task=self._entry.name, **fields)

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
        self._checkpoint.append(
            Line(
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
        )

    def _succeed(self) -> Outcome:
        output = self._progress.output
        if self._progress.previous_stage == SEED:  # only a seed that passes through as it is was not checked before
            try:
                output = plain(output, "output")
            except InvalidResult as error:
                return self._give_up(failure_of(error, STAGES[-1]))
        path = self._progress.path + self._progress.never_reached()
        self._record.close_well(output, self._checkpoint.lines, path)
        reach("runner.output-written")
        return Succeeded(output, self._checkpoint.milliseconds, self._progress.rounds)

    def _give_up(self, failure: Failure) -> Failed:
        last_output = None if self._progress.previous_stage == SEED else self._progress.output
        name = self._record.close_badly(failure, self._checkpoint.lines, self._progress.path, last_output)
        self._index.add("logs", name)
        self._checkpoint.sync()
        return Failed(failure, self._checkpoint.milliseconds, self._progress.rounds)


def _milliseconds_since(moment: float) -> float:
    """`moment` is of perf_counter."""
    return round((time.perf_counter() - moment) * 1000, 3)
