"""What a message costs, beside its floor in the same run: between two threads of the daemon, and across a process.

The floors: a bare pykka actor, and a bare process that answers the same bytes over a socket. A bare round trip takes
four times as long where its two ends run on two CPUs, as the daemon and a busy job do, than where the kernel puts them
on one; left alone it is now the one and now the other. So the floor is measured pinned, and both are told. Rounds of
the real thing and of its floor take turns, so that a busy machine slows both; each figure is the median of the rounds.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pykka

from pop_actors.actors import Actor, ChildSpec, Exited, Launch, Registry
from pop_actors.actors.hub import Hub
from pop_actors.actors.link import Question
from pop_actors.actors.process_actor import ProcessActor
from pop_actors.actors.process_child import process
from pop_actors.actors.process_host import ProcessHost
from pop_actors.actors.wire import Envelope
from pop_actors.actors.worker import VOCABULARY
from pop_actors.core.messages import Record, Stop

ENTRY = "tests.bench.messages:Mirror"
SECONDS = 30.0
EVENT = {
    "type": "StageFinished",
    "at": "2026-01-02T03:04:05.678Z",
    "epoch": 1,
    "seq": 17,
    "task": "research",
    "stage": "inference",
    "round": 0,
    "ms": 12.5,
}
MESSAGE = Record("market-analysis-1", "pl-2026-01-02T03-04-05-678Z-a1b2c3", 1, (EVENT,))
ANSWER = {"ok": True}

Batch = Callable[[int], float]
"""Sends so many messages; the seconds it took."""


class Mirror(ProcessActor):
    """Answers what it is asked, tells `peer` what it is told, and asks `peer` as often as it is told to by epoch 0."""

    def on_receive(self, message: object) -> None:
        if isinstance(message, Question):
            asked = message.message
            assert isinstance(asked, Record)
            message.answer(self._time_asks(int(asked.run_id)) if asked.job_id == "ask" else ANSWER)
        elif isinstance(message, Stop):
            self.stop()
        elif isinstance(message, Record) and message.job_id == "flood":
            peer = self.context.ref("peer")
            for _ in range(int(message.run_id)):
                peer.tell(MESSAGE)
        else:
            self.context.ref("peer").tell(message)

    def _time_asks(self, count: int) -> float:
        peer = self.context.ref("peer")
        began = time.perf_counter()
        for _ in range(count):
            peer.ask(MESSAGE, SECONDS)
        return time.perf_counter() - began


class _Counting:
    """Sets `done` at the last of so many messages."""

    def __init__(self) -> None:
        self.left = 0
        self.done = threading.Event()

    def expect(self, count: int) -> None:
        self.done.clear()
        self.left = count

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.done.set()


class Peer(Actor):
    """Answers ANSWER, counts what it is told."""

    def __init__(self, counting: _Counting) -> None:
        super().__init__()
        self._counting = counting

    def receive(self, message: Any) -> object:
        if self.is_asked:
            return ANSWER
        self._counting.count()
        return None


class BarePeer(pykka.ThreadingActor):
    """The same, as pykka has it."""

    use_daemon_thread = True

    def __init__(self, counting: _Counting) -> None:
        super().__init__()
        self._counting = counting

    def on_receive(self, message: Any) -> object:
        if message is None:
            self._counting.count()
        return ANSWER


class Echo:
    """The floor across a process: it sends back `reply` for each `request`, as bytes, one thread on each side."""

    def __init__(self, request: bytes, reply: bytes, cpus: tuple[int, int]) -> None:
        """Forks, so it is made before there are threads. `cpus`: where this end runs while it measures, and that."""
        self._request, self._reply, self._cpu = request, reply, cpus[0]
        self._socket, theirs = socket.socketpair()
        self._pid = os.fork()
        if self._pid == 0:
            os.sched_setaffinity(0, {cpus[1]})
            self._socket.close()
            while _receive(theirs, len(request)):
                theirs.sendall(reply)
            os._exit(0)
        theirs.close()

    def round_trips(self, count: int) -> float:
        everywhere = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {self._cpu})
        try:
            began = time.perf_counter()
            for _ in range(count):
                self._socket.sendall(self._request)
                _receive(self._socket, len(self._reply))
            return time.perf_counter() - began
        finally:
            os.sched_setaffinity(0, everywhere)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # another echo's process may have inherited this end
        self._socket.close()
        os.waitpid(self._pid, 0)


def _receive(connection: socket.socket, size: int) -> int:
    """Read so many bytes; 0 at the end of the stream."""
    while size:
        chunk = connection.recv(size)
        if not chunk:
            return 0
        size -= len(chunk)
    return 1


class World:
    """A daemon's message path without the daemon: registry, hub, one process, one peer."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.hub = Hub(VOCABULARY, self.registry)
        self.host = ProcessHost(self.hub, ("pop_actors.actors.worker",), warm=1)
        self.counting = _Counting()

    def __enter__(self) -> World:
        self.hub.start()
        self.host.start()
        self.peer = Peer.start_and_wait("peer", self.registry, counting=self.counting)
        self._ended = threading.Event()
        spec = ChildSpec("mirror", process(self.host, ENTRY, lambda _: {}), kind="process")
        self._mirror = spec.start(Launch("mirror", 1, self._hear, self.registry))
        self.registry.ref("mirror").ask(MESSAGE, SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._mirror.request_stop()
        self._ended.wait(SECONDS)
        self.peer.stop_and_wait(SECONDS)
        self.host.stop()
        self.hub.stop()

    def _hear(self, notice: object) -> None:
        if isinstance(notice, Exited):
            self._ended.set()

    def asks(self, address: str, count: int) -> float:
        """From this thread, one after the other."""
        ref = self.registry.ref(address)
        began = time.perf_counter()
        for _ in range(count):
            ref.ask(MESSAGE, SECONDS)
        return time.perf_counter() - began

    def tells(self, count: int) -> float:
        """From this thread to the peer's, until the last has been taken."""
        ref = self.registry.ref("peer")
        self.counting.expect(count)
        began = time.perf_counter()
        for _ in range(count):
            ref.tell(MESSAGE)
        self.counting.done.wait(SECONDS)
        return time.perf_counter() - began

    def asks_up(self, count: int) -> float:
        """From the process to the daemon, timed there."""
        seconds: float = self.registry.ref("mirror").ask(Record("ask", str(count), 0, ()), SECONDS)
        return seconds

    def tells_there_and_back(self, count: int) -> float:
        """A tell to the process, which tells the peer: two messages, one after the other."""
        ref = self.registry.ref("mirror")
        began = time.perf_counter()
        for _ in range(count):
            self.counting.expect(1)
            ref.tell(MESSAGE)
            self.counting.done.wait(SECONDS)
        return time.perf_counter() - began

    def flood(self, count: int) -> float:
        """As many tells as the process can send, until the peer has taken the last."""
        self.counting.expect(count)
        began = time.perf_counter()
        self.registry.ref("mirror").tell(Record("flood", str(count), 0, ()))
        self.counting.done.wait(SECONDS)
        return time.perf_counter() - began


def _bare_asks(ref: pykka.ActorRef[BarePeer], count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        ref.ask(MESSAGE, timeout=SECONDS)
    return time.perf_counter() - began


def _bare_tells(ref: pykka.ActorRef[BarePeer], counting: _Counting, count: int) -> float:
    counting.expect(count)
    began = time.perf_counter()
    for _ in range(count):
        ref.tell(None)
    counting.done.wait(SECONDS)
    return time.perf_counter() - began


def measure(rounds: int = 9, batch: int = 1000) -> dict[str, float]:
    """Microseconds a message: each figure, its floor as `NAME_floor`, and their `NAME_ratio`.

    Call it while the process has one thread. Across a process the floor is the bare round trip with its ends on two
    CPUs; `socket_one_cpu` is the same on one. `process_ask` goes down to a process, `process_ask_up` from one to the
    daemon; `process_tell` is a tell's time on the way, `process_flood` its share of a stream of them.
    """
    request = VOCABULARY.encode(Envelope("parent", "ask", 1, MESSAGE))
    reply = VOCABULARY.encode(Envelope("parent", "reply", 1, ANSWER))
    cpus = sorted(os.sched_getaffinity(0))
    apart, together = Echo(request, reply, (cpus[0], cpus[-1])), Echo(request, reply, (cpus[0], cpus[0]))
    try:
        found = _measure(apart, together, rounds, batch)
    finally:
        apart.close()
        together.close()
    for name in ("process_ask", "process_ask_up", "process_tell", "process_flood"):
        found[f"{name}_floor"] = found["socket_two_cpus"]
    for name in [name for name in found if f"{name}_floor" in found]:
        found[f"{name}_ratio"] = found[name] / found[f"{name}_floor"]
    return found


def _measure(apart: Echo, together: Echo, rounds: int, batch: int) -> dict[str, float]:
    counting = _Counting()
    with World() as world:
        bare = BarePeer.start(counting)
        batches: dict[str, Batch] = {
            "thread_ask": lambda n: world.asks("peer", n),
            "thread_ask_floor": lambda n: _bare_asks(bare, n),
            "thread_tell": lambda n: world.tells(n * 10) / 10,
            "thread_tell_floor": lambda n: _bare_tells(bare, counting, n * 10) / 10,
            "socket_two_cpus": apart.round_trips,
            "socket_one_cpu": together.round_trips,
            "process_ask": lambda n: world.asks("mirror", n),
            "process_ask_up": world.asks_up,
            "process_tell": lambda n: world.tells_there_and_back(n) / 2,
            "process_flood": world.flood,
        }
        seconds: dict[str, list[float]] = {name: [] for name in batches}
        for run in batches.values():
            run(batch // 10)
        for _ in range(rounds):
            for name, run in batches.items():
                seconds[name].append(run(batch))
        bare.stop()
    return {name: statistics.median(times) / batch * 1e6 for name, times in seconds.items()}


if __name__ == "__main__":
    for figure, value in sorted(measure().items()):
        print(f"{figure:24} {value:10.2f}")
