"""One unfinished job as the status writer holds it: its log, the fold of it, and what is not on disk yet."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from pop_actors.core.events import (
    CallPaid,
    Event,
    JobRejected,
    JobRestarted,
    JobSuspended,
    ProcessDown,
    event_document,
    reached_by,
)
from pop_actors.core.ids import seconds_of
from pop_actors.core.states import ENDED
from pop_actors.core.status import Document, fold, is_news
from pop_actors.storage.fault_points import reach
from pop_actors.storage.files import readable_json, replace
from pop_actors.storage.jsonl import AppendLog
from pop_actors.storage.layout import JobDirectory


class JobRecord:
    """The log is appended first; the document is its fold. Lines the disk refused are kept and go first next time."""

    def __init__(
        self, directory: JobDirectory, document: Document, last: tuple[int, int], booked: Iterable[str] = ()
    ) -> None:
        """`last` is the newest (epoch, seq) in the log, `booked` the keys of its paid calls: what comes again is
        dropped."""
        self.directory = directory
        self.document = document
        self.last = last
        self._booked = set(booked)
        self.seen_at: float | None = None
        self.is_stale_on_disk = False
        self.is_rejected = False
        self.may_have_left = False
        """Whether leaving current/ was tried before, so that its line may stand in runs.jsonl already."""
        self.is_suspended = False
        self.has_parted = document["state"] in ENDED
        self._created = time.monotonic() - max(0.0, time.time() - seconds_of(document["createdAt"]))
        self._log: AppendLog | None = None
        self._unwritten: list[dict[str, Any]] = []
        self._is_synced = False  # nor is what was read known to be on disk: who wrote it may have died before it synced

    @property
    def job_id(self) -> str:
        return str(self.document["id"])

    @property
    def age(self) -> float:
        """Seconds since the job was created, whatever was done to the wall clock since this record was made."""
        return time.monotonic() - self._created

    @property
    def is_departing(self) -> bool:
        """Whether its log says that it leaves current/: to complete/ or to rejected/."""
        return self.is_rejected or bool(self.document["state"] == "done")

    def is_new(self, event: Event) -> bool:
        """Whether this event was not recorded before. What the daemon itself says has no number (epoch 0)."""
        if isinstance(event, CallPaid):
            return event.key not in self._booked
        if isinstance(event, ProcessDown) and event.ended:
            return reached_by(event) > self.last
        return is_news(self.document, event) if event.epoch == 0 else reached_by(event) > self.last

    def in_sequence(self, events: Sequence[Event]) -> list[Event]:
        """Those that are new, up to the first gap: what a process numbers is recorded without one, so that what was
        told to a status writer that died with it is missed, and sent again."""
        taken: list[Event] = []
        epoch, seq = self.last
        for event in filter(self.is_new, events):
            if event.epoch:
                if event.seq != (seq + 1 if event.epoch == epoch else 1):
                    break
                epoch, seq = event.epoch, event.seq
            taken.append(event)
        return taken

    def have(self, epoch: int) -> int:
        """How many events of that epoch it has."""
        return self.last[1] if self.last[0] == epoch else 0

    def take(self, event: Event) -> None:
        """Fold an event; it reaches the log with the next `write`. ValueError, KeyError where it makes no sense."""
        self.document = fold(self.document, event)
        self.last = max(self.last, reached_by(event))
        self.is_rejected = self.is_rejected or isinstance(event, JobRejected)
        self.is_suspended = isinstance(event, JobSuspended)
        if isinstance(event, CallPaid):
            self._booked.add(event.key)
        if isinstance(event, JobRestarted):
            self.has_parted = self.is_rejected = False
        self._unwritten.append(event_document(event))
        self.is_stale_on_disk = True

    def write(self) -> None:
        """Append what is new to the log. OSError where the disk refuses: nothing is lost, call it again."""
        if self._unwritten:
            self._is_synced = False
            self._open_log().append(self._unwritten)
            self._unwritten = []
            reach("writer.appended")

    def sync(self) -> None:
        """Return once the log is on disk."""
        if not self._is_synced:
            self._open_log().sync()
            self._is_synced = True
            reach("writer.synced")

    def write_status(self, *, durable: bool = False) -> None:
        """Put tasks-status.json in place."""
        replace(self.directory.status, readable_json(self.document), durable=durable)
        self.is_stale_on_disk = False
        reach("writer.status-written")

    def close(self) -> None:
        """Let go of the log's descriptor; it is opened again when needed."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _open_log(self) -> AppendLog:
        if self._log is None:
            self._log = AppendLog(self.directory.events)
        return self._log

    def __repr__(self) -> str:
        return f"JobRecord({self.job_id}, {self.document['state']}, last {self.last}, {len(self._unwritten)} unwritten)"
