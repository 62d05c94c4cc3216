"""The forkserver of this process: it forks every worker, adopts what dead workers leave behind, and these are ended.

multiprocessing has one forkserver in a process, so all hosts share it, and what is no worker among its children is an
orphan. Used by the process host; nobody else starts it.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from pop_actors.process_table import (
    WORKSPACE,
    become_subreaper,
    carries,
    children_of,
    descendants_of,
    end_all,
    is_alive,
    kill_if,
    parent_of,
    reap,
)

SETUP = ("pop_actors.actors.adoption", "pop_actors.actors.freeze")
ORPHAN_SECONDS = 5.0
FORK_SECONDS = 60.0
UNCLAIMED_SECONDS = 60.0
LOOK_SECONDS = 10.0  # a look asks the kernel once for each thread of the daemon
SERVER_DIED = 255  # what multiprocessing says of a process whose forkserver cannot tell its exit code any more

_log = logging.getLogger(__name__)
_births = threading.Lock()
_workers: set[int] = set()


class Forkserver:
    """What a host needs of it. Thread-safe."""

    def __init__(self, preload: Sequence[str], workspace: str | None) -> None:
        """`workspace` marks all it starts (`process_table.WORKSPACE`), so that a later start finds what was left."""
        self._preload = [*preload, *SETUP]
        self._workspace = workspace
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._first: int | None = None
        self._undying: set[int] = set()
        self._zombies: dict[int, float] = {}
        self._looked_at = -LOOK_SECONDS

    def prepare(self) -> None:
        """Before the first worker. Should the forkserver die, its children become this process's."""
        become_subreaper()
        self._context.set_forkserver_preload(self._preload)

    def fork(self, target: Callable[..., object], arguments: tuple[Any, ...]) -> ForkServerProcess:
        """A new worker. OSError where none can be started; a forkserver that does not fork within `FORK_SECONDS` is
        ended, and the next fork has another one."""
        with _births:
            self._ensure_running()
            process = self._context.Process(target=target, args=arguments, name="worker")
            watch = threading.Timer(FORK_SECONDS, self.end)
            watch.daemon = True
            watch.start()
            try:
                process.start()
            except EOFError:
                raise ChildProcessError("the forkserver has died in the middle of a fork") from None
            finally:
                watch.cancel()
                watch.join()
            assert process.pid is not None
            _workers.add(process.pid)
        return process

    def end(self) -> None:
        """Kill the forkserver: who waits for a fork hears of it. Workers live on, and the next fork has another one."""
        server = _server()
        if server is not None:
            _log.error("the forkserver (pid %d) hangs, and is killed", server)
            kill_if(server, lambda pid: parent_of(pid) == os.getpid())

    def collect(self, process: ForkServerProcess, seconds: float) -> int | None:
        """Wait for a worker that was killed or has ended, and forget it. Its exit code; None where nobody knows it."""
        process.join(seconds)
        code, pid = process.exitcode, process.pid
        assert pid is not None
        if code == SERVER_DIED and (own := reap(pid)) is not None:
            code = own
        if code is not None:
            process.close()
        with _births:
            _workers.discard(pid)
        return code

    def end_orphans(self) -> None:
        """Kill all that workers left behind when they died, and wait until it is dead. What cannot be looked at or does
        not die is logged; the former is tried again at the next death."""
        try:
            with _births:
                self._undying = set(filter(is_alive, self._undying))
                killed = self._end_orphans()
                if self._workspace is not None:
                    self._reap_unclaimed()
        except OSError as error:
            _log.error("what a job may have left behind cannot be found: %s", error)
            return
        if killed:
            _log.info("ended %d processes that a job had left behind", len(killed))

    def _end_orphans(self) -> set[int]:
        try:
            return end_all(self._orphans, ORPHAN_SECONDS)
        except TimeoutError as error:
            self._undying.update(self._orphans())
            _log.error("left behind by a job: %s", error)
            return set()

    def _reap_unclaimed(self) -> None:
        """This process adopts all that its own programs leave behind, too. Their zombies nobody waits for, unlike those
        of its own children, which are gone long before `UNCLAIMED_SECONDS`."""
        now = time.monotonic()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        kept = {_server(), *_workers, *(process.pid for process in multiprocessing.active_children())}
        zombies = [pid for pid in children_of(os.getpid()) if pid not in kept and not is_alive(pid)]
        self._zombies = {pid: self._zombies.get(pid, now) for pid in zombies}
        for pid, seen_at in self._zombies.items():
            if now - seen_at >= UNCLAIMED_SECONDS:
                reap(pid)

    def _orphans(self) -> list[int]:
        server = _server()
        found = [] if server is None else children_of(server)
        has_died = server != self._first or (server is not None and not is_alive(server))
        if has_died and self._workspace is not None:
            found += [
                pid for pid in children_of(os.getpid()) if pid != server and carries(pid, WORKSPACE, self._workspace)
            ]
        orphans = [pid for pid in found if pid not in _workers and pid not in self._undying]
        if orphans:  # whoever uses multiprocessing beside us has children there, too
            others = {process.pid for process in multiprocessing.active_children()}
            orphans = [pid for pid in orphans if pid not in others]
        return [pid for orphan in orphans for pid in (orphan, *descendants_of(orphan))]

    def _ensure_running(self) -> None:
        resource_tracker.ensure_running()  # it is this process's own and must not carry the mark
        with _marked(self._workspace):
            forkserver.ensure_running()
        self._first = self._first or _server()


def _server() -> int | None:
    """The forkserver. Nobody but multiprocessing reaps it, which forgets its pid then: the pid is nobody else's."""
    known: Any = forkserver._forkserver  # noqa: SLF001  (there is no public name)
    pid: int | None = known._forkserver_pid  # noqa: SLF001
    return pid


@contextlib.contextmanager
def _marked(workspace: str | None) -> Iterator[None]:
    """What is started in here carries the mark."""
    if workspace is None:
        yield
        return
    before = os.environ.get(WORKSPACE)
    os.environ[WORKSPACE] = workspace
    try:
        yield
    finally:
        if before is None:
            del os.environ[WORKSPACE]
        else:
            os.environ[WORKSPACE] = before
