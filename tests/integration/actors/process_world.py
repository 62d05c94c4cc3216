"""What the tests of process actors share: a supervisor of real processes, and a diary of what became of them."""

from __future__ import annotations

import os
import queue
import select
import threading
from concurrent.futures import Future
from typing import Any

from pop_actors.actors import Actor, ChildSpec, ExitReason, Policy, Registry, Supervisor, Timers
from pop_actors.actors.hub import Hub
from pop_actors.actors.process_child import process
from pop_actors.actors.process_host import ProcessHost
from pop_actors.actors.worker import VOCABULARY
from pop_actors.core.messages import Record
from support.daemon import wait_until
from support.echo_actor import do

SOON = 10.0
ENTRY = "support.echo_actor:Echo"


class Peer(Actor):
    """A system actor: keeps what it is told, answers what it is asked; waits first where it is told an event."""

    mailbox_limit = 200

    def __init__(self) -> None:
        super().__init__()
        self.told: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self.late = threading.Event()

    def receive(self, message: Any) -> object:
        if isinstance(message, threading.Event):
            return message.wait(SOON)
        if message.job_id == "asked":
            self.late.set()
            return f"peer heard {message.run_id}"
        if message.job_id == "late":
            return self._answer_late()
        self.told.put(message)
        return None

    def _answer_late(self) -> object:
        """Answer once something else has been asked."""
        answer: Future[str] = Future()
        threading.Thread(target=lambda: answer.set_result(str(self.late.wait(SOON)))).start()
        return answer


class Echoes(Supervisor):
    """A dynamic supervisor that tells what its hooks are told."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.exits: queue.SimpleQueue[tuple[str, int, ExitReason, bool]] = queue.SimpleQueue()

    def on_child_exit(self, spec: ChildSpec, epoch: int, reason: ExitReason, will_restart: bool) -> None:
        self.exits.put((spec.id, epoch, reason, will_restart))


class World:
    """Hub, host, a peer and a supervisor. Use it as a context."""

    def __init__(self, warm: int = 1, workspace: str | None = None, **policy: Any) -> None:
        self.registry = Registry()
        self.timers = Timers()
        self.hub = Hub(VOCABULARY, self.registry)
        self.host = ProcessHost(self.hub, ("pop_actors.actors.worker", "support.echo_actor"), warm, workspace)
        self._policy = Policy(**{"dynamic": True, "intensity_scope": "child", "max_restarts": 3, **policy})

    def __enter__(self) -> World:
        self.hub.start()
        self.host.start()
        self.peer = Peer.start_and_wait("peer", self.registry)
        self.echoes = Echoes.start_and_wait("echoes", self.registry, timers=self.timers, policy=self._policy)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            assert self.echoes.stop_and_wait(SOON)
            assert self.peer.stop_and_wait(SOON)
        finally:
            self.host.stop()
            self.hub.stop()
            self.timers.stop()

    def start(
        self,
        name: str = "a",
        restart: Any = "transient",
        shutdown: float = 5.0,
        limits: dict[str, int] | None = None,
        **arguments: Any,
    ) -> int:
        """Start one; its epoch."""
        starter = process(self.host, ENTRY, lambda _: arguments, limits=limits)
        spec = ChildSpec(name, starter, restart=restart, kind="process", shutdown=shutdown)
        epoch: int = self.echoes.start_child(spec).result(SOON)
        return epoch

    def ask(self, verb: str, argument: str = "", name: str = "a", seconds: float = SOON) -> Any:
        return self.registry.ref(name).ask(do(verb, argument), seconds)

    def tell(self, verb: str, argument: str = "", number: int = 0, name: str = "a") -> None:
        self.registry.ref(name).tell(do(verb, argument, number))

    def pid(self, name: str = "a") -> int:
        pid: int = self.ask("who", name=name)["pid"]
        return pid

    def next_exit(self) -> tuple[str, int, ExitReason, bool]:
        return self.echoes.exits.get(timeout=SOON)

    def idle_pids(self) -> list[int]:
        return [worker.pid for worker in list(self.host._idle)]

    def wait_idle(self, count: int) -> list[int]:
        """Until the pool has so many; their pids."""
        wait_until(lambda: len(self.idle_pids()) == count, SOON, f"{count} idle workers")
        return self.idle_pids()


def ends(pid: int, seconds: float) -> bool:
    """Whether the process is gone, waiting for it at most so long."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
