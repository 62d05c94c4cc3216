"""The scheduler and jobs that wait for a person: no slot is held, locks are, and a decision is carried out once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scheduler_world import AT, SOON, World

from pop_actors.core import events as e
from pop_actors.errors import Refused
from pop_actors.system import messages as m

STARTED = e.JobStarted(at=AT, epoch=1, seq=1, pid=1)
WAITING = e.JobWaiting(at=AT, epoch=1, seq=2, task="one", message="look")
APPROVED = e.GateApproved(at=AT, task="one")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def noted(world: World) -> tuple[e.Event, Any]:
    """The one thing the status-writer was asked to note, and how to answer."""
    ((note, done),) = world.writer.take_asked()
    return note.event, done


def test_an_approved_job_goes_on_once_the_approval_is_on_disk(world: World) -> None:
    """With an epoch of its own; the operator is answered then."""
    world.put_job("a", STARTED, WAITING)
    answer = world.ask(m.DecideGate("a", approve=True, note="fine"))
    event, done = noted(world)
    assert isinstance(event, e.GateApproved)
    assert (event.task, event.note) == ("one", "fine")
    assert not answer.done()
    assert world.jobs.take() == []
    world.put_job("a", STARTED, WAITING, APPROVED)
    done.set_result(None)
    assert answer.result(SOON) == {"id": "a", "state": "pending"}
    world.settle()
    ((order),) = world.jobs.take()
    assert (order.spec.job_id, order.spec.resumed, order.epoch) == ("a", True, 2)


def test_a_rejected_job_ends_and_lets_go_of_what_it_held(world: World) -> None:
    """In error, for `control`, with the note."""
    world.put_job("a", STARTED, WAITING, conflicts=("x",))
    world.tell(m.JobsUp())
    world.find(world.seed("b", conflicts=["x"]))
    assert world.claims() == []
    world.ask(m.DecideGate("a", approve=False, note="no good"))
    event, done = noted(world)
    assert isinstance(event, e.JobFailed)
    assert (event.task, event.reason, event.error.name) == ("one", "control", "GateRejected")
    assert "no good" in event.error.message
    world.put_job("a", STARTED, WAITING, event, conflicts=("x",))
    done.set_result(None)
    world.settle()
    assert world.claims() == ["b"]


def test_a_job_that_leaves_for_a_gate_frees_its_slot_and_keeps_its_locks(world: World) -> None:
    """What it conflicts over is half done; who needs the same waits, others run."""
    world.run(world.seed("a", conflicts=["x"]), world.seed("b"), world.seed("c"))
    world.put_job("a", STARTED, WAITING, conflicts=("x",))
    world.tell(m.JobEnded("a", gave_up=False))
    assert world.starts() == ["c"]
    world.find(world.seed("d", conflicts=["x"]), world.seed("e"))
    assert world.claims() == ["e"]


def test_a_decision_waits_for_the_process_that_is_leaving(world: World) -> None:
    """Its last word is in the log before the decision."""
    world.run(world.seed("a"))
    world.put_job("a", STARTED, WAITING)
    answer = world.ask(m.DecideGate("a", approve=True))
    assert world.writer.take() == []
    world.tell(m.JobEnded("a", gave_up=False))
    event, _ = noted(world)
    assert isinstance(event, e.GateApproved)
    assert not answer.done()


def test_a_gate_is_decided_on_once(world: World) -> None:
    """Who comes second is told so, also while the first decision is still on its way to the disk."""
    world.put_job("a", STARTED, WAITING)
    world.ask(m.DecideGate("a", approve=True))
    for approve in (True, False):
        with pytest.raises(Refused) as refused:
            world.ask(m.DecideGate("a", approve=approve)).result(SOON)
        assert refused.value.code == "not_waiting"
    noted(world)


def test_a_decision_is_for_the_gate_it_names(world: World) -> None:
    """Somebody who looked at another task's result does not let this one pass."""
    world.put_job("a", STARTED, WAITING)
    with pytest.raises(Refused, match="the gate of one, not at the gate of two"):
        world.ask(m.DecideGate("a", approve=True, task="two")).result(SOON)
    world.ask(m.DecideGate("a", approve=True, task="one"))
    noted(world)


@pytest.mark.parametrize(
    ("state", "code"), [("pending", "not_waiting"), ("stopped", "not_waiting"), ("unfinished", "not_found")]
)
def test_who_waits_at_no_gate_is_not_decided_on(world: World, state: str, code: str) -> None:
    """With its state, or that there is no such job."""
    world.ask(m.SetClaiming(on=False)).result(SOON)
    if code == "not_waiting":
        world.put_job("a", *([e.JobStopped(at=AT)] if state == "stopped" else []))
    with pytest.raises(Refused, match=state) as refused:
        world.ask(m.DecideGate("a", approve=True)).result(SOON)
    assert refused.value.code == code


def test_a_stop_during_a_decision_has_the_last_word(world: World) -> None:
    """The job is stopped, and not started in between."""
    world.put_job("a", STARTED, WAITING)
    decided = world.ask(m.DecideGate("a", approve=True))
    _, done = noted(world)
    stopped = world.ask(m.StopJob("a"))
    assert world.writer.take() == []
    world.put_job("a", STARTED, WAITING, APPROVED)
    done.set_result(None)
    decided.result(SOON)
    world.settle()
    event, done = noted(world)
    assert isinstance(event, e.JobStopped)
    done.set_result(None)
    assert stopped.result(SOON) == "stopped"
    assert world.jobs.take() == []


def test_a_waiting_job_can_be_stopped_and_is_not_restarted_unseen(world: World) -> None:
    """The refusal says what to type."""
    world.put_job("a", STARTED, WAITING)
    with pytest.raises(Refused, match="popctl reject a"):
        world.ask(m.RestartJob("a")).result(SOON)
    answer = world.ask(m.StopJob("a"))
    event, done = noted(world)
    assert isinstance(event, e.JobStopped)
    done.set_result(None)
    assert answer.result(SOON) == "stopped"


def test_a_decision_that_cannot_be_noted_is_told_and_can_be_made_again(world: World) -> None:
    """If it was noted after all, the next status-writer knows, and the job goes on."""
    world.put_job("a", STARTED, WAITING)
    answer = world.ask(m.DecideGate("a", approve=True))
    _, done = noted(world)
    done.set_exception(Refused("gone", "the status-writer died"))
    with pytest.raises(Refused, match="died"):
        answer.result(SOON)
    world.ask(m.DecideGate("a", approve=True))
    _, done = noted(world)
    done.set_exception(Refused("gone", "the status-writer died"))
    world.settle()
    world.put_job("a", STARTED, WAITING, APPROVED)
    world.tell(m.StatusWriterUp())
    assert world.starts() == ["a"]


def test_jobs_at_gates_are_not_taken_up_by_a_start(world: World) -> None:
    """Whatever was restarted: they wait for a person, and hold what they held."""
    world.put_job("a", STARTED, WAITING, conflicts=("x",))
    world.tell(m.JobsUp(), m.StatusWriterUp())
    world.find(world.seed("b", conflicts=["x"]))
    assert (world.starts(), world.claims()) == ([], [])


def test_a_damaged_job_is_only_to_be_repaired(world: World) -> None:
    """Stop and restart say what it says itself."""
    world.put_job("a", STARTED)
    document = world.board.job("a")
    assert document is not None
    world.board.put_job({**document, "state": "error", "damaged": "popctl doctor --repair a"})
    for order in (m.StopJob("a"), m.RestartJob("a")):
        with pytest.raises(Refused, match="doctor --repair") as refused:
            world.ask(order).result(SOON)
        assert refused.value.code == "damaged"


@pytest.mark.parametrize("approve", [True, False])
def test_a_job_whose_decision_could_not_be_noted_holds_what_it_held(world: World, approve: bool) -> None:
    """It waits at its gate as before."""
    world.put_job("a", STARTED, WAITING, conflicts=("x",))
    world.tell(m.JobsUp())
    answer = world.ask(m.DecideGate("a", approve=approve))
    _, done = noted(world)
    done.set_exception(Refused("gone", "the status-writer failed on it"))
    with pytest.raises(Refused):
        answer.result(SOON)
    world.find(world.seed("b", conflicts=["x"]))
    assert (world.starts(), world.claims()) == ([], [])
