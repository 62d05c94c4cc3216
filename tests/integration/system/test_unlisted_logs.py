"""Logs of a process that was killed before it could tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from writer_world import SOON, World, stage, started

from pop_actors.core import events as e
from pop_actors.system import messages as m

AT = "2026-01-01T00:00:01.000Z"
DOWN = e.ProcessDown(at=AT, cause="signal")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def written(world: World, job_id: str, **logs: str) -> None:
    folder = world.workspace.job(job_id).files("logs")
    folder.mkdir(parents=True)
    for name, text in logs.items():
        (folder / f"{name.replace('_', '-')}.log").write_text(text)


def test_a_killed_process_leaves_its_logs_in_the_status(world: World) -> None:
    """A person wants to read what a stage said before it crashed; what is empty is not worth a line."""
    world.claim("a")
    world.tell("a", started(), stage(2))
    written(world, "a", one_load="loading", one_ingestion="it said so", process="a crash in C", two_load="")
    world.writer.request(m.Note("a", DOWN)).result(SOON)
    document = world.board.job("a")
    assert document is not None
    assert document["files"]["logs"] == ["one-ingestion.log", "one-load.log", "process.log"]
    assert document["tasks"]["one"]["files"]["logs"] == document["files"]["logs"]


def test_a_job_that_is_stopped_after_its_process_was_killed_has_its_logs_in_the_status(world: World) -> None:
    """With the service it may have gone down, so that nobody ever told of its end."""
    world.claim("a")
    world.tell("a", started(), stage(2))
    written(world, "a", one_ingestion="it said so")
    world.writer.request(m.Note("a", e.JobStopped(at=AT))).result(SOON)
    document = world.board.job("a")
    assert document is not None
    assert (document["state"], document["files"]["logs"]) == ("stopped", ["one-ingestion.log"])


def test_each_log_is_listed_once_however_often_the_process_dies(world: World) -> None:
    """Also where the process had told of it."""
    world.claim("a")
    told = {"task": "one", "kind": "logs", "name": "one-load.log"}
    world.tell("a", started(), stage(2), (1, 3, "FileWritten", told))
    written(world, "a", one_load="loading", one_ingestion="again")
    for _ in range(2):
        world.writer.request(m.Note("a", DOWN)).result(SOON)
    assert [kind for kind, _, _ in world.log("a")].count("FileWritten") == 2


def test_a_job_that_never_logged_anything_goes_down_quietly(world: World) -> None:
    """It may not even have the folder."""
    world.claim("a")
    world.writer.request(m.Note("a", DOWN)).result(SOON)
    assert world.log("a")[-1][0] == "ProcessDown"


def test_what_else_lies_there_is_left_alone(world: World) -> None:
    """Names a task made up, in whatever number and bytes; and a folder that is none."""
    world.claim("a")
    world.tell("a", started(), stage(2))
    written(world, "a", one_ingestion="it said so", own="of the task's own")
    (world.workspace.job("a").files("logs") / "one-\udcff.log").write_text("no text")
    world.writer.request(m.Note("a", DOWN)).result(SOON)
    document = world.board.job("a")
    assert document is not None
    assert document["files"]["logs"] == ["one-ingestion.log"]
    world.claim("b")
    world.workspace.job("b").files("logs").parent.mkdir()
    world.workspace.job("b").files("logs").write_text("no folder")
    world.writer.request(m.Note("b", DOWN)).result(SOON)
    assert world.log("b")[-1][0] == "ProcessDown"
