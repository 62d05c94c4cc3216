"""How a log is read whose end a power cut took: what nobody relied on is cut, and more than that is never guessed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from pop_actors.core import events as e
from pop_actors.errors import Damaged
from pop_actors.storage import damage, recovery
from pop_actors.storage.job_log import read_log
from pop_actors.storage.jsonl import json_line
from pop_actors.storage.layout import Workspace

AT = "2026-11-21T10:00:00.000Z"
CREATED = e.JobCreated(at=AT, id="job-1", run_id="pl-1", name="j", pipeline="p", mode="production", tasks=("a", "b"))
STARTED = e.JobStarted(at=AT, pid=7, epoch=1, seq=1)
TASK = e.TaskStarted(at=AT, task="a", attempt=1, epoch=1, seq=2)
BEFORE = (CREATED, STARTED, TASK)
STAGE = e.StageStarted(at=AT, task="a", stage="ingestion", timeout=300, epoch=1, seq=3)
FILE = e.FileWritten(at=AT, task="a", kind="artifacts", name="a.md", epoch=1, seq=4)
DONE = e.TaskDone(at=AT, task="a", attempt=1, execution_time=1.0, epoch=1, seq=5)
NEXT = e.TaskStarted(at=AT, task="b", attempt=1, epoch=1, seq=6)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path, tmp_path / "data")
    made.job("job-1").path.mkdir(parents=True)
    return made


def lines(*events: e.Event) -> bytes:
    return b"".join(json_line(e.event_document(event)) for event in events)


def holed(event: e.Event) -> bytes:
    """Its line, with zeros in the middle."""
    line = lines(event)
    return line[:20] + bytes(len(line) - 40) + line[-20:]


# What follows the sound beginning, and how many events of the whole a start goes on with (None: it refuses).
CUTS = {
    "a line without its newline": (lines(STAGE)[:-1], 4),
    "a line whose newline is a zero": (lines(STAGE)[:-1] + b"\0", 3),
    "a whole line, zeros behind, no newline": (lines(STAGE)[:-1] + bytes(500), 3),
    "a torn line": (lines(STAGE)[:-9], 3),
    "zeros": (bytes(500), 3),
    "a hole that news follows": (holed(STAGE) + lines(FILE), 3),
    "a line of zeros that news follows": (bytes(90) + b"\n" + lines(FILE), 3),
    "a hole that news follows, and a torn line": (holed(STAGE) + lines(FILE) + lines(DONE)[:-9], 3),
    "a hole before a task's end": (holed(STAGE) + lines(FILE, DONE), None),
    "a hole in a task's end, before the next task": (lines(STAGE, FILE) + holed(DONE) + lines(NEXT), None),
    "garbage that news follows": (b"garbage\n" + lines(FILE), None),
    "a line cut out of the middle": (lines(STAGE)[:30] + b"\n" + lines(FILE), None),
}


@pytest.mark.parametrize("name", CUTS)
def test_what_a_power_cut_took_is_cut_and_what_hinges_on_more_is_damage(workspace: Workspace, name: str) -> None:
    """Zeros stand where nothing was synced; where events that somebody waited for come later, it was. What is cut, but
    for a torn end, is kept beside; a second start finds a whole log."""
    behind, kept = CUTS[name]
    log = workspace.job("job-1").events
    log.write_bytes(lines(*BEFORE) + behind)
    if kept is None:
        with pytest.raises(Damaged, match="whole lines follow"):
            recovery.read_events(workspace, "job-1")
        assert log.read_bytes() == lines(*BEFORE) + behind
        return
    events = recovery.read_events(workspace, "job-1")
    assert events == (*BEFORE, STAGE)[:kept]
    assert read_log(log.read_bytes()).is_whole
    copies = [copy.read_bytes() for copy in damage.copies_of(log)]
    assert copies == ([lines(*BEFORE) + behind] if b"\n" in behind else [])


def test_every_kind_of_event_is_news_or_hinges_on_something() -> None:
    """What only tells of work under way may be lost; this is the whole list."""
    assert {kind.__name__ for kind in e.NEWS} == {
        "StageStarted", "StageFinished", "TaskHeld", "TaskReleased", "FileWritten", "CallPaid",
    }  # fmt: skip
