"""What a job's process reports may be lost with the daemon and with itself; what it wrote is told again."""

from __future__ import annotations

from pathlib import Path

import pytest
from runner_world import ProcessDied, World

TASK = """
def ingestion(ctx):
    print("ingestion")
    ctx.io.write_artifact("first.txt", "1")
    return {"output": {"n": 1}}

def parsing(ctx):
    ctx.io.write_artifact("second.txt", "2")
    return {"output": {"n": 2}}
"""

DIRECTING = """
def ingestion(ctx):
    (ctx.io.get_task_dir() / "control.json").write_text('{"skip": [{"task": "b"}]}')
    return {"output": {}}

def parsing(ctx):
    return {"output": {}}
"""
CHANGING_ITS_MIND = """
def ingestion(ctx):
    if ctx.meta.attempt == 1:
        (ctx.io.get_task_dir() / "control.json").write_text('{"skip": [{"task": "b"}]}')
        raise RuntimeError("not this time")
    return {"output": {}}

def parsing(ctx):
    return {"output": {}}
"""
BROKEN_OFF = "def ingestion(ctx): return {'output': {}}"


@pytest.mark.parametrize("kept", [2, 3, 4], ids=["nothing of the task", "its start", "its load"])
def test_files_of_a_finished_stage_are_listed_although_every_report_of_it_was_lost(tmp_path: Path, kept: int) -> None:
    """Daemon and job were killed with the reports still on their way: the checkpoint has the stage, the log does not
    even have the task."""
    world = World(tmp_path)
    world.task("a", TASK)
    world.status_writer.watch = lambda event: _die_at(event, "parsing")
    with pytest.raises(ProcessDied):
        world.run()
    log = world.directory.events
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:kept]))
    world.status_writer.watch = lambda event: None
    world.die_and_resume()
    assert world.status["state"] == "done"
    assert world.status["files"]["artifacts"] == ["first.txt", "second.txt"]
    assert world.status["files"]["logs"] == ["a-ingestion.log"]


@pytest.mark.parametrize("kept", [2, 3, 4], ids=["nothing of the task", "its start", "its load"])
def test_what_a_finished_stage_wants_done_is_done_although_every_report_of_it_was_lost(
    tmp_path: Path, kept: int
) -> None:
    """The stage does not run again, so its control.json stays where it is."""
    world = World(tmp_path)
    world.task("a", DIRECTING)
    world.task("b", TASK)
    world.status_writer.watch = lambda event: _die_at(event, "parsing")
    with pytest.raises(ProcessDied):
        world.run()
    log = world.directory.events
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:kept]))
    world.status_writer.watch = lambda event: None
    world.die_and_resume()
    assert world.status["state"] == "done"
    assert world.status["tasks"]["b"]["state"] == "skipped"


def test_what_a_failed_attempt_wanted_done_is_not_done(tmp_path: Path) -> None:
    """Its control.json is gone before the next attempt, also where that one was begun and its report was lost."""
    world = World(tmp_path)
    world.task("a", CHANGING_ITS_MIND)
    world.task("b", TASK)
    world.status_writer.watch = _die_at_second
    with pytest.raises(ProcessDied):
        world.run()
    lines = world.directory.events.read_bytes().splitlines(keepends=True)
    failed = next(number for number, line in enumerate(lines) if b"AttemptFailed" in line)
    world.directory.events.write_bytes(b"".join(lines[: failed + 1]))
    world.status_writer.watch = lambda event: None
    world.die_and_resume()
    assert [world.status["tasks"][task]["state"] for task in "ab"] == ["done", "done"]
    assert not world.directory.task("a").control.exists()


def test_what_a_stage_wanted_done_that_was_broken_off_is_for_it_to_say_again(tmp_path: Path) -> None:
    """It runs again from its beginning; half of a control.json does not count."""
    world = World(tmp_path)
    world.task("a", BROKEN_OFF)
    world.status_writer.watch = lambda event: _die_at(event, "ingestion")
    with pytest.raises(ProcessDied):
        world.run()
    world.directory.task("a").control.write_text('{"skip"')
    world.status_writer.watch = lambda event: None
    world.die_and_resume()
    assert world.status["state"] == "done"


def _die_at_second(event: object) -> None:
    if getattr(event, "attempt", 1) == 2 and getattr(event, "stage", None) == "parsing":
        raise ProcessDied


def _die_at(event: object, stage: str) -> None:
    if getattr(event, "stage", None) == stage:
        raise ProcessDied
