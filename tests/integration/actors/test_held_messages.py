"""Messages from processes to actors that cannot take them now: held for them, while everything else goes on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from process_world import SOON, Peer, World, ends

from pop_actors.actors import Actor
from pop_actors.actors.held import HELD_BYTES, Held
from pop_actors.actors.wire import Envelope
from support.daemon import wait_until
from support.echo_actor import do


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.fixture
def gate(world: World) -> Iterator[threading.Event]:
    """The peer takes nothing until it is set."""
    gate = threading.Event()
    world.peer.tell(gate)
    yield gate
    gate.set()


class Bystander(Actor):
    """Answers."""

    def receive(self, message: Any) -> object:
        return "well"


def held(world: World) -> list[Held]:
    return [port._held for port in list(world.hub._holding)]


def fill_peer(world: World) -> None:
    while not world.peer.is_full():
        world.peer.put(do("told", "filler", -1))


def told(world: World, count: int) -> list[int]:
    """The numbers of what the peer was told, but for what filled it."""
    numbers: list[int] = []
    while len(numbers) < count:
        record = world.peer.told.get(timeout=SOON)
        if record.run_id != "filler":
            numbers.append(record.epoch)
    return numbers


def test_a_full_mailbox_holds_up_what_is_sent_to_it_and_nothing_else(world: World, gate: threading.Event) -> None:
    """The same process is answered by others, asks others, and its parent hears it."""
    bystander = Bystander.start_and_wait("bystander", world.registry)
    fill_peer(world)
    world.start()
    world.tell("tell", "held", 10)
    wait_until(lambda: bool(held(world)), SOON, "the messages to be held")
    assert world.ask("ask_other", "bystander") == "well"
    world.tell("raise")
    assert world.next_exit()[2].kind == "exception"
    gate.set()
    assert told(world, 10) == list(range(10))
    assert bystander.stop_and_wait(SOON)


def test_a_process_whose_link_is_not_read_is_not_taken_for_hung() -> None:
    """Its heartbeats cannot come through while its messages are held in heaps; the one that is really hung is found."""
    with World(heartbeat_seconds=0.1, heartbeat_deadline=2.5) as world:
        gate = threading.Event()
        world.peer.tell(gate)
        fill_peer(world)
        try:
            for name in ("flood", "frozen"):
                world.start(name)
            flood = world.pid("flood")
            world.tell("tell", "x" * 1000, 2000, name="flood")
            wait_until(lambda: any(one.is_too_much() for one in held(world)), SOON, "the link not to be read")
            os.kill(world.pid("frozen"), signal.SIGSTOP)  # from here to its end is longer than a beat may be missing
            name, _, reason, _ = world.next_exit()
            assert (name, reason.kind) == ("frozen", "hung")
            assert any(one.is_too_much() for one in held(world))
        finally:
            gate.set()
        assert told(world, 2000) == list(range(2000))
        assert world.pid("flood") == flood
        assert world.echoes.exits.empty()


def test_what_is_sent_while_an_actor_restarts_reaches_the_next_one(world: World) -> None:
    """In its order, tells and asks; without a word to the process."""
    world.start()
    assert world.pid() != os.getpid()
    assert world.peer.stop_and_wait(SOON)
    world.tell("tell", "in between", 20)
    asked = world.registry.ref("a").request(do("ask", "after them"))
    wait_until(lambda: bool(held(world)), SOON, "the messages to be held")
    world.peer = Peer.start_and_wait("peer", world.registry)
    assert asked.result(SOON) == "peer heard after them"
    assert [world.peer.told.get(timeout=SOON).epoch for _ in range(20)] == list(range(20))


def test_the_last_words_of_a_process_reach_the_next_actor(world: World) -> None:
    """The process dies while the actor it told is away."""
    world.start(restart="temporary")
    pid = world.pid()
    assert world.peer.stop_and_wait(SOON)
    world.tell("tell", "last words", 20)
    wait_until(lambda: bool(held(world)), SOON, "the messages to be held")
    world.ask("who")
    os.kill(pid, signal.SIGKILL)
    assert world.next_exit()[0] == "a"
    world.peer = Peer.start_and_wait("peer", world.registry)
    assert [world.peer.told.get(timeout=SOON).epoch for _ in range(20)] == list(range(20))


@pytest.mark.parametrize("count", [20, 2000])
def test_a_stop_does_not_wait_for_an_actor_that_does_not_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """What was told it is held, were it for ever: the process ends when it is to, by force where it waits to send."""
    monkeypatch.setattr("pop_actors.actors.registry.AWAY_SECONDS", 3600.0)
    world.start(shutdown=0.5)
    pid = world.pid()
    assert world.peer.stop_and_wait(SOON)
    world.tell("tell", "x" * 1000, count)
    wait_until(lambda: bool(held(world)), SOON, "the messages to be held")
    if count == 2000:
        wait_until(held(world)[0].is_too_much, SOON, "the link not to be read")
    world.echoes.terminate_child("a").result(SOON)
    assert world.next_exit()[2].kind == ("shutdown" if count == 20 else "signal")
    assert ends(pid, SOON)
    world.peer = Peer.start_and_wait("peer", world.registry)
    assert len([world.peer.told.get(timeout=SOON) for _ in range(20)]) == 20


def test_an_actor_that_does_not_come_back_is_waited_for_only_so_long(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was told it is counted as lost, and the process goes on."""
    world.start()
    world.pid()
    assert world.peer.stop_and_wait(SOON)
    world.tell("tell", "nobody", 20)
    wait_until(lambda: bool(held(world)), SOON, "the messages to be held")
    monkeypatch.setattr("pop_actors.actors.registry.AWAY_SECONDS", 0.0)
    wait_until(lambda: world.registry.undelivered.dropped().get("peer") == 20, SOON, "the messages to be given up")
    assert world.pid() > 0
    world.peer = Peer.start_and_wait("peer", world.registry)


def test_held_messages_are_bounded_and_in_order_for_each_address() -> None:
    """What can be taken goes, the rest stays, and the bytes are those of the rest."""
    held = Held()
    for number in range(3):
        for address in ("a", "b"):
            held.add(Envelope(address, "tell", number, None), HELD_BYTES // 6 + 1)
    assert held.is_too_much()
    assert [envelope.id for envelope in held.take(lambda address: address == "a")] == [0, 1, 2]
    assert not held.is_too_much()
    assert (held.waits_for("a"), held.waits_for("b")) == (False, True)
    room = iter([True, False])
    assert [envelope.id for envelope in held.take(lambda _: next(room))] == [0]
    assert [envelope.id for envelope in held.take(lambda _: True)] == [1, 2]
    assert not held
