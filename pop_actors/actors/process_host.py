"""Where processes come from: the forkserver with the runner preloaded, and a pool of idle workers kept warm.

Starting an actor is a hand-over to an idle worker; a thread refills the pool. Nobody else starts processes.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.util import get_temp_dir
from typing import Protocol

from pop_actors.actors import cgroup
from pop_actors.actors.cgroup import Cgroups
from pop_actors.actors.child import ExitReason
from pop_actors.actors.forkserver import Forked, Forkserver
from pop_actors.actors.hub import Hub, Port
from pop_actors.actors.lifeline import Lifeline
from pop_actors.actors.worker import NORMAL, WorkerLife
from pop_actors.core.messages import Exiting, Ready, Start
from pop_actors.errors import FrameRefused, Unavailable

REAP_SECONDS = 2.0
STOP_SECONDS = 5.0
SLOWEST_RETRY_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Client(Protocol):
    """Who a worker is handed over to. Called in the host's, the hub's or the asker's thread; returns at once."""

    def took(self, worker: Worker) -> None:
        """This worker is the actor now; it is told what to be right after. What it is told before that is lost."""

    def told(self) -> None:
        """It was told; messages that follow reach the actor. Its death may have been heard already."""

    def heard(self, message: object) -> None:
        """The process told its parent something."""

    def ended(self, reason: ExitReason) -> None:
        """The process, and what was left in its group, is gone, or it never became the actor. The first call counts."""


@dataclass(eq=False, slots=True)
class Worker:
    """One process of the pool, idle or handed over to a client."""

    process: Forked
    cgroup: str | None = None
    port: Port | None = None
    client: Client | None = None
    said_goodbye: str | None = None
    is_dead: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> bool:
        """SIGKILL to its whole group, and cgroup. False where it is dead already."""
        if self.is_dead:
            return False
        _signal(os.kill, self.pid)
        _signal(os.killpg, self.pid)
        cgroup.kill(self.cgroup)
        return True


def _signal(send: Callable[[int, int], None], pid: int) -> None:
    try:
        send(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


class ProcessHost:
    """The forkserver, the pool and the thread that fills it. Thread-safe."""

    def __init__(self, hub: Hub, preload: Sequence[str], warm: int, workspace: str | None = None) -> None:
        """`warm` is how many idle workers to keep; `workspace` marks every process (`process_table.WORKSPACE`)."""
        self._hub = hub
        self._warm = warm
        self._forkserver = Forkserver(preload, workspace)
        self._workspace = workspace
        self._cgroups: Cgroups | None = None
        self._lifeline = Lifeline()
        self._change = threading.Condition()
        self._idle: deque[Worker] = deque()
        self._wanted: deque[tuple[Start, Client]] = deque()
        self._dead: deque[Worker] = deque()
        self._all: set[Worker] = set()
        self._running = False
        self._failures = 0
        self._retry_at = 0.0
        self._thread = threading.Thread(target=self._work_for_ever, name="process-host", daemon=True)

    def start(self) -> None:
        """Start the forkserver and begin to fill the pool."""
        self._forkserver.prepare()
        self._cgroups = None if self._workspace is None else cgroup.prepare(self._workspace)
        _log.info(
            "processes are contained by group, adoption of orphans, and %s",
            f"cgroups in {self._cgroups.folder}" if self._cgroups else "no cgroup (no cgroup v2 is delegated)",
        )
        self._running = True
        self._thread.start()

    def stop(self) -> None:
        """Kill every process that is left and end. Complete when it returns; a second call does nothing."""
        with self._change:
            if not self._running:
                return
            self._running = False
            self._change.notify_all()
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            self._forkserver.end()  # no other wait there has no end
            self._thread.join(STOP_SECONDS)
        self._lifeline.close()
        if self._cgroups is not None:
            self._cgroups.close()

    def hand_over(self, start: Start, client: Client) -> None:
        """Make a worker the actor that `start` describes: at once where one is idle, else as soon as there is one."""
        with self._change:
            worker_ = self._idle.popleft() if self._idle else None
            if worker_ is None:
                self._wanted.append((start, client))
            else:
                worker_.client = client
            self._change.notify_all()
        if worker_ is not None:
            self._tell(worker_, start, client)

    def _tell(self, worker_: Worker, start: Start, client: Client) -> None:
        assert worker_.port is not None
        client.took(worker_)
        try:
            worker_.port.tell(start)
        except Unavailable:  # it died in the pool this instant; the client hears of it as of any death
            _log.debug("worker %d died before it was told what to be", worker_.pid)
        except FrameRefused as error:
            worker_.kill()
            client.ended(ExitReason("exception", f"it cannot be told what to be: {error}"))
        else:
            client.told()

    def snapshot(self) -> dict[str, int]:
        """How many processes there are, and how many of them wait for work."""
        with self._change:
            return {"processes": len(self._all), "idle": len(self._idle), "wanted": len(self._wanted)}

    def _work_for_ever(self) -> None:
        while self._running:
            try:
                self._work()
            except Exception:  # noqa: BLE001  (without this thread no death is told, and nothing is started)
                _log.exception("the process host met an unexpected error")
                self._postpone()
        for left in tuple(self._all):
            left.kill()
        self._bury(tuple(self._all))

    def _work(self) -> None:
        with self._change:
            self._change.wait_for(self._has_work, self._pause())
            dead = tuple(self._dead)
            self._dead.clear()
        if dead:
            self._bury(dead)
        if self._running and self._lacks_a_worker() and time.monotonic() >= self._retry_at:
            self._add_one()

    def _has_work(self) -> bool:
        lacking = self._lacks_a_worker() and time.monotonic() >= self._retry_at
        return not self._running or bool(self._dead) or lacking

    def _pause(self) -> float | None:
        return max(0.01, self._retry_at - time.monotonic()) if self._lacks_a_worker() else None

    def _lacks_a_worker(self) -> bool:
        return len(self._idle) < self._warm + len(self._wanted)

    def _add_one(self) -> None:
        try:
            worker_ = self._spawn()
        except OSError as error:
            self._postpone()
            _log.error("no process can be started (%s); trying again", error)
            return
        with self._change:
            if worker_.is_dead:  # it never came to the pool; nobody was promised it
                return
            wanted = self._wanted.popleft() if self._wanted else None
            if wanted is None:
                self._idle.append(worker_)
            else:
                worker_.client = wanted[1]
        if wanted is not None:
            self._tell(worker_, *wanted)

    def _postpone(self) -> None:
        """Start nothing for a while, the longer the more often in a row that was."""
        self._failures += 1
        self._retry_at = time.monotonic() + min(SLOWEST_RETRY_SECONDS, 0.05 * 2 ** min(self._failures, 10))

    def _spawn(self) -> Worker:
        ours, theirs = socket.socketpair()
        own_cgroup = None if self._cgroups is None else self._cgroups.make()
        try:
            life = WorkerLife(own_cgroup, get_temp_dir())
            process = self._forkserver.fork(life, (theirs.fileno(), self._lifeline.reader.fileno()))
        except BaseException:
            ours.close()
            cgroup.end(own_cgroup)
            raise
        finally:
            theirs.close()
        worker_ = Worker(process, own_cgroup)
        with self._change:
            self._all.add(worker_)
        try:
            worker_.port = self._hub.attach(
                ours, process.pid, lambda message: self._heard(worker_, message), lambda: self._died(worker_)
            )
        except OSError:  # it is gone already, or there is no descriptor left; without its socket it ends itself
            ours.close()
            self._bury([worker_])
            raise
        return worker_

    def _heard(self, worker_: Worker, message: object) -> None:
        if isinstance(message, Exiting):
            worker_.said_goodbye = message.reason
        elif isinstance(message, Ready):
            self._failures = 0  # what is started lives
        if worker_.client is not None:
            worker_.client.heard(message)

    def _died(self, worker_: Worker) -> None:
        """In the hub's thread: the process is gone; whatever it left in its group goes, too."""
        _signal(os.killpg, worker_.pid)
        with self._change:
            worker_.is_dead = True
            if worker_ in self._idle:
                self._idle.remove(worker_)
            self._dead.append(worker_)
            self._change.notify_all()
        if worker_.said_goodbye == NORMAL and worker_.client is not None:
            worker_.client.ended(ExitReason("normal"))  # it has no successor that could meet what it left behind

    def _bury(self, dead: Sequence[Worker]) -> None:
        """Collect the exit codes, end what they left behind, and only then tell of those that may have successors."""
        deadline = time.monotonic() + REAP_SECONDS
        codes = [self._forkserver.collect(gone.process, max(0.0, deadline - time.monotonic())) for gone in dead]
        for gone in dead:
            cgroup.end(gone.cgroup)
        self._forkserver.end_orphans()
        with self._change:
            self._all.difference_update(dead)
        for gone, code in zip(dead, codes, strict=True):
            if gone.client is None and self._running:
                _log.warning("an idle worker (pid %d) ended: %s", gone.pid, exit_reason(code))
                self._postpone()  # or workers that cannot live would be started as fast as they die
            elif gone.client is not None and gone.said_goodbye != NORMAL:
                said = gone.said_goodbye
                gone.client.ended(exit_reason(code) if said is None else ExitReason("exception", said))


def exit_reason(code: int | None) -> ExitReason:
    """What an exit without a good-bye means: by signal, by `os._exit`, or unknown (the forkserver died as well)."""
    if code is not None and code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return ExitReason("signal", name)
    return ExitReason("exit", "exit code unknown" if code is None else f"exit code {code} without a good-bye")
