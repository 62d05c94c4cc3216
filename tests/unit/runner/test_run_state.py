"""Where the tasks of a run stand: what starts next, when all is over, and who is asked at a gate."""

from __future__ import annotations

from pop_actors.core import events as e
from pop_actors.core.job_spec import TaskEntry
from pop_actors.runner.failures import Failure
from pop_actors.runner.gates import ClosedGate
from pop_actors.runner.run_state import RunState
from pop_actors.runner.workplace import Failed

FAILURE = Failure("parsing", "exception", e.ErrorInfo(name="ValueError", message="no"))
GATE = ClosedGate("task", "look")


def entries(**depends_on: tuple[str, ...]) -> tuple[TaskEntry, ...]:
    return tuple(
        TaskEntry(name=name, task=name, depends_on=needs, optional=name.startswith("optional"))
        for name, needs in depends_on.items()
    )


def names(state: RunState) -> list[str]:
    return [entry.name for entry in state.ready()]


def test_nothing_is_built_on_a_closed_gate() -> None:
    """Other branches go on; when nothing else can, the first gate in the pipeline's order is asked about."""
    state = RunState(entries(a=(), b=("a",), c=(), d=("c",)))
    assert names(state) == ["a", "c"]
    for task in ("c", "a"):
        state.begins(task)
        state.succeeds(task, GATE)
    assert names(state) == []
    assert state.waits_for_nobody
    assert not state.is_over
    assert state.closed_gate() == ("a", GATE)
    state.succeeds("a", None)
    assert names(state) == ["b"]


def test_a_run_fails_for_the_first_task_that_does_once_the_others_are_through() -> None:
    """Tasks between two attempts are not waited for; an optional one fails alone."""
    state = RunState(entries(optional=(), a=(), b=(), c=()))
    for task in ("optional", "a", "b", "c"):
        state.begins(task)
    optional, a, b, _ = entries(optional=(), a=(), b=(), c=())
    state.fails(optional, FAILURE)
    assert state.first_failed is None
    failed = Failed(FAILURE, 1.0, 0)
    state.pauses("c", 2, failed)
    state.fails(b, FAILURE)
    assert not state.is_over
    state.fails(a, FAILURE)
    assert state.is_over
    assert state.first_failed == (b, FAILURE)
    assert [(entry.name, attempt) for entry, attempt, _ in state.pausing()] == [("c", 2)]


def test_a_task_gets_the_outputs_of_those_before_it_that_were_done() -> None:
    """Not of one that was skipped, or failed and is optional."""
    state = RunState(entries(a=(), b=("a",), optional=("b",), d=("optional",)))
    state.succeeds("a", None)
    state.is_skipped("b")
    state.fails(entries(optional=("b",))[0], FAILURE)
    assert state.outputs_for("d") == ["a"]
    assert state.pending() == ["d"]
    assert not state.is_pending("unknown")
