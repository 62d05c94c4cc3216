"""A child that is a process: the starter a supervisor uses, and the process as the supervisor holds it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from pop_actors.actors.child import Beat, Exited, ExitReason, KindedStarter, Launch, Started, Starter
from pop_actors.actors.process_host import ProcessHost, Worker
from pop_actors.core.messages import Heartbeat, Ready, Start, Stop
from pop_actors.errors import Unavailable

_log = logging.getLogger(__name__)


def process(
    host: ProcessHost,
    entry: str,
    arguments: Callable[[int], Mapping[str, Any]],
    after: Callable[[], Future[Any] | None] = lambda: None,
    limits: Mapping[str, int] | None = None,
) -> Starter:
    """Start `entry` (`module:Class` of a ProcessActor) in a process of its own.

    `arguments(epoch)` gives its keyword arguments, plain JSON, anew at each start. Where `after()` gives a future, the
    process is told what to be once that is done, however it ends. `limits` are its resource limits by their names in
    the `resource` module.
    """

    def start(launch: Launch) -> ProcessChild:
        child = ProcessChild(launch)
        message = Start(launch.address, launch.epoch, entry, dict(arguments(launch.epoch)), dict(limits or {}))
        first = after()
        if first is None:
            host.hand_over(message, child)
        else:
            first.add_done_callback(lambda _: host.hand_over(message, child))
        return child

    return KindedStarter("process", start)


class ProcessChild:
    """One incarnation of a process actor. It answers at its address while it lives. Thread-safe."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self._lock = threading.Lock()
        self._worker: Worker | None = None
        self._stop_asked: Stop | None = None
        self._kill_reason: ExitReason | None = None
        self._beats = 0
        self._is_over = False

    @property
    def pid(self) -> int | None:
        return None if self._worker is None else self._worker.pid

    # As its supervisor's child

    def request_stop(self, message: object | None = None) -> None:
        """Tell it to end: `Stop()` where `message` says nothing else. A process still to come is told on arrival."""
        stop = message if isinstance(message, Stop) else Stop()
        with self._lock:
            self._stop_asked = stop
        self._tell_quietly(stop)

    def kill(self, reason: ExitReason | None = None) -> bool:
        """SIGKILL to its whole group; `reason` is then what its supervisor hears instead of the signal. Where there is
        no process yet it is over at once, and one that still comes is sent away."""
        with self._lock:
            self._kill_reason = killed = self._kill_reason or reason or ExitReason("signal", "SIGKILL")
            worker = self._worker
        if worker is not None:
            return worker.kill()
        self.ended(killed)
        return True

    def snapshot(self) -> dict[str, Any]:
        return {"beats": self._beats, "mailbox": 0}

    # As whoever the pool hands a worker to

    def took(self, worker: Worker) -> None:
        with self._lock:
            doomed = self._is_over or self._kill_reason is not None  # it died on the way, or comes too late
            self._worker = worker
        if doomed:
            worker.kill()

    def told(self) -> None:
        """It knows what it is, so that it can be found; a stop that was asked for before is passed on."""
        with self._lock:
            if self._is_over:
                return
            self._launch.registry.register(self._launch.address, self)
            stop = self._stop_asked
        if stop is not None:
            self._tell_quietly(stop)

    def heard(self, message: object) -> None:
        if isinstance(message, Heartbeat):
            self._beats = message.count
            self._launch.notify(Beat())
        elif isinstance(message, Ready):
            self._launch.notify(Started())

    def ended(self, reason: ExitReason) -> None:
        with self._lock:
            if self._is_over:
                return
            self._is_over = True
            if self._kill_reason is not None and reason.is_abnormal:
                reason = self._kill_reason
            elif self._stop_asked is not None and reason.kind == "normal":
                reason = ExitReason("shutdown")
        self._launch.registry.unregister(self._launch.address, self)
        self._launch.notify(Exited(reason))

    # As an endpoint

    def tell(self, message: object) -> None:
        port = self._worker.port if self._worker is not None else None
        if port is None:
            raise Unavailable(f"{self._launch.address} has no process yet")
        port.tell(message)

    def request(self, message: object) -> Future[Any]:
        port = self._worker.port if self._worker is not None else None
        if port is None:
            future: Future[Any] = Future()
            future.set_exception(Unavailable(f"{self._launch.address} has no process yet"))
            return future
        return port.request(message)

    def _tell_quietly(self, message: Stop) -> None:
        try:
            self.tell(message)
        except Unavailable:
            _log.debug("%s could not be told to stop; it is gone or still to come", self._launch.address)

    def __repr__(self) -> str:
        return f"ProcessChild({self._launch.address}, epoch {self._launch.epoch}, pid {self.pid})"
