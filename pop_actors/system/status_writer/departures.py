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
from pop_actors.system.disk_watch import DiskWatch
from pop_actors.system.status_writer import moves
from pop_actors.system.status_writer.job_record import JobRecord

RETRY_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Departures:
    """Moves jobs out of current/. A job given to it is nobody else's to write any more."""

    def __init__(self, workspace: Workspace, disk: DiskWatch, gone: Callable[[JobRecord], None]) -> None:
        """`gone(record)` is called in the thread, once for each job that has been moved, durably."""
        self._workspace = workspace
        self._disk = disk
        self._gone = gone
        self._told_of: set[str] = set()
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
        """Batch after batch until nothing waits. What cannot be moved is tried again, each job by itself."""
        held_up: list[JobRecord] = []
        while batch := self._next_batch(held_up):
            again = bool(held_up)
            held_up = []
            for some in [[record] for record in batch] if again else [batch]:
                try:
                    self._move(some, again=again)
                except Exception as error:  # noqa: BLE001  (one job's trouble must not hold up the others for good)
                    held_up += some
                    self._tell_of(some, error)
                else:
                    for record in some:
                        self._told_of.discard(record.job_id)
                        self._gone(record)
            if held_up and self._closing.wait(RETRY_SECONDS):
                return

    def _tell_of(self, records: list[JobRecord], error: Exception) -> None:
        """Once for each job; what is a matter of the disk as a whole is said by its watch."""
        untold = [record.job_id for record in records if record.job_id not in self._told_of]
        is_told = isinstance(error, OSError) and self._disk.refused(error)
        if untold and not is_told:
            self._told_of.update(untold)
            _log.error("%s cannot leave current/ now, and will when it is let: %s", ", ".join(untold), error)

    def _next_batch(self, held_up: list[JobRecord]) -> list[JobRecord]:
        with self._lock:
            batch, self._waiting = held_up + self._waiting, []
            self._is_moving = bool(batch)
            return batch

    def _move(self, batch: list[JobRecord], *, again: bool) -> None:
        now = time.time()
        again = again or any(record.may_have_left for record in batch)
        done = [record for record in batch if not record.is_rejected]
        if done:
            moves.finish(self._workspace, done, timestamp(now), again=again)
        for record in batch:
            if record.is_rejected:
                moves.reject_job(self._workspace, record, now, again=again)
