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


def _die_at(event: object, stage: str) -> None:
    if getattr(event, "stage", None) == stage:
        raise ProcessDied
