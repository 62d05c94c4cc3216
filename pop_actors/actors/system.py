"""Actors for a program of its own: names, timers, reports and processes in one context.

Starts supervisors and stops them, last first. What is needed for processes starts with the first of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from pop_actors.actors.actor import Actor
from pop_actors.actors.child import START_SECONDS, ChildSpec, KindedStarter, Launch, RunningChild, Starter
from pop_actors.actors.hub import Hub
from pop_actors.actors.policy import Policy
from pop_actors.actors.process_actor import ProcessActor
from pop_actors.actors.process_child import process
from pop_actors.actors.process_host import ProcessHost
from pop_actors.actors.registry import LocalRef, Registry
from pop_actors.actors.reports import ReportListener, unreported
from pop_actors.actors.supervisor import Supervisor
from pop_actors.actors.timers import Timers
from pop_actors.actors.worker import VOCABULARY

STOP_SECONDS = 30.0
KILL_SECONDS = 5.0
TIDY_AT = 64
PRELOADED = ("pop_actors.actors.worker",)

S = TypeVar("S", bound=Supervisor)
A = TypeVar("A", bound=Actor)

_log = logging.getLogger(__name__)


class ActorSystem:
    """`with ActorSystem() as system:` and then `supervise`, `ref`, `process`. Leaving it stops everything.

    Every method may be called from any thread but those of actors; all of them wait, with a deadline in seconds.
    """

    def __init__(self, *, report: ReportListener = unreported, preload: Sequence[str] = (), warm: int = 1) -> None:
        """`report` hears of every child of every supervisor, in that supervisor's thread. For processes: `preload` are
        modules loaded once for all of them, `warm` is how many idle ones are kept, so that a start is a hand-over."""
        if not callable(report):
            raise TypeError(f"report is a function that takes a Report, not {report!r}")
        self.registry = Registry()
        self.timers = Timers()
        self._report = report
        self._preload = tuple(dict.fromkeys([*PRELOADED, *preload]))
        self._warm = warm
        self._lock = threading.Lock()
        self._tops: list[Actor] = []
        self._tidy_at = TIDY_AT
        self._host: ProcessHost | None = None
        self._hub: Hub | None = None
        self._is_stopped = False
        self._has_stopped_all = False
        self._stop_is_over = threading.Event()

    def supervise(
        self,
        address: str,
        specs: Sequence[ChildSpec] = (),
        *,
        kind: type[S] = Supervisor,  # type: ignore[assignment]  # a default for a bound type variable
        policy: Policy | None = None,
        timeout: float = START_SECONDS,
        **arguments: Any,
    ) -> S:
        """Start a supervisor at the top, and return once all of `specs` have started.

        StartRefused where one of them does not start, or not in time: what had started is stopped again. `arguments` go
        to the constructor of `kind`. When it ends by itself (a child failed too often, a significant child ended) it
        stays down: `wait_ended(seconds)`, `exit_reason`.
        """
        self._check_can_start(address)
        if not (isinstance(kind, type) and issubclass(kind, Supervisor)):
            raise TypeError(f"kind is a class of Supervisor, not {kind!r}")
        given = {"timers": self.timers, "report": self._report, "policy": policy}
        made = kind.start_and_wait(address, self.registry, timeout=timeout, specs=specs, **{**given, **arguments})
        return self._keep(made)

    def spawn(self, actor: type[A], address: str, /, *, timeout: float = START_SECONDS, **arguments: Any) -> A:
        """Start one actor that nobody supervises; StartRefused where it does not start. `arguments` go to its
        constructor."""
        self._check_can_start(address)
        return self._keep(actor.start_and_wait(address, self.registry, timeout=timeout, **arguments))

    def ref(self, address: str) -> LocalRef:
        """A ref to whoever is at an address at each send: `tell(message)`, `ask(message, timeout)`."""
        return self.registry.ref(address)

    def process(self, actor: type[ProcessActor] | str, /, **arguments: Any) -> Starter:
        """A starter for a `ChildSpec`: an actor of this class (or `"module:Class"`) in a process of
        its own. `arguments`, plain JSON, go to its constructor after the context. ValueError for a class the process
        could not import."""
        entry = actor if isinstance(actor, str) else _entry_of(actor)

        def start(launch: Launch) -> RunningChild:
            return process(self._process_host(), entry, lambda _epoch: arguments)(launch)

        return KindedStarter("process", start)

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """Stop the supervisors and actors, last first, within `timeout` seconds all together, by force after that; then
        the processes. False where a thread is still there. A second call waits for the first, and says the same."""
        with self._lock:
            is_second, self._is_stopped = self._is_stopped, True
            tops, host, hub = tuple(reversed(self._tops)), self._host, self._hub
        if is_second:
            self._stop_is_over.wait(timeout)
            return self._has_stopped_all
        deadline = time.monotonic() + timeout
        are_gone = [self._stop_one(top, max(0.0, deadline - time.monotonic())) for top in tops]
        if host is not None:
            host.stop()
        if hub is not None:
            hub.stop()
        self.timers.stop()
        self._has_stopped_all = all(are_gone)
        self._stop_is_over.set()
        return self._has_stopped_all

    def _stop_one(self, top: Actor, seconds: float) -> bool:
        if top.stop_and_wait(seconds):
            return True
        top.kill()
        if top.wait_ended(KILL_SECONDS):
            return True
        _log.error("%r did not stop within %g s and is left behind", top, seconds)
        return False

    def _keep(self, made: A) -> A:
        with self._lock:
            is_too_late = self._is_stopped
            if len(self._tops) >= self._tidy_at:  # now and then, so that many of them cost no more each than a few
                self._tops = [top for top in self._tops if not top.wait_ended(0)]
                self._tidy_at = 2 * len(self._tops) + TIDY_AT
            self._tops.append(made)
        if is_too_late:  # stopped while it started
            made.stop_and_wait(STOP_SECONDS)
            self._check_is_running()
        return made

    def _check_can_start(self, address: str) -> None:
        self._check_is_running()
        if not isinstance(address, str) or not address:
            raise TypeError(f"an address is a string that is not empty, not {address!r}")
        if self.registry.is_registered(address):
            raise ValueError(f"the address {address} is taken")

    def _check_is_running(self) -> None:
        if self._is_stopped:
            raise RuntimeError("the actor system is stopped; it starts nothing any more")

    def _process_host(self) -> ProcessHost:
        with self._lock:
            self._check_is_running()
            if self._host is None:
                self._hub = Hub(VOCABULARY, self.registry)
                self._hub.start()
                self._host = ProcessHost(self._hub, self._preload, self._warm)
                self._host.start()
            return self._host

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"ActorSystem({', '.join(sorted(self.registry.addresses()))}{', stopped' if self._is_stopped else ''})"


def _entry_of(actor: type[ProcessActor]) -> str:
    if not (isinstance(actor, type) and issubclass(actor, ProcessActor)):
        raise TypeError(f"process() takes a class of ProcessActor or its name (module:Class), not {actor!r}")
    if actor.__module__ == "__main__" or "<" in actor.__qualname__:
        raise ValueError(
            f"{actor.__qualname__} of {actor.__module__} cannot be imported by another process; "
            "put it at the top level of a module of its own"
        )
    return f"{actor.__module__}:{actor.__qualname__}"
