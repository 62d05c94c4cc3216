"""The status writer on a real folder: barriers, coalescing, duplicates, a disk that refuses, and its own restart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from writer_world import SOON, World, stage, started

from pop_actors.actors import Ping
from pop_actors.core import events as e
from pop_actors.core import observations as seen
from pop_actors.errors import Refused
from pop_actors.system import messages as m
from pop_actors.system.status_writer.actor import COALESCE_SECONDS
from support.daemon import wait_until

AT = "2026-01-01T00:00:00.000Z"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_a_barrier_is_in_the_log_before_its_answer(world: World) -> None:
    """With all that was told before it."""
    world.claim("a")
    world.tell("a", started())
    world.ask("a", stage(2)).result(SOON)
    assert world.log("a") == [("JobCreated", 0, 0), ("JobStarted", 1, 1), ("StageStarted", 1, 2)]


def test_a_status_follows_what_was_told(world: World) -> None:
    """Nobody waits for it, and it comes all the same."""
    world.claim("a")
    world.tell("a", started(), stage(2))
    wait_until(lambda: world.status("a")["currentStage"] == "ingestion", SOON, "the status on disk")
    assert world.status("a")["state"] == "running"


def test_progress_is_written_at_most_once_in_a_while(world: World) -> None:
    """However much is told meanwhile; the board is never behind, the file by that time at most."""
    world.claim("a")
    world.tell("a", started())
    wait_until(lambda: world.status("a")["state"] == "running", SOON, "the first status")
    began = time.monotonic()
    path = world.workspace.job("a").status
    inodes = {path.stat().st_ino}
    files = [path.stat().st_mtime_ns]
    seq = 2
    while time.monotonic() < began + 6 * COALESCE_SECONDS:
        world.tell("a", stage(seq, f"stage-{seq}"))
        world.registry.ref(m.STATUS_WRITER).ask(Ping(), SOON)
        document = world.board.job("a")
        assert document is not None
        assert document["currentStage"] == f"stage-{seq}"
        seq += 1
        if path.stat().st_mtime_ns != files[-1]:
            files.append(path.stat().st_mtime_ns)
            inodes.add(path.stat().st_ino)
    writes = len(files) - 1
    assert seq > 2 * writes
    assert 1 <= writes <= (time.monotonic() - began) / COALESCE_SECONDS + 1


def test_what_comes_twice_is_recorded_once(world: World) -> None:
    """By epoch and seq; the second asker is answered as well, and an older epoch is not listened to."""
    world.claim("a")
    world.ask("a", started(), stage(2)).result(SOON)
    world.ask("a", started(), stage(2), stage(3, "parsing")).result(SOON)
    world.ask("a", started(2, 1)).result(SOON)
    world.ask("a", stage(9, "late", epoch=1)).result(SOON)
    assert world.log("a")[1:] == [
        ("JobStarted", 1, 1),
        ("StageStarted", 1, 2),
        ("StageStarted", 1, 3),
        ("JobStarted", 2, 1),
    ]


REFUSED = {
    "not_found": ("nobody", started()),
    "bad_event": ("a", (1, 1, "NoSuchEvent", {})),
    "bad_event ": ("a", (1, 1, "TaskStarted", {"task": "no-such-task", "attempt": 1})),
}


@pytest.mark.parametrize("code", REFUSED)
def test_what_makes_no_sense_is_refused_and_the_next_is_taken(world: World, code: str) -> None:
    """The actor lives on."""
    world.claim("a")
    job_id, event = REFUSED[code]
    with pytest.raises(Refused) as refused:
        world.ask(job_id, event).result(SOON)
    assert refused.value.code == code.strip()
    world.ask("a", started()).result(SOON)
    assert world.log("a")[1:] == [("JobStarted", 1, 1)]


def test_a_restarted_writer_goes_on_from_the_logs(world: World) -> None:
    """Duplicates of before are still known, the board is whole, and a torn end is cut."""
    world.claim("a")
    world.ask("a", started(), stage(2)).result(SOON)
    assert world.writer.stop_and_wait(SOON)
    with world.workspace.job("a").events.open("ab") as log:
        log.write(b'{"type": "StageSta')
    world.start()
    document = world.board.job("a")
    assert document is not None
    assert (document["state"], document["currentStage"]) == ("running", "ingestion")
    world.ask("a", stage(2), stage(3, "parsing")).result(SOON)
    assert world.log("a")[1:] == [("JobStarted", 1, 1), ("StageStarted", 1, 2), ("StageStarted", 1, 3)]


def test_a_disk_that_refuses_holds_the_askers_of_that_job_alone(world: World) -> None:
    """Nothing is lost or out of order once it takes writes again; another job's barrier does not wait."""
    world.claim("a")
    world.claim("b")
    events = world.workspace.job("a").events
    aside = events.with_name("aside")
    events.rename(aside)
    events.mkdir()
    world.tell("a", started())
    held = world.ask("a", stage(2))
    world.ask("b", started()).result(SOON)
    wait_until(lambda: world.status("b")["state"] == "running", SOON, "the other's status")
    assert world.writer.disk_refuses
    assert not held.done()
    events.rmdir()
    aside.rename(events)
    held.result(SOON)
    assert world.log("a") == [("JobCreated", 0, 0), ("JobStarted", 1, 1), ("StageStarted", 1, 2)]
    wait_until(lambda: not world.writer.disk_refuses, SOON, "the disk to be trusted again")
    wait_until(lambda: world.status("a")["currentStage"] == "ingestion", SOON, "the status on disk")


def test_a_finished_job_is_in_complete_when_that_is_told(world: World) -> None:
    """With one line in runs.jsonl; it has left the board, and the watcher of it all heard its end."""
    world.claim("a")
    world.ask("a", started(), (1, 2, "JobDone", {})).result(SOON)
    assert world.heard() == m.JobDeparted("a")
    assert world.workspace.finished("a").path.is_dir()
    assert world.board.job("a") is None
    assert world.workspace.runs.read_text(encoding="utf-8").count('"pl-a"') == 1
    observations = [world.seen.get(timeout=SOON)]
    while not isinstance(observations[-1], seen.JobFinished):
        observations.append(world.seen.get(timeout=SOON))
    assert observations[-1].outcome == "done"


def test_a_job_in_error_stays_with_its_status_on_disk(world: World) -> None:
    """Before the asker hears of it."""
    world.claim("a")
    failed = (1, 2, "JobFailed", {"reason": "exception", "error": {"name": "n", "message": "m"}})
    world.ask("a", started(), failed).result(SOON)
    assert world.status("a")["state"] == "error"


def test_a_finished_job_can_begin_again(world: World) -> None:
    """It is back in current/ with a new run; one that has not ended is refused."""
    world.claim("a")
    world.ask("a", started(), (1, 2, "JobDone", {})).result(SOON)
    assert world.heard() == m.JobDeparted("a")
    again = e.JobRestarted(at=AT, run_id="pl-new", reset=("one",), tasks=("one",))
    document = world.writer.request(m.BeginRun("a", again)).result(SOON)
    assert (document["pipelineId"], document["state"]) == ("pl-new", "pending")
    assert not world.workspace.finished("a").path.exists()
    for job_id, code in (("a", "running"), ("nobody", "not_found")):
        with pytest.raises(Refused) as refused:
            world.writer.request(m.BeginRun(job_id, again)).result(SOON)
        assert refused.value.code == code


def test_a_claim_of_a_seed_that_changed_is_given_back(world: World) -> None:
    """First the scheduler, then the watcher hears of it: news of a seed that is being claimed would be dropped."""
    world._files.drop("a")
    seed = world.seed("a")
    world._files.drop("a", {"data": {"new": True}})
    world.writer.tell(m.Claim(seed, "pl-a"))
    look, _ = world.watcher.sent.get(timeout=SOON)
    assert look == m.LookAgain("a")
    ((failed, _),) = world.scheduler.take_asked()
    assert (failed.job_id, failed.retry) == ("a", False)
    assert world.workspace.seed("a").exists()


def test_a_claim_the_disk_refuses_is_to_be_tried_again(world: World) -> None:
    """The seed is where it was."""
    world._files.drop("a")
    world.workspace.claiming("a").write_bytes(b"in the way")
    world.writer.tell(m.Claim(world.seed("a"), "pl-a"))
    failed = world.heard()
    assert (failed.job_id, failed.retry) == ("a", True)
    assert world.workspace.seed("a").exists()
    world.workspace.claiming("a").unlink()
    world.claim("a")
