"""What the daemon itself has to say of jobs: each note is asked of the status-writer until it is answered.

Used by the scheduler and the jobs supervisor. A status-writer that dies leaves its notes to its successor, which knows
from the log what it has already.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Set as AbstractSet
from concurrent.futures import Future

from pop_actors.actors.process_actor import Ref
from pop_actors.actors.timers import Timers
from pop_actors.core.events import Event
from pop_actors.errors import Unavailable
from pop_actors.system import messages as m

RETRY_SECONDS = 0.05

_log = logging.getLogger(__name__)


class Notes:
    """Those on one job go one after the other, so that they stand in its log in this order. Thread-safe."""

    def __init__(self, status_writer: Ref, timers: Timers) -> None:
        self._status_writer = status_writer
        self._timers = timers
        self._lock = threading.Lock()
        self._open: dict[str, deque[tuple[Event, Future[None]]]] = {}

    @property
    def open(self) -> AbstractSet[str]:
        """The jobs of which something is not on disk yet."""
        return self._open.keys()

    def note(self, job_id: str, event: Event) -> Future[None]:
        """Done, in any thread, when it is on disk; with an error where the status-writer cannot take it."""
        noted: Future[None] = Future()
        with self._lock:
            waiting = self._open.setdefault(job_id, deque())
            waiting.append((event, noted))
            is_next = len(waiting) == 1
        if is_next:
            self._send_next(job_id)
        return noted

    def _send_next(self, job_id: str) -> None:
        event, _ = self._open[job_id][0]
        asked = self._status_writer.request(m.Note(job_id, event))
        asked.add_done_callback(lambda asked: self._answered(job_id, asked.exception()))

    def _answered(self, job_id: str, error: BaseException | None) -> None:
        if isinstance(error, Unavailable):
            self._timers.after(RETRY_SECONDS, lambda: self._send_next(job_id))
            return
        with self._lock:
            waiting = self._open[job_id]
            event, noted = waiting.popleft()
            has_more = bool(waiting)
            if not has_more:
                del self._open[job_id]
        if error is None:
            noted.set_result(None)
        else:
            _log.error("%s of job %s cannot be noted: %s", event.type, job_id, error)
            noted.set_exception(error)
        if has_more:
            self._send_next(job_id)

    def __repr__(self) -> str:
        return f"Notes({len(self._open)} jobs)"
