"""What a job's process reports: events numbered by (epoch, seq), bundled into as few frames as order allows.

All threads of the process use the one stream. It never drops an event before the run's last one.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from pop_actors.actors.process_actor import Ref
from pop_actors.core.events import Event, event_document
from pop_actors.core.ids import timestamp
from pop_actors.core.messages import Record
from pop_actors.errors import Refused

BARRIER_SECONDS = 120.0
UNKNOWN_JOB = "not_found"

_log = logging.getLogger("pop_actors.runner")


class EventStream:
    """Events to the status writer. Thread-safe; the lock is held while asking, so that numbers arrive in order."""

    def __init__(self, status_writer: Ref, job_id: str, run_id: str, epoch: int) -> None:
        self._status_writer = status_writer
        self._job_id = job_id
        self._run_id = run_id
        self._epoch = epoch
        self._lock = threading.Lock()
        self._seq = 0
        self._buffer: list[dict[str, Any]] = []
        self._is_over = False

    def note(self, kind: type[Event], /, **fields: Any) -> None:
        """Something that may wait for the next frame."""
        with self._lock:
            self._add(kind, fields)

    def report(self, kind: type[Event], /, **fields: Any) -> None:
        """Something to be seen now: it goes out at once, behind what waits."""
        with self._lock:
            self._add(kind, fields)
            if self._buffer:
                self._status_writer.tell(self._take())

    def confirm(self, kind: type[Event], /, **fields: Any) -> None:
        """Return once this and everything before it is on disk. AskTimeout where the status writer does not answer."""
        with self._lock:
            self._add(kind, fields)
            if self._buffer:
                self._status_writer.ask(self._take(), BARRIER_SECONDS)

    def end(self, kind: type[Event], /, **fields: Any) -> None:
        """Confirm the run's last event: what comes after it is of no run, and is dropped."""
        with self._lock:
            self._add(kind, fields)
            record, self._is_over = self._take(), True
            try:
                self._status_writer.ask(record, BARRIER_SECONDS)
            except Refused as refused:
                # Asked again after the status writer was restarted, the run's end finds the job finished and gone.
                if refused.code != UNKNOWN_JOB:
                    raise
                _log.info("the end of job %s was recorded before: %s", self._job_id, refused)

    def _add(self, kind: type[Event], fields: dict[str, Any]) -> None:
        if self._is_over:
            return
        self._seq += 1
        event = kind(at=timestamp(time.time()), epoch=self._epoch, seq=self._seq, **fields)
        self._buffer.append(event_document(event))

    def _take(self) -> Record:
        events, self._buffer = tuple(self._buffer), []
        return Record(self._job_id, self._run_id, self._epoch, events)
