"""Events on disk and wire."""

from __future__ import annotations

import json

import pytest

from pop_actors.core import events as e
from pop_actors.errors import Damaged

ERROR = e.ErrorInfo(name="ValueError", message="no", stack="…")
ONE_OF_EACH: list[e.Event] = [
    e.JobCreated(at="t", id="j", run_id="r", name="n", pipeline="p", mode="m", tasks=("a",), attached=("x.csv",)),
    e.JobRestarted(at="t", run_id="r", reset=("a",), tasks=("a", "b")),
    e.JobStarted(at="t", epoch=2, pid=4711, resumed=True, code=e.Code(files={"a.py": "1"}, modules={"a": "a.py"})),
    e.ProcessDown(at="t", cause="signal", detail="9", ended=2),
    e.CodeChanged(at="t", tasks=("a",), files=("a.py",), action="wait", code=e.Code(files={"a.py": "1"}, modules={})),
    e.JobWaiting(at="t", task="a", message="look", artifacts=("x.md",)),
    e.GateApproved(at="t", task="a", note="fine"),
    e.JobSuspended(at="t"),
    e.JobRepaired(at="t", kept=3, lost=1, copies=("events.jsonl.damaged-1",), ended=2),
    e.TaskStarted(at="t", task="a", attempt=1),
    e.StageStarted(at="t", task="a", stage="parsing", round=1, attempt=2, timeout=5.0),
    e.StageFinished(at="t", task="a", stage="parsing", ms=1.5),
    e.TaskHeld(at="t", task="a"),
    e.TaskReleased(at="t", task="a", seconds=2.5),
    e.FileWritten(at="t", task="a", kind="artifacts", name="x.json"),
    e.CallPaid(at="t", key="k", task="a", provider="p", model="m", input_tokens=1, output_tokens=2, cost_usd=0.1),
    e.AttemptFailed(at="t", task="a", attempt=1, stage="s", reason="timeout", error=ERROR, retry_in=2.0),
    e.ControlTaken(at="t", task="a", patch=e.Patch(task="a", insert_after="b", add=({"name": "x"},)), code=e.Code()),
    e.ControlTaken(at="t", task="a", skip=(e.Skip(task="b", reason="r"),), pauses=True, faults=("/: no",)),
    e.TaskDone(at="t", task="a", attempt=1, execution_time=3.0),
    e.TaskFailed(at="t", task="a", attempt=3, stage="s", reason="flags", error=ERROR),
    e.TaskSkipped(at="t", task="a", reason="asked"),
    e.JobDone(at="t", epoch=1, seq=9),
    e.JobFailed(at="t", reason="budget", error=ERROR),
    e.JobRejected(at="t", task="a", stage="s", message="m"),
    e.JobStopped(at="t"),
]


def test_the_list_below_has_every_event() -> None:
    """A new event must come with its row here."""
    assert {type(event) for event in ONE_OF_EACH} == set(e.Event.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event.type)
def test_an_event_survives_the_disk(event: e.Event) -> None:
    """Its document is camelCase, begins with the type, and stands for the same event again."""
    document = json.loads(json.dumps(e.event_document(event)))
    assert next(iter(document)) == "type"
    assert not any("_" in key for key in document)
    assert e.event_from(document) == event


@pytest.mark.parametrize(
    "document", [None, [], {}, {"type": "JobVanished", "at": "t"}, {"type": "JobDone"}, {"at": "t"}]
)
def test_what_is_no_event_is_damage(document: object) -> None:
    """The error says where."""
    with pytest.raises(Damaged, match="not an event"):
        e.event_from(document)


def test_keys_of_a_later_version_are_passed_over() -> None:
    """A log written by a newer version can still be read."""
    assert e.event_from({"type": "JobDone", "at": "t", "weather": "fine"}) == e.JobDone(at="t")
