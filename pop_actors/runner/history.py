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
    """One task, as the log leaves it. `attempt` is the newest one begun; `open_stage` the one that has not ended.
    `approved`: a person has let its result pass. `begins_anew`: its code changed, and a new attempt is to come.
    `control`: what its control.json came to."""

    ended: e.TaskDone | e.TaskFailed | e.TaskSkipped | None = None
    attempt: int = 0
    attempt_failed: e.AttemptFailed | None = None
    open_stage: e.StageStarted | None = None
    approved: bool = False
    begins_anew: bool = False
    control: e.ControlTaken | None = None


@dataclass(frozen=True, slots=True)
class History:
    """`started`: a process has taken this run up before. `timed_out` is the stage whose time was over when the daemon
    ended the last process. `code` is the code the run had last; `held` what about it waits for an approval.
    `is_at_rest`: the run has its end, or waits for a person, and only its process was killed on the way out.
    `patches`: what tasks that are done have added to the run's tasks, oldest first."""

    tasks: dict[str, TaskPast] = field(default_factory=dict)
    started: bool = False
    timed_out: e.StageStarted | None = None
    code: e.Code | None = None
    held: e.CodeChanged | None = None
    is_at_rest: bool = False
    patches: tuple[e.Patch, ...] = ()

    def of(self, task: str) -> TaskPast:
        """The past of a task; an empty one where the log does not know it."""
        return self.tasks.get(task, TaskPast())


def history_of(events: Iterable[e.Event]) -> History:
    """The history a job's log tells, oldest event first."""
    history = History()
    for event in events:
        history = after(history, event)
    return history


def after(history: History, event: e.Event) -> History:
    """The history with one more event. Takes over what `history` holds."""
    match event:
        case e.JobCreated():
            return History()
        case e.JobRestarted():
            names = set(event.tasks) - set(event.reset)
            kept = {task: past for task, past in history.tasks.items() if task in names and past.ended is not None}
            return History(tasks=kept, patches=tuple(patch for patch in history.patches if patch.task in names))
        case e.JobStarted():
            return replace(history, started=True, timed_out=None, code=event.code or history.code, is_at_rest=False)
        case e.ProcessDown():
            return replace(history, timed_out=_timed_out(history, event) if event.cause == "timeout" else None)
        case e.JobDone() | e.JobFailed() | e.JobRejected() | e.JobStopped() | e.JobWaiting():
            return replace(_within_a_run(history, event), is_at_rest=True)
        case _:
            return _within_a_run(history, event)


def _within_a_run(history: History, event: e.Event) -> History:
    match event:
        case e.CodeChanged():
            return _code_changed(history, event)
        case e.GateApproved():
            held = history.held if event.task else None
            history = replace(history, held=held, is_at_rest=False)
        case e.TaskDone():
            history = _with_added(history, history.of(event.task).control)
    task = getattr(event, "task", None)
    if task:
        history.tasks[task] = _task_after(history.of(task), event)
    return history


def _with_added(history: History, control: e.ControlTaken | None) -> History:
    if control is None or control.patch is None:
        return history
    return replace(history, patches=(*history.patches, control.patch), code=control.code or history.code)


def _code_changed(history: History, event: e.CodeChanged) -> History:
    if event.action == "restart_task":
        for task in event.tasks:
            history.tasks[task] = replace(history.of(task), begins_anew=True)
    return replace(history, code=event.code, held=event if event.action == "wait" else None)


def _task_after(past: TaskPast, event: e.Event) -> TaskPast:
    match event:
        case e.TaskStarted():
            return TaskPast(attempt=event.attempt)
        case e.StageStarted():
            past = replace(past, open_stage=event)
        case e.StageFinished():
            past = replace(past, open_stage=None)
        case e.AttemptFailed():
            past = replace(past, attempt=event.attempt, attempt_failed=event, open_stage=None)
        case e.TaskDone() | e.TaskFailed() | e.TaskSkipped():
            past = replace(past, ended=event, open_stage=None)
        case e.GateApproved():
            past = replace(past, approved=True)
        case e.ControlTaken():
            past = replace(past, control=event)
    return past


def _timed_out(history: History, down: e.ProcessDown) -> e.StageStarted | None:
    """The stage at work then that the daemon named; where it named none, the one whose time was over first."""
    at_work = [past.open_stage for past in history.tasks.values() if past.open_stage and not past.ended]
    named = next((stage for stage in at_work if stage.task == down.task), None)
    if named is not None:
        return named
    overdue = [stage for stage in at_work if _deadline(stage) <= seconds_of(down.at)]
    return min(overdue or at_work, key=_deadline, default=None)


def _deadline(stage: e.StageStarted) -> float:
    return seconds_of(stage.at) + stage.timeout
