"""The status is the fold of the log: in one go or step by step, forwards only, without touching what was handed out."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core import events as e
from pop_actors.core.states import JOB_STATES
from pop_actors.core.status import fold, fold_all, run_line, summary

TASKS = ("a", "b", "c")
ERROR = e.ErrorInfo(name="ValueError", message="no")


def created(at: str = "t00", **more: Any) -> e.JobCreated:
    return e.JobCreated(at=at, id="j", run_id="r1", name="n", pipeline="p", mode="production", tasks=TASKS, **more)


def folded(*events: e.Event) -> dict[str, Any]:
    document = fold_all([created(), *events])
    assert document is not None
    return document


tasks = st.sampled_from(TASKS)
stages = st.sampled_from(["ingestion", "inference", "parsing"])
numbers = st.integers(min_value=0, max_value=9)
stamps = st.integers(min_value=0, max_value=99).map("t{:02d}".format)
costs = st.none() | st.floats(min_value=0, max_value=1)
# Hypothesis goes by the models' signatures, and those by the names on disk.
later_events: st.SearchStrategy[e.Event] = st.one_of(
    st.builds(e.JobRestarted, at=stamps, runId=st.just("r2"), reset=st.just(("b", "c")), tasks=st.just(TASKS)),
    st.builds(e.JobStarted, at=stamps, pid=numbers),
    st.builds(e.ProcessDown, at=stamps, cause=st.just("signal"), ended=numbers),
    st.builds(e.JobSuspended, at=stamps),
    st.builds(
        e.CodeChanged, at=stamps, tasks=st.just(("a",)), files=st.just(("a.py",)), action=st.just("wait"),
        code=st.just(e.Code()),
    ),
    st.builds(e.JobWaiting, at=stamps, task=tasks | st.just("")),
    st.builds(e.GateApproved, at=stamps, task=tasks | st.just("")),
    st.builds(e.TaskStarted, at=stamps, task=tasks, attempt=numbers),
    st.builds(e.StageStarted, at=stamps, task=tasks, stage=stages, round=numbers),
    st.builds(e.StageFinished, at=stamps, task=tasks, stage=stages),
    st.builds(e.FileWritten, at=stamps, task=tasks, kind=st.sampled_from(["artifacts", "logs", "tmp"]), name=stages),
    st.builds(
        e.CallPaid, at=stamps, key=stages, task=tasks, provider=st.just("p"), model=st.just("m"),
        inputTokens=numbers, outputTokens=numbers, costUsd=costs,
    ),
    st.builds(
        e.AttemptFailed, at=stamps, task=tasks, attempt=numbers, stage=stages, reason=st.just("timeout"),
        error=st.just(ERROR), retryIn=st.just(1.0),
    ),
    st.builds(e.ControlTaken, at=stamps, task=tasks, faults=st.just(()) | st.just(("/: no",))),
    st.builds(e.TaskDone, at=stamps, task=tasks, attempt=numbers, executionTime=st.just(1.0), refinements=numbers),
    st.builds(
        e.TaskFailed, at=stamps, task=tasks, attempt=numbers, stage=stages, reason=st.just("flags"),
        error=st.just(ERROR),
    ),
    st.builds(e.TaskSkipped, at=stamps, task=tasks, reason=st.just("asked")),
    st.builds(e.JobDone, at=stamps),
    st.builds(e.JobFailed, at=stamps, reason=st.just("budget"), error=st.just(ERROR)),
    st.builds(e.JobRejected, at=stamps, task=tasks, stage=stages, message=st.just("m")),
    st.builds(e.JobStopped, at=stamps),
)  # fmt: skip
logs = st.lists(later_events, max_size=25)


@given(logs, st.integers(min_value=0, max_value=25))
def test_folding_in_two_parts_is_folding_at_once(events: list[e.Event], cut: int) -> None:
    """A status writer that starts again in the middle of a log arrives at the same document."""
    log = [created(), *events]
    assert fold_all(log[cut:], fold_all(log[:cut])) == fold_all(log)


@given(logs)
def test_a_document_once_handed_out_never_changes(events: list[e.Event]) -> None:
    """Readers in other threads may keep what they were given."""
    document = fold(None, created())
    handed_out = [(document, copy.deepcopy(document))]
    for event in events:
        document = fold(document, event)
        handed_out.append((document, copy.deepcopy(document)))
    assert all(now == then for now, then in handed_out)


@given(logs)
def test_every_document_is_json_within_its_bounds(events: list[e.Event]) -> None:
    """Progress stays within 0 and 100, time and money never go back, states are known ones."""
    before = fold(None, created())
    for event in events:
        after = fold(before, event)
        assert json.loads(json.dumps(after)) == after
        assert 0 <= after["progress"] <= 100
        assert after["state"] in JOB_STATES
        assert (after["state"] == "waiting") <= (after["gate"] is not None)
        assert after["epoch"] >= before["epoch"] or isinstance(event, e.JobStarted)
        assert after["lastUpdated"] >= before["lastUpdated"]
        assert after["costUsd"] >= before["costUsd"]
        assert set(after["tasks"]) == set(TASKS)
        before = after


def test_a_log_begins_with_its_creation() -> None:
    """Anything else first is refused, and an empty log has no status."""
    with pytest.raises(ValueError, match="JobCreated"):
        fold(None, e.JobStarted(at="t", pid=1))
    assert fold_all([]) is None


def test_a_run_from_start_to_end() -> None:
    """The story of a good run: current and stage follow, files and tokens add up, nothing is current at the end."""
    document = folded(
        e.JobStarted(at="t01", pid=1),
        e.TaskStarted(at="t02", task="a", attempt=1),
        e.StageStarted(at="t03", task="a", stage="inference"),
        e.CallPaid(
            at="t04", key="k", task="a", provider="o", model="m", input_tokens=5, output_tokens=7, cost_usd=0.25
        ),
        e.FileWritten(at="t05", task="a", kind="artifacts", name="a.json"),
        e.FileWritten(at="t05", task="a", kind="artifacts", name="a.json"),
    )
    assert (document["state"], document["current"], document["currentStage"]) == ("running", "a", "inference")
    assert (document["costUsd"], document["tokens"]) == (0.25, {"input": 5, "output": 7})
    assert document["files"] == document["tasks"]["a"]["files"] == {"artifacts": ["a.json"], "logs": [], "tmp": []}
    assert document["tasks"]["a"]["tokenUsage"] == [["o:m", 5, 7, 0.25]]
    document = fold(document, e.TaskDone(at="t06", task="a", attempt=1, execution_time=12.5, refinements=1))
    assert (document["progress"], document["tasks"]["a"]["artifacts"]) == (
        33,
        ["output.json", "letter.json", "execution-logs.json"],
    )
    document = fold_all(
        [
            e.TaskSkipped(at="t07", task="b", reason="asked"),
            e.TaskDone(at="t08", task="c", attempt=2, execution_time=1.0),
            e.JobDone(at="t09"),
        ],
        document,
    )
    assert document is not None
    assert (document["state"], document["progress"], document["current"]) == ("done", 100, None)
    line = run_line(document, "t09")
    assert (line["totalExecutionTime"], line["totalRefinementAttempts"], line["attempts"]) == (13.5, 1, 3)
    assert (line["finalArtifacts"], line["startedAt"], line["finishedAt"]) == (["a", "c"], "t02", "t09")
    assert summary(document)["state"] == "done"


def test_a_failure_says_where_and_why() -> None:
    """`current`, `currentStage` and `error` keep the place after the end."""
    document = folded(
        e.TaskStarted(at="t01", task="b", attempt=1),
        e.TaskFailed(at="t02", task="b", attempt=3, stage="parsing", reason="exception", error=ERROR),
        e.JobFailed(at="t03", task="b", stage="parsing", reason="exception", error=ERROR),
    )
    assert (document["state"], document["current"], document["currentStage"]) == ("error", "b", "parsing")
    assert document["error"] == {
        "task": "b", "stage": "parsing", "reason": "exception", "name": "ValueError", "message": "no",
    }  # fmt: skip
    assert (document["tasks"]["b"]["failedStage"], document["tasks"]["b"]["attempts"]) == ("parsing", 3)


def test_a_crash_keeps_the_run_and_counts_a_restart() -> None:
    """Run id, task states and attempts stay."""
    before = folded(e.TaskStarted(at="t01", task="a", attempt=2))
    after = fold(before, e.ProcessDown(at="t02", cause="signal"))
    assert (after["restarts"], after["pipelineId"]) == (1, "r1")
    assert after["tasks"] == before["tasks"]


def test_a_new_run_keeps_done_tasks_and_what_came_with_the_seed() -> None:
    """Reset tasks are as new, their files leave the index; attached files belong to no task and stay."""
    document = fold_all(
        [
            created(attached=("data.csv",)),
            e.FileWritten(at="t01", task="a", kind="artifacts", name="a.json"),
            e.FileWritten(at="t01", task="b", kind="artifacts", name="b.json"),
            e.TaskDone(at="t02", task="a", attempt=1, execution_time=1.0),
            e.JobFailed(at="t03", task="b", reason="flags", error=ERROR),
            e.JobRestarted(at="t04", run_id="r2", reset=("b", "c"), tasks=TASKS),
        ]
    )
    assert document is not None
    assert (document["pipelineId"], document["state"], document["error"]) == ("r2", "pending", None)
    assert document["files"]["artifacts"] == ["data.csv", "a.json"]
    assert (document["tasks"]["a"]["state"], document["tasks"]["b"]["state"]) == ("done", "pending")
    assert document["progress"] == 33


def test_a_job_at_a_gate_says_what_it_waits_for_until_it_is_decided() -> None:
    """Approved it is to go on, rejected or stopped it has ended; an approval that comes too late changes nothing."""
    waiting = folded(
        e.TaskDone(at="t01", task="a", attempt=1, execution_time=1.0),
        e.JobWaiting(at="t02", task="a", message="look", artifacts=("a.md",)),
    )
    gate = {"task": "a", "message": "look", "artifacts": ["a.md"], "since": "t02", "reason": "task"}
    assert (waiting["state"], waiting["current"], waiting["gate"]) == ("waiting", "a", gate)
    approved = fold(waiting, e.GateApproved(at="t03", task="a"))
    assert (approved["state"], approved["gate"]) == ("pending", None)
    for end in (e.JobFailed(at="t03", reason="control", error=ERROR), e.JobStopped(at="t03")):
        ended = fold(waiting, end)
        assert ended["gate"] is None
        assert fold(ended, e.GateApproved(at="t04", task="a"))["state"] == ended["state"]


@pytest.mark.parametrize(
    "then",
    [
        e.TaskReleased(at="t04", task="a", seconds=1.0),
        e.StageStarted(at="t04", task="a", stage="inference"),
        e.AttemptFailed(at="t04", task="a", attempt=1, stage="inference", reason="timeout", error=ERROR, retry_in=1.0),
        e.TaskDone(at="t04", task="a", attempt=1, execution_time=1.0),
        e.TaskFailed(
            at="t04", task="a", attempt=1, stage="inference", reason="exception", error=ERROR, execution_time=1.0
        ),
        e.JobStopped(at="t04"),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_task_that_is_held_says_what_it_waits_for_until_it_goes_on(then: e.Event) -> None:
    """However it goes on, and if only because its process was killed while it waited."""
    before = [e.TaskStarted(at="t01", task="a", attempt=1), e.TaskHeld(at="t02", task="a", reason="budget")]
    assert folded(*before)["tasks"]["a"]["waitsFor"] == {"reason": "budget", "since": "t02"}
    assert "waitsFor" in folded(*before, e.StageFinished(at="t03", task="b", stage="inference"))["tasks"]["a"]
    assert "waitsFor" not in folded(*before, then)["tasks"]["a"]


def test_an_ended_process_takes_its_epoch_with_it() -> None:
    """Also where it died before it was heard of; the number is not given out again."""
    document = folded(e.ProcessDown(at="t01", cause="lost", ended=3))
    assert (document["epoch"], document["restarts"]) == (3, 1)
    assert fold(document, e.ProcessDown(at="t02", cause="lost", ended=2))["epoch"] == 3


def test_changed_code_is_told_until_a_new_run() -> None:
    """What changed, whom it concerns, and what was done."""
    changed = e.CodeChanged(at="t01", tasks=("b",), files=("b.py",), action="continue", code=e.Code())
    document = folded(changed)
    assert document["codeChanged"] == {"at": "t01", "tasks": ["b"], "files": ["b.py"], "action": "continue"}
    again = fold(document, e.JobRestarted(at="t02", run_id="r2", reset=TASKS, tasks=TASKS))
    assert again["codeChanged"] is None


PATCH = e.Patch(task="a", insert_after="b", add=({"name": "x", "config": {"depth": 1}}, {"name": "y"}))


def test_what_a_task_adds_is_shown_once_it_is_done() -> None:
    """In its place; progress does not go back for it, and what an attempt wanted that is made again is forgotten."""
    taken = e.ControlTaken(at="t01", task="a", patch=PATCH)
    done = e.TaskDone(at="t02", task="a", attempt=1, execution_time=1.0)
    first = fold_all([created(), e.TaskSkipped(at="t00", task="b", reason="asked"), taken])
    assert first is not None
    assert list(first["tasks"]) == ["a", "b", "c"]
    status = fold(first, done)
    assert list(status["tasks"]) == ["a", "b", "x", "y", "c"]
    assert status["tasks"]["x"]["state"] == "pending"
    assert status["progress"] == 40
    assert status["patches"] == [PATCH.model_dump(by_alias=True, mode="json")]
    assert "patch" not in status["tasks"]["a"]
    late = fold_all([created(), *(done.model_copy(update={"task": name}) for name in "bc"), taken, done])
    assert late is not None
    assert late["progress"] == 67
    again = fold_all([e.TaskStarted(at="t01", task="a", attempt=2), done], first)
    assert again is not None
    assert list(again["tasks"]) == ["a", "b", "c"]


def test_a_restart_keeps_what_was_added_where_it_keeps_who_added_it() -> None:
    """Tasks that are not the new run's any more are gone from the status, and progress begins anew."""
    added = fold_all(
        [
            created(),
            e.ControlTaken(at="t01", task="a", patch=PATCH),
            e.TaskDone(at="t02", task="a", attempt=1, execution_time=1.0),
            e.TaskDone(at="t03", task="x", attempt=1, execution_time=1.0),
        ]
    )
    kept = fold(added, e.JobRestarted(at="t04", run_id="r2", reset=("b", "c"), tasks=("a", "b", "x", "y", "c")))
    assert kept["tasks"]["x"]["state"] == "done"
    assert len(kept["patches"]) == 1
    gone = fold(added, e.JobRestarted(at="t04", run_id="r2", reset=("a", "b", "c"), tasks=("a", "b", "c")))
    assert list(gone["tasks"]) == ["a", "b", "c"]
    assert "patches" not in gone
    assert gone["progress"] == 0
