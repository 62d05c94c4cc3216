"""What the daemon says of jobs reaches their logs, in order and once, whatever becomes of the status-writer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scheduler_world import AT, Recorder
from writer_world import SOON, World, started

from pop_actors.actors import Registry, Timers
from pop_actors.core import events as e
from pop_actors.errors import Refused, Unavailable
from pop_actors.system import messages as m
from pop_actors.system.notes import Notes

DOWN = e.ProcessDown(at=AT, cause="signal", ended=1)
LOST = e.ProcessDown(at=AT, cause="lost", ended=1)
FAILED = e.JobFailed(at=AT, reason="crashed", error=e.ErrorInfo(name="n", message="m"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        world.claim("a")
        world.ask("a", started()).result(SOON)
        yield world


@pytest.fixture
def timers() -> Iterator[Timers]:
    timers = Timers()
    yield timers
    timers.stop()


def types(world: World) -> list[str]:
    return [kind for kind, _, _ in world.log("a")]


def test_a_note_waits_for_the_next_status_writer(world: World, timers: Timers) -> None:
    """Nobody is there to take it; then somebody is."""
    notes = Notes(world.registry.ref(m.STATUS_WRITER), timers)
    assert world.writer.stop_and_wait(SOON)
    down, failed = notes.note("a", DOWN), notes.note("a", FAILED)
    assert not down.done()
    assert set(notes.open) == {"a"}
    world.start()
    assert (down.result(SOON), failed.result(SOON)) == (None, None)
    assert types(world) == ["JobCreated", "JobStarted", "ProcessDown", "JobFailed"]
    assert world.status("a")["state"] == "error"
    assert not notes.open


def test_what_is_said_twice_is_noted_once(world: World) -> None:
    """By whoever: a process dies once, a run ends once; also for a status-writer that knows of it from the log only."""

    def note(event: e.Event) -> None:
        world.writer.request(m.Note("a", event)).result(SOON)

    note(DOWN)
    note(LOST)
    assert world.writer.stop_and_wait(SOON)
    world.start()
    note(LOST)
    document = world.board.job("a")
    assert document is not None
    assert document["restarts"] == 1
    world.ask("a", started(2, 1), (2, 2, "JobWaiting", {"task": "one"})).result(SOON)
    note(e.GateApproved(at=AT, task="two"))
    for _ in range(2):
        note(e.GateApproved(at=AT, task="one"))
    for event in (FAILED, e.JobStopped(at=AT), FAILED):
        note(event)
    assert types(world)[2:] == ["ProcessDown", "JobStarted", "JobWaiting", "GateApproved", "JobFailed"]
    assert world.status("a")["state"] == "error"


def test_a_dead_process_is_not_heard_by_a_later_status_writer(world: World) -> None:
    """What it had said is behind its death in somebody's queue."""
    world.writer.request(m.Note("a", DOWN)).result(SOON)
    assert world.writer.stop_and_wait(SOON)
    world.start()
    world.ask("a", (1, 2, "JobDone", {})).result(SOON)
    assert types(world) == ["JobCreated", "JobStarted", "ProcessDown"]


def test_notes_on_one_job_go_one_after_the_other(timers: Timers) -> None:
    """Another job's do not wait for them; a refusal is told, and the next one goes all the same."""
    registry, writer = Registry(), Recorder()
    registry.register(m.STATUS_WRITER, writer)
    notes = Notes(registry.ref(m.STATUS_WRITER), timers)
    first, second = notes.note("a", DOWN), notes.note("a", FAILED)
    notes.note("b", DOWN)

    def sent() -> tuple[m.Note, Any]:
        return writer.sent.get(timeout=SOON)

    (one, asked), (other, _) = sent(), sent()
    assert (one, other) == (m.Note("a", DOWN), m.Note("b", DOWN))
    asked.set_exception(Unavailable("it died"))
    again, asked = sent()
    assert again == one
    asked.set_exception(Refused("bad_event", "no"))
    with pytest.raises(Refused):
        first.result(SOON)
    two, asked = sent()
    assert two == m.Note("a", FAILED)
    asked.set_result(None)
    assert second.result(SOON) is None


def test_who_hears_that_the_status_writer_is_up_may_send_at_once(world: World) -> None:
    """A claim that is told in the same breath is carried out."""
    world._files.drop("b")
    claim = m.Claim(world.seed("b"), "pl-b")

    class Prompt(Recorder):
        def tell(self, message: object) -> None:
            if message == m.StatusWriterUp():
                world.registry.ref(m.STATUS_WRITER).tell(claim)
            super().tell(message)

    assert world.writer.stop_and_wait(SOON)
    world.scheduler = Prompt()
    world.registry.register(m.SCHEDULER, world.scheduler)
    world.start()
    assert world.heard() == m.Claimed(claim.seed, "pl-b")
