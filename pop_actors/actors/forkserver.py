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
    reap,
)

SETUP = ("pop_actors.actors.adoption", "pop_actors.actors.freeze")
ORPHAN_SECONDS = 5.0
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
        self._server: int | None = None
        self._has_died = False
        self._undying: set[int] = set()

    def prepare(self) -> None:
        """Before the first worker. Should the forkserver die, its children become this process's."""
        become_subreaper()
        self._context.set_forkserver_preload(self._preload)

    def fork(self, target: Callable[..., object], arguments: tuple[Any, ...]) -> ForkServerProcess:
        """A new worker. OSError where none can be started."""
        with _births:
            self._ensure_running()
            process = self._context.Process(target=target, args=arguments, name="worker")
            process.start()
            assert process.pid is not None
            _workers.add(process.pid)
        return process

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
        """Kill all that workers left behind when they died, and wait until it is dead."""
        try:
            with _births:
                killed = end_all(self._orphans, ORPHAN_SECONDS)
        except TimeoutError as error:
            self._undying |= set(self._orphans())
            _log.error("left behind by a job: %s", error)
            return
        if killed:
            _log.info("ended %d processes that a job had left behind", len(killed))

    def _orphans(self) -> list[int]:
        found = [] if self._server is None else children_of(self._server)
        self._has_died |= self._server is not None and not is_alive(self._server)
        if self._has_died and self._workspace is not None:
            found += [
                pid
                for pid in children_of(os.getpid())
                if pid != self._server and carries(pid, WORKSPACE, self._workspace)
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
        known: Any = forkserver._forkserver  # noqa: SLF001  (there is no public name)
        server: int = known._forkserver_pid  # noqa: SLF001
        self._has_died |= self._server not in {None, server}
        self._server = server


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
