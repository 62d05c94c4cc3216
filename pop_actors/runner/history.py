"""What a job's log says of the run that is to go on: which tasks are over, which attempt is under way. Pure.

Tasks that a restart of the job keeps have their end in an earlier run; so the whole log is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from pop_actors.core import events as e
from pop_actors.core.ids import seconds_of


@dataclass(frozen=True, slots=True)
class TaskPast:
    """One task, as the log leaves it. `attempt` is the newest one begun; `open_stage` the one that has not ended."""

    ended: e.TaskDone | e.TaskFailed | e.TaskSkipped | None = None
    attempt: int = 0
    attempt_failed: e.AttemptFailed | None = None
    open_stage: e.StageStarted | None = None


@dataclass(frozen=True, slots=True)
class History:
    """`started`: a process has taken this run up before. `timed_out` is the stage whose time was over when the daemon
    ended the last process."""

    tasks: dict[str, TaskPast] = field(default_factory=dict)
    started: bool = False
    timed_out: e.StageStarted | None = None

    def of(self, task: str) -> TaskPast:
        """The past of a task; an empty one where the log does not know it."""
        return self.tasks.get(task, TaskPast())


def history_of(events: Iterable[e.Event]) -> History:
    """The history a job's log tells, oldest event first."""
    history = History()
    for event in events:
        history = _after(history, event)
    return history


def _after(history: History, event: e.Event) -> History:
    match event:
        case e.JobCreated():
            return History()
        case e.JobRestarted():
            kept = {task: past for task, past in history.tasks.items() if task not in event.reset}
            return History(tasks={task: past for task, past in kept.items() if past.ended is not None})
        case e.JobStarted():
            return replace(history, started=True, timed_out=None)
        case e.ProcessDown():
            return replace(history, timed_out=_timed_out(history, event) if event.cause == "timeout" else None)
        case _:
            task = getattr(event, "task", None)
            if task:
                history.tasks[task] = _task_after(history.of(task), event)
            return history


def _task_after(past: TaskPast, event: e.Event) -> TaskPast:
    match event:
        case e.TaskStarted():
            return replace(past, attempt=event.attempt, attempt_failed=None, open_stage=None, ended=None)
        case e.StageStarted():
            return replace(past, open_stage=event)
        case e.StageFinished():
            return replace(past, open_stage=None)
        case e.AttemptFailed():
            return replace(past, attempt=event.attempt, attempt_failed=event, open_stage=None)
        case e.TaskDone() | e.TaskFailed() | e.TaskSkipped():
            return replace(past, ended=event, open_stage=None)
        case _:
            return past


def _timed_out(history: History, down: e.ProcessDown) -> e.StageStarted | None:
    """Of the stages at work then, the one whose time was over first."""
    at_work = [past.open_stage for past in history.tasks.values() if past.open_stage and not past.ended]
    overdue = [stage for stage in at_work if _deadline(stage) <= seconds_of(down.at)]
    return min(overdue or at_work, key=_deadline, default=None)


def _deadline(stage: e.StageStarted) -> float:
    return seconds_of(stage.at) + stage.timeout
