"""What a job's process reports: events numbered by (epoch, seq), bundled into as few frames as order allows.

All threads of the process use the one stream. What the status writer has not confirmed is kept, and sent again from
where its log ends: a status writer that was restarted has lost what it was told. It never drops an event before the
run's last one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pop_actors.actors.process_actor import Ref
from pop_actors.core.events import Event, event_document
from pop_actors.core.ids import timestamp
from pop_actors.core.messages import Record
from pop_actors.errors import PopError, Refused, Unavailable
from pop_actors.runner.clockwork import Clockwork

BARRIER_SECONDS = 120.0
ASK_AGAIN_SECONDS = 0.05
CONFIRM_WITHIN_SECONDS = 2.0
FRAME_EVENTS = 200
CONFIRM_AT_EVENTS = 1000
MOST_KEPT = 10_000
UNKNOWN_JOB = "not_found"
GAP = "gap"

_log = logging.getLogger("pop_actors.runner")


@dataclass(frozen=True, slots=True)
class _Asked:
    """A barrier on its way: for every event up to `sent`, when those up to `confirmed` were known to be on disk."""

    answer: Future[Any]
    sent: int
    confirmed: int


class EventStream:
    """Events to the status writer. Thread-safe; the lock is held while sending, so that numbers arrive in order, and
    never while waiting."""

    def __init__(self, status_writer: Ref, job_id: str, run_id: str, epoch: int, clockwork: Clockwork) -> None:
        self._status_writer = status_writer
        self._job_id = job_id
        self._run_id = run_id
        self._epoch = epoch
        self._clockwork = clockwork
        self._lock = threading.Lock()
        self._seq = 0
        self._sent = 0
        self._confirmed = 0
        self._kept: deque[dict[str, Any]] = deque()
        self._is_being_confirmed = False
        self._is_over = False

    def note(self, kind: type[Event], /, **fields: Any) -> None:
        """Something that may wait for the next frame."""
        with self._lock:
            self._add(kind, fields)
            if self._seq - self._sent >= FRAME_EVENTS:
                self._tell()
        self._wait_where_too_much_is_kept()

    def report(self, kind: type[Event], /, **fields: Any) -> None:
        """Something to be seen now: it goes out at once, behind what waits."""
        with self._lock:
            self._add(kind, fields)
            self._tell()
        self._wait_where_too_much_is_kept()

    def confirm(self, kind: type[Event], /, **fields: Any) -> None:
        """Return once this and everything before it is on disk, however long the disk takes."""
        with self._lock:
            self._add(kind, fields)
            seq = self._seq
        self._confirm(seq)

    def end(self, kind: type[Event], /, **fields: Any) -> None:
        """Confirm the run's last event: what comes after it is of no run, and is dropped."""
        with self._lock:
            self._add(kind, fields)
            seq, self._is_over = self._seq, True
        try:
            self._confirm(seq)
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
        self._kept.append(event_document(event))

    def _tell(self) -> None:
        """Send what has not been sent, and see to it that it is confirmed soon."""
        while self._sent < self._seq:
            self._status_writer.tell(self._next_frame())
        if self._kept and not self._is_being_confirmed:
            self._is_being_confirmed = True
            pause = CONFIRM_WITHIN_SECONDS if len(self._kept) < CONFIRM_AT_EVENTS else 0.0
            self._clockwork.at(time.monotonic() + pause, self._start_confirming)

    def _next_frame(self) -> Record:
        first = self._sent - self._confirmed
        events = tuple(islice(self._kept, first, first + FRAME_EVENTS))
        self._sent += len(events)
        return Record(self._job_id, self._run_id, self._epoch, events)

    def _wait_where_too_much_is_kept(self) -> None:
        if len(self._kept) > MOST_KEPT and not self._is_over:
            self._confirm(self._seq)

    # Until it is confirmed

    def _confirm(self, seq: int) -> None:
        """Return once everything up to `seq` is on disk."""
        while (asked := self._ask(seq)) is not None:
            try:
                asked.answer.result(BARRIER_SECONDS)
            except Unavailable:  # nobody is there, or whoever was has gone with what it was told
                time.sleep(ASK_AGAIN_SECONDS)
                self._send_again_after(asked.confirmed)
            except TimeoutError:
                _log.warning("the status writer has not confirmed event %d of job %s yet", asked.sent, self._job_id)
                self._send_again_after(asked.confirmed)
            except Refused as refused:
                if refused.code != GAP:
                    raise
                self._send_again_after(self._end_of_log(refused, asked))
            else:
                self._forget(asked.sent)

    def _ask(self, seq: int) -> _Asked | None:
        """Send what has not been sent, and ask for its confirmation; None where `seq` is confirmed by now."""
        with self._lock:
            if self._confirmed >= seq:
                return None
            if self._sent == self._seq:
                self._sent -= 1  # the last once more, by which the status writer sees whether it has them all
            while self._seq - self._sent > FRAME_EVENTS:
                self._status_writer.tell(self._next_frame())
            return _Asked(self._status_writer.request(self._next_frame()), self._sent, self._confirmed)

    def _end_of_log(self, refused: Refused, asked: _Asked) -> int:
        """RuntimeError where the log has lost what had been confirmed: no process of this epoch can mend that."""
        have = int(refused.details["have"])
        if have < asked.confirmed:
            raise RuntimeError(
                f"the log of job {self._job_id} ends at event {have} of epoch {self._epoch}; "
                f"{asked.confirmed} were confirmed"
            )
        return have

    def _send_again_after(self, have: int) -> None:
        with self._lock:
            self._sent = max(self._confirmed, min(self._sent, have))

    def _forget(self, seq: int) -> None:
        with self._lock:
            while self._confirmed < seq:
                self._kept.popleft()
                self._confirmed += 1
            self._sent = max(self._confirmed, self._sent)

    def _start_confirming(self) -> None:
        """In the clockwork, which must not wait."""
        with self._lock:
            if not self._kept or self._is_over:
                self._is_being_confirmed = False
                return
        threading.Thread(target=self._confirm_what_was_told, name="confirm", daemon=True).start()

    def _confirm_what_was_told(self) -> None:
        try:
            self._confirm(self._seq)
        except (PopError, RuntimeError) as error:  # whoever waits at a barrier hears it, and acts
            _log.debug("what job %s told could not be confirmed: %s", self._job_id, error)
        with self._lock:
            self._is_being_confirmed = False
            if self._kept and not self._is_over:
                self._tell()
