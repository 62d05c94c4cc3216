"""Actors that are processes: the same refs both ways, every death heard, nothing left behind."""

from __future__ import annotations

import multiprocessing.forkserver
import multiprocessing.util
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from process_world import ENTRY, SOON, World, ends

from pop_actors.actors import ChildSpec
from pop_actors.actors.process_child import process
from pop_actors.core.messages import Stop
from pop_actors.errors import AskTimeout, Refused
from support.daemon import wait_until
from support.echo_actor import do


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


def test_tell_and_ask_read_the_same_in_both_directions(world: World) -> None:
    """A process is asked and told at its address, and asks and tells others at theirs."""
    assert world.start() == 1
    who = world.ask("who")
    assert (who["address"], who["epoch"]) == ("a", 1)
    assert who["pid"] != os.getpid()
    assert world.ask("ask", "hello") == "peer heard hello"
    world.tell("tell", "one after the other", 3)
    assert [world.peer.told.get(timeout=SOON).epoch for _ in range(3)] == [0, 1, 2]


def test_processes_reach_each_other_by_address(world: World) -> None:
    """The hub carries it; neither knows where the other lives."""
    world.start("a")
    world.start("peer-process")
    assert world.pid("a") != world.pid("peer-process")
    assert sorted(world.registry.addresses()) == ["a", "echoes", "peer", "peer-process"]


def test_an_ask_that_nobody_waits_for_any_more_harms_nothing(world: World) -> None:
    """As asyncio does it at a timeout: the answer comes late and is let go; the link lives on."""
    world.start()
    assert world.ask("change_mind") == "peer heard still here"
    assert world.ask("ask", "again") == "peer heard again"
    assert world.echoes.exits.empty()


def test_a_message_it_does_not_know_is_refused_to_the_asker(world: World) -> None:
    """And is not sent: a link takes messages of its vocabulary only."""
    world.start()
    with pytest.raises(Exception, match="str is no message of this vocabulary"):
        world.registry.ref("a").ask("no record", 1.0)
    assert world.ask("who")["epoch"] == 1


def test_a_killed_process_is_back_with_the_next_epoch(world: World) -> None:
    """Its address answers again; the supervisor heard the signal's name."""
    world.start()
    os.kill(world.pid(), signal.SIGKILL)
    name, epoch, reason, will_restart = world.next_exit()
    assert (name, epoch, reason.kind, reason.detail, will_restart) == ("a", 1, "signal", "SIGKILL", True)
    assert world.ask("who")["epoch"] == 2


ENDS = {
    "end": ("normal", "", False),
    "raise": ("exception", "ValueError: told to raise", True),
    "leave": ("exit", "exit code 0 without a good-bye", True),
}


@pytest.mark.parametrize("verb", ENDS)
def test_the_reason_of_an_exit_is_told(world: World, verb: str) -> None:
    """Only a good-bye is a normal end; an exception comes with its traceback, and the exit code means nothing."""
    kind, words, will_restart = ENDS[verb]
    world.start()
    world.tell(verb)
    _, epoch, reason, restarts = world.next_exit()
    assert (epoch, reason.kind, restarts) == (1, kind, will_restart)
    assert words in reason.detail
    assert ("Traceback" in reason.detail and "echo_actor.py" in reason.detail) is (verb == "raise")


def test_a_start_that_fails_is_an_exit_with_its_traceback(world: World) -> None:
    """It is tried again until its budget is spent, and then given up."""
    with pytest.raises(Refused, match="OSError: cannot start"):
        world.start(fails=True)
    exits = [world.next_exit() for _ in range(4)]
    assert [epoch for _, epoch, _, _ in exits] == [1, 2, 3, 4]
    assert [again for *_, again in exits] == [True, True, True, False]
    assert all("OSError: cannot start" in reason.detail for _, _, reason, _ in exits)


def test_a_class_that_is_not_there_fails_its_start(world: World) -> None:
    """With the module's or the attribute's name in the reason."""
    for entry in ("support.echo_actor:Nobody", "support.no_such_module:Echo"):
        starter = process(world.host, entry, lambda _: {})
        world.echoes.start_child(ChildSpec(entry, starter, restart="temporary", kind="process"))
        _, _, reason, _ = world.next_exit()
        assert reason.kind == "exception"
        assert entry.split(":")[entry.startswith("support.echo")] in reason.detail


def test_a_stop_is_polite_and_sigterm_is_no_stop(world: World) -> None:
    """A signal to the whole service leaves a job to its supervisor; the supervisor's stop ends it well."""
    world.start()
    pid = world.pid()
    assert world.ask("sigterm_me") == "still here"
    world.echoes.terminate_child("a").result(SOON)
    _, _, reason, will_restart = world.next_exit()
    assert (reason.kind, will_restart) == ("shutdown", False)
    assert ends(pid, SOON)
    assert not world.registry.is_registered("a")


def test_a_stop_that_is_not_heeded_becomes_a_kill(world: World) -> None:
    """After the grace the spec allows."""
    world.start(deaf=True, shutdown=0.1)
    pid = world.pid()
    world.echoes.terminate_child("a", Stop(suspend=True)).result(SOON)
    _, _, reason, will_restart = world.next_exit()
    assert (reason.kind, will_restart) == ("signal", False)
    assert ends(pid, SOON)


def test_a_process_that_is_still_to_come_can_be_killed(world: World) -> None:
    """Its start waits for something; the kill ends the wait, and the process that comes late is sent away."""
    first: Future[None] = Future()
    starter = process(world.host, ENTRY, lambda _: {}, after=lambda: first)
    started = world.echoes.start_child(ChildSpec("a", starter, restart="temporary", kind="process", shutdown=0.05))
    world.echoes.terminate_child("a").result(SOON)
    with pytest.raises(Refused):
        started.result(SOON)
    assert world.next_exit()[:2] == ("a", 1)
    (pid,) = world.wait_idle(1)
    first.set_result(None)
    assert ends(pid, SOON)
    assert not world.registry.is_registered("a")


def test_a_process_without_heartbeats_is_killed_and_replaced() -> None:
    """A stopped process answers nothing and dies of nothing; its supervisor misses its beats."""
    with World(heartbeat_seconds=0.1, heartbeat_deadline=2.5) as world:
        world.start()
        world.start("b")
        stopped, well = world.pid(), world.pid("b")
        os.kill(stopped, signal.SIGSTOP)
        name, epoch, reason, will_restart = world.next_exit()
        assert (name, epoch, reason.kind, will_restart) == ("a", 1, "hung", True)
        assert ends(stopped, SOON)
        assert world.ask("who")["epoch"] == 2
        assert world.pid("b") == well


@pytest.mark.parametrize("verb", ["killed", "leave", "end"])
def test_what_a_process_started_goes_with_it(world: World, verb: str) -> None:
    """However it ends: grandchildren do not outlive it."""
    world.start()
    grandchild = world.ask("grandchild")
    pid = world.pid()
    if verb == "killed":
        os.kill(pid, signal.SIGKILL)
    else:
        world.tell(verb)
    assert ends(grandchild, SOON)
    assert ends(pid, SOON)


def test_an_idle_worker_that_dies_is_replaced(world: World) -> None:
    """Nobody else hears of it, and the next start is served by the one that came."""
    (first,) = world.wait_idle(1)
    os.kill(first, signal.SIGKILL)
    assert ends(first, SOON)
    wait_until(lambda: world.idle_pids() not in ([], [first]), SOON, "a new idle worker")
    (second,) = world.idle_pids()
    world.start()
    assert world.pid() == second
    assert world.echoes.exits.empty()


def test_a_process_does_not_run_the_program_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program does at its top level is not done once more in each process it starts."""
    ran_again = tmp_path / "ran-again"
    program = types.ModuleType("__main__")
    program.__file__ = str(tmp_path / "program.py")
    (tmp_path / "program.py").write_text(f"open({str(ran_again)!r}, 'x').close()")
    monkeypatch.setitem(sys.modules, "__main__", program)
    with World() as world:
        world.start()
        assert world.ask("who")["epoch"] == 1
    assert not ran_again.exists()


def test_what_multiprocessing_keeps_for_a_process_goes_with_the_daemons(world: World) -> None:
    """A process that is killed tidies nothing up: its sockets lie where the daemon removes them."""
    world.start()
    assert Path(world.ask("listen")).parent == Path(multiprocessing.util.get_temp_dir())


def test_actors_start_again_when_the_forkserver_was_killed(world: World) -> None:
    """Actors that live go on; the deaths of those that do not are heard as before."""
    world.start("a")
    world.start("b")
    pid = world.pid("a")
    world.wait_idle(1)
    forkserver = multiprocessing.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(forkserver, signal.SIGKILL)
    assert ends(forkserver, SOON)
    assert world.pid("a") == pid
    os.kill(pid, signal.SIGKILL)
    name, _, reason, will_restart = world.next_exit()
    assert (name, reason.kind, reason.detail, will_restart) == ("a", "signal", "SIGKILL", True)
    assert world.ask("who")["epoch"] == 2
    world.start("c")
    assert world.ask("who", name="c")["epoch"] == 1


def test_a_frame_nobody_can_read_costs_its_sender_alone(world: World) -> None:
    """Its link is cut, so it ends itself; the hub and the others do not notice."""
    world.start("a")
    world.start("b")
    other = world.pid("b")
    world.tell("garbage")
    name, _, reason, _ = world.next_exit()
    assert (name, reason.kind, reason.detail) == ("a", "signal", "SIGKILL")
    assert world.pid("b") == other
    assert world.ask("who")["epoch"] == 2
    assert world.hub.is_turning()


def test_a_full_mailbox_holds_its_senders_and_nobody_else(world: World) -> None:
    """The flooding process waits at its socket; other processes are served; nothing is lost or out of order."""
    many = 20_000
    gate = threading.Event()
    world.start("flood")
    world.start("other")
    world.peer.tell(gate)
    world.tell("tell", "flood", many, name="flood")
    answer = world.registry.ref("flood").request(do("who"))
    wait_until(world.peer.is_full, SOON, "the mailbox to be full")
    for _ in range(3):
        assert world.ask("who", name="other")["epoch"] == 1
    assert not answer.done()
    assert world.peer.depth() <= world.peer.mailbox_limit
    gate.set()
    assert [world.peer.told.get(timeout=SOON).epoch for _ in range(many)] == list(range(many))
    assert answer.result(SOON)["address"] == "flood"


def test_asks_of_a_process_that_dies_are_answered(world: World) -> None:
    """A waiting asker hears that it is gone, or is answered by the next one; never is it left alone."""
    world.start(restart="temporary")
    asked = [world.registry.ref("a").request(do("ask", str(number))) for number in range(20)]
    os.kill(world.pid(), signal.SIGKILL)
    for future in asked:
        assert future.exception(SOON) is None or "gone" in str(future.exception())
    with pytest.raises((AskTimeout, Refused)):
        world.ask("who", seconds=0.1)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_fifty_lives_leave_no_descriptor_and_no_process(world: World) -> None:
    """Sockets, pidfds and sentinels are let go of; the pool is as large as before."""
    world.start("warm-up")
    world.echoes.terminate_child("warm-up").result(SOON)
    world.wait_idle(1)
    wait_until(lambda: world.host.snapshot()["processes"] == 1, SOON, "the dead to be reaped")
    before = open_files()
    for number in range(50):
        world.start(f"life-{number}")
        if number % 5 == 0:
            os.kill(world.pid(f"life-{number}"), signal.SIGKILL)
        world.echoes.terminate_child(f"life-{number}").result(SOON)
    world.wait_idle(1)
    wait_until(lambda: world.host.snapshot()["processes"] == 1, SOON, "the dead to be reaped")
    wait_until(lambda: open_files() <= before, SOON, f"{before} open files, not {open_files()}")


def test_a_stop_of_the_host_ends_everything_and_may_come_twice() -> None:
    """Idle workers and actors alike; hub and host leave no descriptor and no thread."""
    threads = threading.active_count()
    before = open_files()
    with World(warm=2) as world:
        world.start(restart="temporary")
        pids = [world.pid(), *world.wait_idle(2)]
        world.host.stop()
        assert all(ends(pid, SOON) for pid in pids)
        world.host.stop()
        world.hub.stop()
        world.hub.stop()
    assert threading.active_count() == threads
    wait_until(lambda: open_files() <= before, SOON, f"{before} open files, not {open_files()}")
