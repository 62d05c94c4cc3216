"""The forkserver of this process: it forks every worker, adopts what dead workers leave behind, and these are ended.

multiprocessing has one forkserver in a process, so all hosts share it, and what is no worker among its children is an
orphan. A worker is no `Process` of it, which takes a millisecond more to set up and imports the main module again.
Used by the process host; nobody else starts it.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import select
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from typing import Any, Protocol

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
NUMBER_BYTES = 8

_log = logging.getLogger(__name__)
_births = threading.Lock()
_workers: set[int] = set()


class Life(Protocol):
    """What a worker does, by multiprocessing's name for it. Pickled for the forkserver's child, which calls it."""

    def _bootstrap(self, parent_sentinel: int) -> object:
        """`parent_sentinel` is a descriptor that nobody needs."""


class Forked:
    """A process the forkserver has forked: its pid, and the pipe its exit code comes by."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self._status = status

    def exit_code(self, seconds: float) -> int | None:
        """Wait for it at most so long; None where nobody can tell it, and from the second call on."""
        status, self._status = self._status, -1
        if status < 0:
            return None
        try:
            return _read_number(status, seconds)
        except EOFError:
            return reap(self.pid)  # the forkserver has died; its children are this process's
        finally:
            os.close(status)


class Forkserver:
    """What a host needs of it. Thread-safe."""

    def __init__(self, preload: Sequence[str], workspace: str | None) -> None:
        """`workspace` marks all it starts (`process_table.WORKSPACE`), so that a later start finds what was left."""
        self._preload = [*preload, *SETUP]
        self._workspace = workspace
        self._first: int | None = None
        self._undying: set[int] = set()
        self._zombies: dict[int, float] = {}
        self._looked_at = -LOOK_SECONDS

    def prepare(self) -> None:
        """Before the first worker. Should the forkserver die, its children become this process's."""
        become_subreaper()
        forkserver.set_forkserver_preload(self._preload)

    def fork(self, life: Life, descriptors: Sequence[int]) -> Forked:
        """A new worker; it finds `descriptors` by `inherited`. OSError where none can be started; a forkserver that
        does not fork within `FORK_SECONDS` is ended, and the next fork has another one."""
        imports_and_arguments = {"sys_path": sys.path, "sys_argv": sys.argv}  # what `spawn.prepare` sets
        letter = pickle.dumps(imports_and_arguments) + pickle.dumps(life)
        with _births:
            status, writer = self._connect(descriptors)
            try:
                try:
                    os.write(writer, letter)
                finally:
                    os.close(writer)
                pid = self._pid_of_the_new(status)
            except BaseException:
                os.close(status)
                raise
            _workers.add(pid)
        return Forked(pid, status)

    def _pid_of_the_new(self, status: int) -> int:
        try:
            pid = _read_number(status, FORK_SECONDS)
            if pid is None:
                self.end()
                pid = _read_number(status, FORK_SECONDS)
        except EOFError:
            pid = None
        if pid is None:
            raise ChildProcessError("the forkserver has died in the middle of a fork")
        return pid

    def end(self) -> None:
        """Kill the forkserver: who waits for a fork hears of it. Workers live on, and the next fork has another one."""
        server = _server()
        if server is not None:
            _log.error("the forkserver (pid %d) hangs, and is killed", server)
            kill_if(server, lambda pid: parent_of(pid) == os.getpid())

    def collect(self, process: Forked, seconds: float) -> int | None:
        """Wait for a worker that was killed or has ended, and forget it. Its exit code; None where nobody knows it."""
        code = process.exit_code(seconds)
        with _births:
            _workers.discard(process.pid)
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

    def _connect(self, descriptors: Sequence[int]) -> tuple[int, int]:
        """Ask for a process: the pipe its pid and then its exit code come by, and the one it reads its letter from."""
        resource_tracker.ensure_running()  # it is this process's own and must not carry the mark
        with _marked(self._workspace):
            pipes: tuple[int, int] = forkserver.connect_to_new_process(list(descriptors))
        self._first = self._first or _server()
        return pipes


def inherited() -> list[int]:
    """In a worker: the descriptors it was forked with."""
    return forkserver.get_inherited_fds() or []


def _read_number(pipe: int, seconds: float) -> int | None:
    """What the forkserver says; None where it says nothing in time, EOFError where it never will."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    if not poll.poll(seconds * 1000):
        return None
    number = os.read(pipe, NUMBER_BYTES)  # so little is written at once, and read at once
    if not number:
        raise EOFError
    return int.from_bytes(number, sys.byteorder, signed=True)


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
