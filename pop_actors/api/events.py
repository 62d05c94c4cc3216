"""What happens in the daemon, as numbered events for readers: a bounded ring, fed by any thread, read on the loop.

The ring is the only buffer: a reader is a place in it. One that falls behind the ring's beginning is dropped, and comes
back with the number it saw last. Without readers an observation costs one append.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from pop_actors.core import observations as o
from pop_actors.core.events import JobCreated
from pop_actors.core.status import summary

RING_EVENTS = 2048
FROM_THE_BEGINNING = 0

Told = tuple[str, str | None, dict[str, Any]]  # kind, job id, data


@dataclass(frozen=True, slots=True)
class Event:
    """`kind`: job:created, job:updated or state:change; `job_id` None where it is about the service."""

    id: int
    kind: str
    job_id: str | None
    data: dict[str, Any]


def event_of(observation: o.Observation) -> Told | None:
    """What readers are told; None for what is only a metric."""
    tell = _TELLERS.get(type(observation))
    return tell(observation) if tell is not None else None


def _job(seen: o.JobChanged) -> Told:
    kind = "job:created" if isinstance(seen.event, JobCreated) else "job:updated"
    return kind, seen.job_id, {**summary(seen.document), "event": seen.event.type}


def _change(change: str, job_id: str | None, **facts: Any) -> Told:
    about = {} if job_id is None else {"jobId": job_id}
    return "state:change", job_id, {"change": change, **about, **facts}


_TELLERS: dict[type, Callable[[Any], Told]] = {
    o.JobChanged: _job,
    o.SeedTurnedDown: lambda seen: _change("seed:rejected", seen.job_id, reason=seen.reason, message=seen.message),
    o.JobFinished: lambda seen: _change("job:finished", seen.job_id, outcome=seen.outcome),
    o.ModeChanged: lambda seen: _change("mode", None, rollout=seen.rollout, claiming=seen.claiming),
    o.ActorRestarted: lambda seen: _change("actor:restarted", None, actor=seen.actor, reason=seen.reason),
    o.ActorUp: lambda seen: _change("actor:up", None, actor=seen.actor, up=seen.up),
    o.CircuitChanged: lambda seen: _change("circuit", None, provider=seen.provider, model=seen.model, open=seen.open),
}


@dataclass(frozen=True, slots=True)
class Missed:
    """Events, oldest first, up to `last_id`; `gap`: some before them are gone, or the number is none of ours."""

    events: list[Event]
    last_id: int
    gap: bool = False


@dataclass(eq=False, slots=True)
class Reader:
    """One stream: `cursor` is the number it saw last, `woken` says that there may be more, `abort` cuts it off."""

    cursor: int
    abort: Callable[[], None]
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    closing: bool = False


class EventRing:
    """The newest events, numbered from `first_id` on, and their readers."""

    def __init__(self, first_id: int, capacity: int = RING_EVENTS) -> None:
        """`first_id` must be higher than any number of an earlier daemon: milliseconds since the epoch are."""
        self._events: deque[Event] = deque(maxlen=capacity)
        self._last_id = first_id
        self._lock = threading.Lock()
        self._readers: tuple[Reader, ...] = ()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake_scheduled = False
        self.dropped = 0

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Readers live on this loop from now on."""
        self._loop = loop

    def close(self) -> None:
        """End every stream. On the loop; nothing wakes it afterwards."""
        with self._lock:
            self._loop = None
        for reader in self._readers:
            reader.closing = True
            reader.woken.set()

    @property
    def last_id(self) -> int:
        return self._last_id

    @property
    def readers(self) -> int:
        return len(self._readers)

    def on_observation(self, observation: o.Observation) -> None:
        """The feed's listener; any thread."""
        found = event_of(observation)
        if found is None:
            return
        kind, job_id, data = found
        with self._lock:
            self._last_id += 1
            self._events.append(Event(self._last_id, kind, job_id, data))
            if self._readers and not self._wake_scheduled and self._loop is not None:
                self._wake_scheduled = True
                self._loop.call_soon_threadsafe(self._wake)

    def add(self, reader: Reader) -> None:
        """On the loop."""
        with self._lock:
            self._readers = (*self._readers, reader)
        reader.closing = self._loop is None

    def remove(self, reader: Reader) -> None:
        """On the loop."""
        with self._lock:
            self._readers = tuple(known for known in self._readers if known is not reader)

    def after(self, number: int) -> Missed:
        """What came after `number`."""
        with self._lock:
            oldest = self._events[0].id if self._events else self._last_id + 1
            if number == FROM_THE_BEGINNING:
                return Missed(list(self._events), self._last_id)
            if number < oldest - 1 or number > self._last_id:
                return Missed(list(self._events), self._last_id, gap=True)
            return Missed(list(islice(self._events, number - oldest + 1, None)), self._last_id)

    def _wake(self) -> None:
        with self._lock:
            self._wake_scheduled = False
            oldest = self._events[0].id
        for reader in self._readers:
            if reader.cursor < oldest - 1:
                self.dropped += 1
                reader.closing = True
                reader.abort()
            reader.woken.set()
