"""How finished and rejected jobs leave current/, beside the status writer: it goes on while the disk is waited for.

One thread does it, a batch at a time: what gathers while one batch moves shares the fsyncs of the next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pop_actors.core.ids import timestamp
from pop_actors.storage.layout import Workspace
from pop_actors.system.status_writer import moves
from pop_actors.system.status_writer.job_record import JobRecord

RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Departures:
    """Moves jobs out of current/. A job given to it is nobody else's to write any more."""

    def __init__(self, workspace: Workspace, gone: Callable[[JobRecord], None]) -> None:
        """`gone(record)` is called in the thread, once for each job that has been moved, durably."""
        self._workspace = workspace
        self._gone = gone
        self._lock = threading.Lock()
        self._waiting: list[JobRecord] = []
        self._is_moving = False
        self._closing = threading.Event()
        self._thread = ThreadPoolExecutor(1, "departures")

    def add(self, record: JobRecord) -> None:
        """Have it moved: to complete/, or to rejected/. It is tried until the disk lets it happen."""
        with self._lock:
            self._waiting.append(record)
            if self._is_moving:
                return
            self._is_moving = True
        self._thread.submit(self._move_all)

    def close(self) -> None:
        """Return when nothing waits any more, or the disk refuses: then the next start finishes it."""
        self._closing.set()
        self._thread.shutdown()

    def _move_all(self) -> None:
        again = False
        while batch := self._next_batch():
            try:
                self._move(batch, again=again)
            except OSError as error:
                again = True
                _log.error("%d finished jobs cannot be moved now: %s", len(batch), error)
                with self._lock:
                    self._waiting = batch + self._waiting
                if self._closing.wait(RETRY_SECONDS):
                    return
            else:
                again = False
                for record in batch:
                    self._gone(record)

    def _next_batch(self) -> list[JobRecord]:
        with self._lock:
            batch, self._waiting = self._waiting, []
            self._is_moving = bool(batch)
            return batch

    def _move(self, batch: list[JobRecord], *, again: bool) -> None:
        now = time.time()
        done = [record for record in batch if not record.is_rejected]
        if done:
            moves.finish(self._workspace, done, timestamp(now), again=again)
        for record in batch:
            if record.is_rejected:
                moves.reject_job(self._workspace, record, now, again=again)
