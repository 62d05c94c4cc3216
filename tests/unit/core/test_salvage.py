"""A damaged log is put together again from its whole lines and from what else tells of the job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pop_actors.core import events as e
from pop_actors.core.known_status import end_it_knows, known_status, shown
from pop_actors.core.salvage import Evidence, FinishedTask, beginning_of, salvage
from pop_actors.core.status import fold_all
from pop_actors.errors import Damaged

EARLY, LATER, LATE = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:05.000Z", "2026-01-01T00:00:09.000Z"
CREATED = e.JobCreated(
    at=EARLY, id="j", run_id="pl-1", name="n", pipeline="p", mode="production", tasks=("a", "b"), attached=("in.csv",)
)
STARTED = e.JobStarted(at=EARLY, epoch=3, seq=1, pid=7)
A_STARTED = e.TaskStarted(at=EARLY, epoch=3, seq=2, task="a", attempt=1)
A_DONE = e.TaskDone(at=LATER, epoch=3, seq=3, task="a", attempt=1, execution_time=5.0)
LOG = (CREATED, STARTED, A_STARTED, A_DONE)
OUTPUT = FinishedTask(run_id="pl-1", attempt=1, at=LATER, milliseconds=5.0, files=(("artifacts", "a.txt"),))


def status(*events: e.Event) -> dict[str, Any]:
    document = fold_all(events)
    assert document is not None
    return document


def states(document: dict[str, Any]) -> dict[str, str]:
    return {name: task["state"] for name, task in document["tasks"].items()}


def test_a_sound_log_stays_as_it_is() -> None:
    """Nothing is added, nothing is lost, and the epoch is the highest heard of."""
    salvaged = salvage(LOG, "j", Evidence(status(*LOG), None, {"a": OUTPUT}))
    assert salvaged.events == LOG
    assert (salvaged.kept, salvaged.lost, salvaged.epoch) == (4, 0, 3)


def test_a_lost_beginning_comes_from_the_status() -> None:
    """With the files that came with the seed; lines that made sense then make sense again."""
    known = status(*LOG)
    assert beginning_of(known) == CREATED.model_copy(update={"format": e.FORMAT})
    salvaged = salvage(LOG[1:], "j", Evidence(known))
    assert [type(event) for event in salvaged.events] == [e.JobCreated, e.JobStarted, e.TaskStarted, e.TaskDone]
    assert states(salvaged.document) == {"a": "done", "b": "pending"}


def test_a_beginning_is_made_up_from_the_inputs_where_the_status_is_gone_too() -> None:
    """And where nothing tells it, that is said."""
    assert salvage((), "j", Evidence(None, CREATED)).events == (CREATED,)
    with pytest.raises(Damaged, match=r"seed\.json"):
        salvage(LOG[1:], "j", Evidence())


def test_a_finished_task_whose_end_was_lost_does_not_run_again() -> None:
    """Its output is there: of this run, or of an earlier one that the status counts as done. An output of another run
    proves nothing."""
    found = (CREATED, STARTED, A_STARTED)
    salvaged = salvage(found, "j", Evidence(None, None, {"a": OUTPUT}))
    assert states(salvaged.document) == {"a": "done", "b": "pending"}
    assert salvaged.document["tasks"]["a"]["files"]["artifacts"] == ["a.txt"]
    older = FinishedTask(run_id="pl-0", attempt=1, at=EARLY, milliseconds=5.0)
    assert states(salvage(found, "j", Evidence(None, None, {"a": older})).document)["a"] == "running"
    assert states(salvage(found, "j", Evidence(status(*LOG), None, {"a": older})).document)["a"] == "done"


def test_a_task_that_was_skipped_stays_skipped() -> None:
    """As the status says."""
    known = status(CREATED, e.TaskSkipped(at=LATER, task="b", reason="the seed says so"))
    salvaged = salvage((CREATED,), "j", Evidence(known))
    assert salvaged.document["tasks"]["b"]["skipReason"] == "the seed says so"


def test_a_lost_restart_is_taken_over_from_the_status() -> None:
    """The run is the later one; what it keeps from before stays done."""
    restarted = e.JobRestarted(at=LATE, run_id="pl-2", reset=("b",), tasks=("a", "b"))
    known = status(*LOG, restarted)
    salvaged = salvage(LOG, "j", Evidence(known, None, {"a": OUTPUT}))
    assert salvaged.document["pipelineId"] == "pl-2"
    assert states(salvaged.document) == {"a": "done", "b": "pending"}


ENDS: dict[str, e.Event] = {
    "stopped": e.JobStopped(at=LATE),
    "error": e.JobFailed(
        at=LATE, task="b", stage="parsing", reason="timeout", error=e.ErrorInfo(name="N", message="m")
    ),
}


@pytest.mark.parametrize("state", ENDS)
def test_a_lost_end_is_the_end_the_status_knows(state: str) -> None:
    """A job that somebody stopped, or that failed, does not go on because its log was cut."""
    known = status(*LOG, ENDS[state])
    assert end_it_knows(status(*LOG), known) == ENDS[state]
    assert salvage(LOG, "j", Evidence(known)).document["state"] == state


def test_a_status_that_is_behind_or_alike_adds_no_end() -> None:
    """The log wins; only a status of a later run shows that the log has lost something that matters."""
    stopped = status(*LOG, ENDS["stopped"])
    resumed = status(
        *LOG, ENDS["stopped"], e.JobRestarted(at="2026-01-02T00:00:00.000Z", run_id="pl-2", reset=(), tasks=("a",))
    )
    assert end_it_knows(resumed, stopped) is None
    assert end_it_knows(stopped, stopped) is None
    assert end_it_knows(stopped, None) is None
    with pytest.raises(Damaged, match="pl-2"):
        end_it_knows(stopped, resumed)


def test_lines_that_make_no_sense_are_lost_and_counted() -> None:
    """A second beginning, another job's beginning, a task the job does not have."""
    other = CREATED.model_copy(update={"id": "other"})
    stranger = e.TaskDone(at=LATER, task="zz", attempt=1, execution_time=1.0)
    salvaged = salvage((other, *LOG, CREATED, stranger), "j", Evidence())
    assert salvaged.events == LOG
    assert (salvaged.kept, salvaged.lost) == (4, 3)


def test_a_repaired_job_goes_on_unless_it_had_ended_and_no_epoch_comes_twice() -> None:
    """The line about the repair puts a run back to pending."""
    repaired = e.JobRepaired(at=LATE, kept=4, lost=1, ended=9)
    going = status(*LOG, repaired)
    assert (going["state"], going["epoch"]) == ("pending", 9)
    assert status(*LOG, ENDS["stopped"], repaired)["state"] == "stopped"


@pytest.mark.parametrize("key", ["id", "state", "tasks", "tokens", "costUsd", "epoch", "lastUpdated"])
def test_a_status_with_a_value_of_another_kind_is_not_believed(key: str) -> None:
    """Nor is one of another job, or something else altogether."""
    sound = status(*LOG)
    assert known_status("j", sound) is sound
    assert known_status("other", sound) is None
    for wrong in (None, [], {"a": 1}, "text"):
        assert known_status("j", {**sound, key: wrong}) is None
        assert known_status("j", wrong) is None
    assert known_status("j", {name: value for name, value in sound.items() if name != key}) is None


def test_a_job_set_aside_is_shown_whole_and_in_error() -> None:
    """With what is known of it, or with nothing but its name; the shape is a status's."""
    for known in (status(*LOG), None):
        document = shown("j", known, EARLY, "Damaged", "why, and what to do")
        assert document.keys() == {*status(*LOG), "damaged"}
        assert (document["id"], document["state"], document["error"]["reason"]) == ("j", "error", "crashed")
        assert document["error"]["message"] == document["damaged"] == "why, and what to do"


PATCH = e.Patch(task="a", insert_after="a", add=({"name": "x", "config": {"depth": 1}}, {"name": "y"}))
TAKEN = e.ControlTaken(at=EARLY, epoch=3, seq=3, task="a", patch=PATCH)
X_DONE = e.TaskDone(at=LATER, epoch=3, seq=5, task="x", attempt=1, execution_time=5.0)
ADDED = (CREATED, STARTED, A_STARTED, TAKEN, A_DONE, X_DONE)


@pytest.mark.parametrize("lost", [{3}, {3, 4}, {3, 5}, {0, 3}, {0, 1, 2, 3, 4, 5}])
def test_tasks_that_were_added_are_known_from_the_status(lost: set[int]) -> None:
    """Whatever of the log is gone: with their entries, so that the run goes on with them, and done where they were."""
    known = known_status("j", json.loads(json.dumps(status(*ADDED))))
    assert known is not None
    found = [event for number, event in enumerate(ADDED) if number not in lost]
    salvaged = salvage(found, "j", Evidence(known, None, {"a": OUTPUT, "x": OUTPUT}))
    assert list(salvaged.document["tasks"]) == ["a", "x", "y", "b"]
    assert states(salvaged.document) == {"a": "done", "x": "done", "y": "pending", "b": "pending"}
    assert salvaged.document["patches"] == known["patches"]
    assert fold_all(salvaged.events) == salvaged.document


@pytest.mark.parametrize("lost", [{3, 4}, {3, 4, 5}, {4}, {5}, {3, 4, 5, 6}])
def test_tasks_that_an_added_task_added_are_known_from_the_status(lost: set[int]) -> None:
    """Also where the log does not know the one that added them, when it tells of its end."""
    patch = e.Patch(task="x", insert_after="x", add=({"name": "z"},))
    x_taken = e.ControlTaken(at=LATER, epoch=3, seq=5, task="x", patch=patch)
    log = (*ADDED[:-1], x_taken, X_DONE)
    known = known_status("j", json.loads(json.dumps(status(*log))))
    found = [event for number, event in enumerate(log) if number not in lost]
    salvaged = salvage(found, "j", Evidence(known, None, {"a": OUTPUT, "x": OUTPUT}))
    assert states(salvaged.document) == {"a": "done", "x": "done", "z": "pending", "y": "pending", "b": "pending"}
    assert fold_all(salvaged.events) == salvaged.document


def test_tasks_added_in_a_run_whose_beginning_is_lost_belong_to_it() -> None:
    """Who added them is done in that run."""
    restarted = e.JobRestarted(at=LATER, run_id="pl-2", reset=("a", "b"), tasks=("a", "b"))
    known = status(*LOG, restarted, A_STARTED, TAKEN, A_DONE.model_copy(update={"at": LATE}))
    again = FinishedTask(run_id="pl-2", attempt=1, at=LATE, milliseconds=5.0)
    salvaged = salvage(LOG, "j", Evidence(known, None, {"a": again}))
    assert salvaged.document["pipelineId"] == "pl-2"
    assert states(salvaged.document) == {"a": "done", "x": "pending", "y": "pending", "b": "pending"}


def test_a_status_with_a_patch_that_is_none_is_no_evidence() -> None:
    """As any other part of it that is not what it must be."""
    assert known_status("j", {**status(*ADDED), "patches": [{"task": "a"}]}) is None
