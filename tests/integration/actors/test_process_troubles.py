"""What goes wrong below process actors, where they come from: it is heard, gone round, and disturbs nobody else."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from process_world import ENTRY, SOON, World, ends

from pop_actors.actors import ChildSpec, Launch, Registry
from pop_actors.actors import forkserver as ours
from pop_actors.actors.child import ChildNotice, ExitReason
from pop_actors.actors.process_child import ProcessChild, process
from pop_actors.actors.process_host import Worker
from pop_actors.errors import Refused
from support.daemon import wait_until
from support.echo_actor import Stillborn, do

the_server: Any = multiprocessing.forkserver._forkserver  # type: ignore[attr-defined]


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def forkserver_pid() -> int:
    pid: int = the_server._forkserver_pid
    return pid


@pytest.fixture
def frozen(world: World) -> Iterator[int]:
    """The forkserver, stopped in the middle of a fork; its pid. The idle worker there was is actor `a` now."""
    world.wait_idle(1)
    pid = forkserver_pid()
    os.kill(pid, signal.SIGSTOP)
    world.start(restart="temporary")
    wait_until(ours._births.locked, SOON, "a fork to be asked for")
    yield pid
    if forkserver_pid() == pid:
        os.kill(pid, signal.SIGCONT)


def test_a_forkserver_that_dies_in_the_middle_of_a_fork_is_replaced(world: World, frozen: int) -> None:
    """The fork is tried again with the next one; the actors there are go on."""
    pid = world.pid()
    os.kill(frozen, signal.SIGKILL)
    world.start("b")
    assert world.ask("who", name="b")["epoch"] == 1
    assert world.pid() == pid


def test_a_forkserver_that_hangs_is_ended_and_replaced(
    world: World, frozen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork has a deadline, since no death is told of as long as it lasts."""
    os.kill(frozen, signal.SIGCONT)
    world.wait_idle(1)
    with monkeypatch.context() as short:
        short.setattr(ours, "FORK_SECONDS", 0.1)
        os.kill(frozen, signal.SIGSTOP)
        world.start("b")
        assert ends(frozen, SOON)
    world.start("c")
    assert world.ask("who", name="c")["epoch"] == 1


def test_a_host_stops_while_its_forkserver_hangs(world: World, frozen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes are dead when it returns, and it does return."""
    monkeypatch.setattr("pop_actors.actors.process_host.STOP_SECONDS", 0.5)
    pid = world.pid()
    stopped = threading.Thread(target=world.host.stop)
    stopped.start()
    stopped.join(SOON)
    assert not stopped.is_alive()
    assert ends(pid, SOON)


def test_workers_that_cannot_live_are_started_more_and_more_seldom(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not as fast as they die, with a warning for each; one that lives ends that."""
    (idle,) = world.wait_idle(1)
    with monkeypatch.context() as broken:
        broken.setattr("pop_actors.actors.process_host.WorkerLife", Stillborn)
        os.kill(idle, signal.SIGKILL)
        wait_until(lambda: world.host._failures >= 3, SOON, "the third worker to die")
    world.start()
    assert world.ask("who")["address"] == "a"
    assert world.host._failures == 0


def test_a_forkserver_that_fails_takes_nobody_with_it(world: World) -> None:
    """It ends everybody when the daemon is gone; where it merely fails itself, as when nobody can be forked, it does
    not, and another one takes its place."""
    world.start()
    pid = world.pid()
    (idle,) = world.wait_idle(1)
    server = forkserver_pid()
    with socket.socket(socket.AF_UNIX) as nonsense:
        nonsense.connect(the_server._forkserver_address)
    assert ends(server, SOON)
    assert world.pid() == pid
    world.start("b")
    assert world.pid("b") == idle
    world.start("c")
    assert world.ask("who", name="c")["epoch"] == 1
    assert world.echoes.exits.empty()


def test_a_death_is_heard_while_no_descriptor_is_left(world: World) -> None:
    """What cannot be looked up then is looked up later; the host goes on."""
    world.start(restart="temporary")
    pid = world.pid()
    world.wait_idle(1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        os.kill(pid, signal.SIGKILL)
        assert world.next_exit()[0] == "a"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    world.start("b")
    world.start("c")
    assert world.ask("who", name="c")["epoch"] == 1


def test_what_was_left_for_a_process_reaches_it(world: World) -> None:
    """It is found at its address once it knows what it is, and not before: nothing is told to an idle worker."""
    world.registry.ref("a").leave(do("tell", "left", 3))
    world.start()
    assert [world.peer.told.get(timeout=SOON).run_id for _ in range(3)] == ["left"] * 3


@pytest.mark.parametrize("warm", [0, 1])
def test_arguments_that_cannot_be_sent_fail_the_start_alone(warm: int) -> None:
    """The worker they were for goes, others come."""
    with World(warm=warm) as world:
        if warm:
            world.wait_idle(1)
        starter = process(world.host, ENTRY, lambda _: {"deaf": object()})
        spec = ChildSpec("a", starter, restart="temporary", kind="process")
        with pytest.raises(Refused, match="not JSON"):
            world.echoes.start_child(spec).result(SOON)
        wait_until(lambda: world.host.snapshot()["processes"] == warm, SOON, "its worker to be gone")
        assert world.registry.addresses() == ["peer", "echoes"]
        world.start("b")
        assert world.ask("who", name="b")["epoch"] == 1


def test_a_process_that_dies_as_it_is_handed_over_is_found_nowhere() -> None:
    """Its death may be heard before the hand-over is through: its address is nobody's all the same."""
    registry, notices = Registry(), list[ChildNotice]()
    child = ProcessChild(Launch("a", 1, notices.append, registry))
    with World() as world:
        (pid,) = world.wait_idle(1)
        worker: Worker = world.host._idle[0]
        child.took(worker)
        child.ended(ExitReason("signal", "SIGKILL"))
        child.told()
        assert worker.pid == pid
    assert registry.addresses() == []
    assert len(notices) == 1
