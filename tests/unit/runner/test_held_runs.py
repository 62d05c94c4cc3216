"""What a log says of gates and of code that changed: which result was approved, who begins anew, what is held."""

from __future__ import annotations

from typing import Any

import pytest

from pop_actors.core import events as e
from pop_actors.core.job_spec import JobSpec
from pop_actors.runner.history import after, history_of
from pop_actors.runner.run_code import change_of, question_about
from pop_actors.storage.task_code import CodeReader

AT = "2026-01-01T00:00:00.000Z"
BEFORE = e.Code(files={"a.py": "1", "b.py": "1"}, modules={"a": "a.py", "b": "b.py"})
NOW = e.Code(files={"a.py": "1", "b.py": "2"}, modules={"a": "a.py", "b": "b.py"})
BEGUN: list[e.Event] = [
    e.JobCreated(at=AT, id="j", run_id="r", name="n", pipeline="p", mode="production", tasks=("a", "b")),
    e.JobStarted(at=AT, epoch=1, seq=1, pid=1, code=BEFORE),
    e.TaskStarted(at=AT, task="a", attempt=1),
    e.TaskDone(at=AT, task="a", attempt=1, execution_time=1.0),
    e.TaskStarted(at=AT, task="b", attempt=1),
]
RESTARTED = e.JobRestarted(at=AT, run_id="r2", reset=("b",), tasks=("a", "b"))


def changed(action: e.OnCodeChange) -> e.CodeChanged:
    return e.CodeChanged(at=AT, tasks=("b",), files=("b.py",), action=action, code=NOW)


def spec(**more: Any) -> JobSpec:
    entries = [{"name": name, "task": name} for name in ("a", "b")]
    nothing: dict[str, Any] = {"job_id": "j", "run_id": "r", "directory": "/d", "root": "/", "pipeline": "p"}
    return JobSpec.model_validate({**nothing, "task_modules": {}, "entries": entries, **more})


def test_an_approval_is_for_one_result() -> None:
    """It goes when the task runs again, and stays where a new run keeps the task."""
    approved = [*BEGUN, e.GateApproved(at=AT, task="a")]
    assert history_of(approved).of("a").approved
    assert not history_of(approved).of("b").approved
    assert history_of([*approved, RESTARTED]).of("a").approved
    again = e.JobRestarted(at=AT, run_id="r2", reset=("a", "b"), tasks=("a", "b"))
    assert not history_of([*approved, again]).of("a").approved


def test_the_last_code_is_what_a_start_is_compared_with() -> None:
    """The first start's, then what it changed to; a resume that changed nothing does not repeat it, a new run begins
    with none."""
    assert history_of(BEGUN).code == BEFORE
    assert history_of([*BEGUN, e.JobStarted(at=AT, epoch=2, seq=1, pid=2, resumed=True)]).code == BEFORE
    assert history_of([*BEGUN, changed("continue")]).code == NOW
    assert history_of([*BEGUN, RESTARTED]).code is None


def test_a_task_begins_anew_until_its_attempt_has_begun() -> None:
    """A kill between the two leaves it to be done."""
    history = history_of([*BEGUN, changed("restart_task")])
    assert (history.of("b").begins_anew, history.of("b").attempt, history.of("a").begins_anew) == (True, 1, False)
    begun = after(history, e.TaskStarted(at=AT, task="b", attempt=2))
    assert (begun.of("b").begins_anew, begun.of("b").attempt) == (False, 2)


def test_a_held_change_is_held_until_it_is_approved() -> None:
    """The approval of a task's gate is none of the code; a new run asks nothing."""
    held = [*BEGUN, changed("wait")]
    assert history_of(held).held == changed("wait")
    assert history_of([*held, e.GateApproved(at=AT, task="a")]).held is not None
    assert history_of([*held, e.GateApproved(at=AT)]).held is None
    assert history_of([*held, RESTARTED]).held is None
    assert history_of([*BEGUN, changed("continue")]).held is None


@pytest.mark.parametrize("action", ["continue", "restart_task", "wait"])
def test_a_change_is_told_with_what_follows(action: e.OnCodeChange) -> None:
    """Only tasks that have not ended are concerned."""
    change = change_of(history_of(BEGUN), NOW, spec(on_code_change=action), CodeReader("/"))
    assert change is not None
    assert (change.tasks, change.files, change.action, change.code) == (("b",), ("b.py",), action, NOW)


def test_nobody_is_asked_when_nothing_is_left_to_run() -> None:
    """All tasks are over; only the job's end was lost."""
    done = [*BEGUN, e.TaskDone(at=AT, task="b", attempt=1, execution_time=1.0)]
    change = change_of(history_of(done), NOW, spec(on_code_change="wait"), CodeReader("/"))
    assert change is not None
    assert (change.tasks, change.action) == ((), "continue")


def test_nothing_is_told_where_nothing_is_known_or_nothing_changed() -> None:
    """A log from before code was noted, and code that is as it was."""
    reader = CodeReader("/")
    assert change_of(history_of(BEGUN), BEFORE, spec(), reader) is None
    assert change_of(history_of(BEGUN[:1]), NOW, spec(), reader) is None


def test_the_question_names_files_and_tasks_and_stays_short() -> None:
    """However many there are."""
    assert "(b.py); tasks still to run that use it: b;" in question_about(changed("wait"))
    many = e.CodeChanged(at=AT, tasks=(), files=tuple(f"f{n}.py" for n in range(99)), action="wait", code=NOW)
    assert "f4.py and 94 more); no task still to run uses it" in question_about(many)
