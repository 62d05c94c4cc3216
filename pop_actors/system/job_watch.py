"""The thread that looks at what running jobs use. It tells of a job that is over a limit and ends none itself.

A look costs the same however long the service has run and however many jobs have finished: it visits what runs now. It
sleeps while nothing runs.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pop_actors.process_table import descendants_of
from pop_actors.storage.layout import Workspace
from pop_actors.storage.process_log import keep_bounded
from pop_actors.system.job_limits import Excess, JobLimits
from pop_actors.system.job_usage import disk_of, memory_of

LOOK_SECONDS = 0.5
DISK_SHARE = 20
"""A directory that took a second to count is counted again after so many."""

JOIN_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OverLimit:
    """A job's process `pid` and what it has started use too much."""

    job_id: str
    pid: int
    excess: Excess


class JobWatch:
    """Start it once, `wake` it whenever a job starts."""

    def __init__(
        self,
        limits: JobLimits,
        workspace: Workspace,
        running: Callable[[], Mapping[str, int | None]],
        tell: Callable[[OverLimit], None],
    ) -> None:
        """`running` gives each job that is to run now, and its pid where it has a process. Both are called in the
        watch's thread."""
        self._limits = limits
        self._workspace = workspace
        self._running = running
        self._tell = tell
        self._next_count: dict[str, float] = {}
        self._awake = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look_for_ever, name="job-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There may be something to look at."""
        self._awake.set()

    def stop(self) -> None:
        """End the thread. A second call does nothing."""
        self._is_over.set()
        self._awake.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)

    def _look_for_ever(self) -> None:
        while self._awake.wait() and not self._is_over.is_set():
            self._awake.clear()
            running = self._running()
            for job_id in self._next_count.keys() - running.keys():
                del self._next_count[job_id]
            for job_id, pid in running.items():
                if pid is not None:
                    self._look_at(job_id, pid)
            if running and not self._is_over.wait(LOOK_SECONDS):
                self._awake.set()

    def _look_at(self, job_id: str, pid: int) -> None:
        try:
            excess = self._processes(job_id, pid) or self._disk(job_id)
        except Exception:  # noqa: BLE001  (one job's files must not blind the watch for the others)
            _log.exception("what job %s uses cannot be told", job_id)
            return
        if excess is not None:
            self._tell(OverLimit(job_id, pid, excess))

    def _processes(self, job_id: str, pid: int) -> Excess | None:
        limits = self._limits
        if limits.memory is None and limits.processes is None:
            return None
        family = [pid, *descendants_of(pid)]
        excess = limits.processes_excess(job_id, len(family))
        if excess is None and limits.memory is not None:
            excess = limits.memory_excess(job_id, memory_of(family, limits.memory))
        return excess

    def _disk(self, job_id: str) -> Excess | None:
        directory = self._workspace.job(job_id)
        try:
            keep_bounded(directory.files("logs"))
        except OSError as error:  # a full disk refuses the line that says it was cut; there is a next time
            _log.debug("%s: process.log is not cut: %s", job_id, error)
        began = time.monotonic()
        if self._limits.disk is None or began < self._next_count.get(job_id, began):
            return None
        used = disk_of(os.fspath(directory.path))
        now = time.monotonic()
        self._next_count[job_id] = now + DISK_SHARE * (now - began)
        return self._limits.disk_excess(job_id, used)
