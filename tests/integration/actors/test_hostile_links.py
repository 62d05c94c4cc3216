"""Whatever bytes a process sends, on a real socket to a real hub: it harms its own link and nobody else's."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pop_actors.actors import Actor, Registry
from pop_actors.actors.hub import Hub
from pop_actors.actors.port import Port
from pop_actors.actors.wire import HEADER_BYTES, MAX_FRAME_BYTES, Envelope, FrameReader
from pop_actors.actors.worker import VOCABULARY
from pop_actors.core.messages import Heartbeat, Record
from pop_actors.errors import PopError

SOON = 10.0
# Sends the same frame for ever, many at a time.
SENDING_ON = """
import ast, os, sys
frames = ast.literal_eval(sys.argv[1]) * 1000
while True:
    os.write(1, frames)
"""


class Peer(Actor):
    """Answers every ask with the name of the run it is about."""

    def receive(self, message: Any) -> object:
        return message.run_id if isinstance(message, Record) else None


class Client:
    """The process's end of a link, without a process: the test is the process."""

    def __init__(self, hub: Hub) -> None:
        ours, self.socket = socket.socketpair()
        self.heard: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.port: Port = hub.attach(ours, os.getpid(), self.heard.put, lambda: None)
        self.socket.settimeout(SOON)
        self._frames = FrameReader()
        self._read: list[Envelope] = []

    def send(self, data: bytes) -> bool:
        """False where the hub has cut the link."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def next(self) -> Envelope:
        while not self._read:
            chunk = self.socket.recv(65536)
            assert chunk, "the hub cut a healthy link"
            self._read += [VOCABULARY.decode(payload) for payload in self._frames.feed(chunk)]
        return self._read.pop(0)

    def close(self) -> None:
        self.socket.close()


class World:
    def __init__(self) -> None:
        self.registry = Registry()
        self.hub = Hub(VOCABULARY, self.registry)
        self.hub.start()
        self.peer = Peer.start_and_wait("peer", self.registry)
        self.healthy = Client(self.hub)
        self._asked = 0

    def close(self) -> None:
        self.healthy.close()
        assert self.peer.stop_and_wait(SOON)
        self.hub.stop()

    def check_the_healthy(self) -> None:
        """It is answered, asked and heard."""
        self._asked += 1
        self.healthy.send(VOCABULARY.encode(Envelope("peer", "ask", self._asked, Record("j", str(self._asked), 1, ()))))
        assert self.healthy.next() == Envelope("parent", "reply", self._asked, str(self._asked))
        asked = self.healthy.port.request(Record("j", "r", 1, ()))
        question = self.healthy.next()
        self.healthy.send(VOCABULARY.encode(Envelope("parent", "reply", question.id, "here")))
        assert asked.result(SOON) == "here"
        beat = Heartbeat("jobs/healthy", 1, self._asked)
        self.healthy.send(VOCABULARY.encode(Envelope("parent", "tell", 0, beat)))
        assert self.healthy.heard.get(timeout=SOON) == beat


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def frame(payload: bytes) -> bytes:
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.builds(lambda run: {"job_id": "j", "run_id": run, "epoch": 1, "events": []}, st.text(max_size=3))
REFUSALS = st.fixed_dictionaries({}, optional={"code": VALUES, "message": VALUES, "details": VALUES})
TOLD = st.tuples(st.sampled_from(["peer", "parent", "nobody"]), st.sampled_from(["tell", "ask"]), RECORDS)
ANSWERED = st.tuples(st.sampled_from(["peer", "parent"]), st.sampled_from(["reply", "refusal"]), REFUSALS | VALUES)
READABLE = st.builds(
    lambda said, number: frame(
        orjson.dumps({"to": said[0], "kind": said[1], "id": number, "type": "Record", "body": said[2]})
    ),
    TOLD | ANSWERED,
    st.integers(0, 3),
)
DOCUMENTS = st.fixed_dictionaries(
    {
        "to": st.sampled_from(["peer", "parent", "nobody", "jobs/1", ""]) | VALUES,
        "kind": st.sampled_from(["tell", "ask", "reply", "refusal"]) | VALUES,
        "id": st.integers(0, 3) | VALUES,
        "type": st.sampled_from(["Record", "Heartbeat", "Start", "Exiting", "Nothing", ""]) | VALUES,
        "body": RECORDS | REFUSALS | VALUES,
    }
)
UNREADABLE = st.one_of(
    (DOCUMENTS | VALUES).map(orjson.dumps).map(frame),
    st.binary(max_size=30).map(frame),
    st.binary(max_size=30),
    st.tuples(READABLE, st.integers(1, 30)).map(lambda cut: cut[0][: -cut[1]]),
    st.integers(MAX_FRAME_BYTES + 1, 2**32 - 1).map(lambda size: size.to_bytes(HEADER_BYTES, "big")),
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(READABLE, max_size=6), UNREADABLE, st.lists(READABLE, max_size=2), st.integers(1, 80))
def test_no_bytes_disturb_a_healthy_link(
    world: World, before: list[bytes], noise: bytes, after: list[bytes], size: int
) -> None:
    """Answers to nobody, the same id twice, wrong types, half frames and noise, in chunks of any size. Whoever waits
    for an answer of that process gets one, or hears that it is gone."""
    hostile = Client(world.hub)
    asked = [hostile.port.request(Record("j", "r", 1, ())) for _ in range(3)]
    stream = b"".join((*before, noise, *after))
    for start in range(0, len(stream), size):
        if not hostile.send(stream[start : start + size]):
            break
    world.check_the_healthy()
    hostile.close()
    assert wait(asked, SOON).not_done == set()
    for future in asked:
        assert future.exception() is None or isinstance(future.exception(), PopError)
    world.check_the_healthy()


def test_a_frame_at_the_limit_passes_and_one_above_it_cuts_the_link(world: World) -> None:
    """The header alone is enough: nothing is read into memory for it."""
    client = Client(world.hub)
    envelope = Envelope("peer", "ask", 1, Record("j", "", 1, ()))
    room = MAX_FRAME_BYTES - len(VOCABULARY.encode(envelope)) + HEADER_BYTES
    largest = VOCABULARY.encode(envelope._replace(body=Record("j", "x" * room, 1, ())))
    assert len(largest) == MAX_FRAME_BYTES + HEADER_BYTES
    assert client.send(largest)
    assert client.next().kind == "reply"
    client.send((MAX_FRAME_BYTES + 1).to_bytes(HEADER_BYTES, "big"))
    assert client.socket.recv(1) == b""
    client.close()
    world.check_the_healthy()


def test_an_answer_that_cannot_be_sent_is_a_refusal(world: World) -> None:
    """Nobody is left without one."""

    class Odd(Actor):
        def receive(self, message: Any) -> object:
            return {1, 2, 3}

    odd = Odd.start_and_wait("odd", world.registry)
    world.healthy.send(VOCABULARY.encode(Envelope("odd", "ask", 7, Record("j", "r", 1, ()))))
    answer = world.healthy.next()
    assert (answer.kind, answer.id) == ("refusal", 7)
    assert "not JSON" in answer.body["message"]
    assert odd.stop_and_wait(SOON)


def test_a_parent_is_told_and_not_asked(world: World) -> None:
    """The asker hears so."""
    world.healthy.send(VOCABULARY.encode(Envelope("parent", "ask", 9, Record("j", "r", 1, ()))))
    answer = world.healthy.next()
    assert (answer.kind, answer.id, answer.body["code"]) == ("refusal", 9, "unavailable")


def test_a_copy_that_goes_on_sending_for_a_dead_process_does_not_keep_the_hub() -> None:
    """What is left in its socket is read once, and no more than can have been there; its death is told."""
    world = World()
    ours, theirs = socket.socketpair()
    dead, heard = threading.Event(), threading.Event()
    beat = VOCABULARY.encode(Envelope("parent", "tell", 0, Heartbeat("a", 1, 1)))
    process = subprocess.Popen(["sleep", "600"])
    copy = subprocess.Popen([sys.executable, "-c", SENDING_ON, repr(beat)], stdout=theirs, stderr=subprocess.DEVNULL)
    theirs.close()
    try:
        world.hub.attach(ours, process.pid, lambda _: heard.set(), dead.set)
        assert heard.wait(SOON)
        process.kill()
        assert dead.wait(SOON)
        assert copy.wait(SOON)
    finally:
        for one in (process, copy):
            one.kill()
            one.wait(SOON)
        world.close()
