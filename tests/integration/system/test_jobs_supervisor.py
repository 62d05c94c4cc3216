"""The supervisor of jobs with real processes: whatever ends when, a slot comes back once, and a last word is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs_world import SOON, World
from scheduler_world import AT

from pop_actors.actors import Ping
from pop_actors.actors.restart_budget import Backoff
from pop_actors.core import events as e
from pop_actors.errors import Unavailable
from pop_actors.system import jobs
from pop_actors.system import messages as m
from support.daemon import wait_until

STARTED = e.JobStarted(at=AT, epoch=1, seq=1, pid=1)
WAITING = e.JobWaiting(at=AT, epoch=1, seq=2, task="one", message="look")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        world.put_job()
        yield world


def pause_long_before_restarts(world: World) -> None:
    world.jobs._backoff = Backoff(minimum=600.0, maximum=600.0, jitter=0.0, reset_after=60.0)


def settle(world: World) -> None:
    """Until it has dealt with what it was told, and with what that led to."""
    for _ in range(2):
        world.registry.ref(m.JOBS).ask(Ping(), SOON)


def test_a_job_that_pauses_before_a_restart_can_be_ended(world: World) -> None:
    """It does not come back by itself, and can be started again at once."""
    pause_long_before_restarts(world)
    world.kill(world.start(1))
    down, noted = world.note()
    assert isinstance(down, e.ProcessDown)
    noted.set_result(None)
    world.jobs.tell(m.EndJob("a", suspend=False))
    assert world.told() == m.JobEnded("a", gave_up=False)
    world.start(2)
    settle(world)
    assert world.scheduler.take() == []


def test_the_forced_end_of_a_process_is_not_for_the_next_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, gone politely, and started again before its time was over."""
    monkeypatch.setattr(jobs, "STOP_SECONDS", 3.0)
    world.start(1)
    time_is_over = threading.Event()
    world.jobs.tell(m.EndJob("a", suspend=False))
    settle(world)
    world.timers.after(3.0, time_is_over.set)
    assert world.told() == m.JobEnded("a", gave_up=False)
    pid = world.start(2)
    assert time_is_over.wait(SOON)
    settle(world)
    assert world.wait_for_process() == pid
    assert not [message for message in world.writer.take() if isinstance(message, m.Note)]


@pytest.mark.parametrize("last", [WAITING, e.JobStopped(at=AT), e.JobDone(at=AT, epoch=1, seq=2)])
def test_a_process_killed_on_its_way_out_is_not_followed(world: World, last: e.Event) -> None:
    """The log has its last word: at a gate, or at the end of the run. Its slot is free."""
    pause_long_before_restarts(world)
    pid = world.start(1)
    world.put_job(STARTED, last)
    world.kill(pid)
    _, noted = world.note()
    noted.set_result(None)
    assert world.told() == m.JobEnded("a", gave_up=False)
    assert world.jobs.which_children().result(SOON) == []


def test_a_last_word_waits_for_a_status_writer(tmp_path: Path) -> None:
    """Given up while nobody can note it: the slot is free when the log says so, and not before."""
    with World(tmp_path, max_restarts=0) as world:
        world.put_job()
        pid = world.start(1)
        world.registry.unregister(m.STATUS_WRITER, world.writer)
        world.kill(pid)
        wait_until(lambda: not world.jobs.which_children().result(SOON), SOON, "the job to be given up")
        world.jobs.tell(m.SchedulerUp())
        assert world.told() == m.JobsUp(("a",))
        world.registry.register(m.STATUS_WRITER, world.writer)
        down, noted = world.note()
        assert isinstance(down, e.ProcessDown)
        noted.set_exception(Unavailable("it died"))
        again, noted = world.note()
        assert again == down
        noted.set_result(None)
        failed, noted = world.note()
        assert isinstance(failed, e.JobFailed)
        settle(world)
        assert world.scheduler.take() == []
        noted.set_result(None)
        assert world.told() == m.JobEnded("a", gave_up=True)
        world.jobs.tell(m.SchedulerUp())
        assert world.told() == m.JobsUp()
