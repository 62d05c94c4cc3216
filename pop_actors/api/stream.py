"""One reader's event stream (SSE).

It waits for the ring, writes what is new in one piece, and beats every 15 seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pop_actors.api.events import EventRing, Missed, Reader

HEARTBEAT_SECONDS = 15.0
RETRY_MILLISECONDS = 1000
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


def starting_number(last_event_id: str | None, last_id: int) -> int:
    """Where a stream begins: after `Last-Event-ID` where one is sent, else now. A number nobody gave counts as lost."""
    if last_event_id is None:
        return last_id
    return int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else -1


def frame(kind: str, data: Any, number: int | None = None) -> bytes:
    """An event as SSE writes it."""
    head = b"" if number is None else b"id: %d\n" % number
    return b"%sevent: %s\ndata: %s\n\n" % (head, kind.encode(), orjson.dumps(data))


class EventStream(Response):
    """The answer to `GET /api/events`. With `follow` False it ends after what the ring holds."""

    def __init__(
        self, ring: EventRing, job_id: str | None, last_event_id: str | None, *, follow: bool, heartbeat: float
    ) -> None:
        super().__init__()
        self._ring = ring
        self._job_id = job_id
        self._start = starting_number(last_event_id, ring.last_id)
        self._follow = follow
        self._heartbeat = heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = Reader(self._start, _abort_of(scope))
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await _write(send, self._first(reader))
        if self._follow:
            await self._tell(reader, receive, send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _first(self, reader: Reader) -> bytes:
        """What the reader missed; where some of that is gone, a `state:change` tells it to read everything anew."""
        missed = self._ring.after(reader.cursor)
        resync = frame("state:change", {"change": "resync"}) if missed.gap else b""
        return b"retry: %d\n\n" % RETRY_MILLISECONDS + self._beat() + resync + self._frames(reader, missed)

    async def _tell(self, reader: Reader, receive: Receive, send: Send) -> None:
        self._ring.add(reader)
        gone = asyncio.ensure_future(_disconnected(receive))
        gone.add_done_callback(lambda _: reader.woken.set())
        clock = asyncio.get_running_loop().time
        beat_at = clock() + self._heartbeat
        try:
            while not (reader.closing or gone.done()):
                piece = self._next(reader)
                if clock() >= beat_at:
                    beat_at = clock() + self._heartbeat
                    piece += self._beat()
                if piece:
                    await _write(send, piece)
                else:
                    await _woken(reader, beat_at - clock())
        finally:
            self._ring.remove(reader)
            gone.cancel()

    def _next(self, reader: Reader) -> bytes:
        reader.woken.clear()
        missed = self._ring.after(reader.cursor)
        reader.closing = reader.closing or missed.gap
        return b"" if missed.gap else self._frames(reader, missed)

    def _frames(self, reader: Reader, missed: Missed) -> bytes:
        reader.cursor = missed.last_id
        return b"".join(
            frame(event.kind, event.data, event.id) for event in missed.events if self._job_id in {None, event.job_id}
        )

    def _beat(self) -> bytes:
        return frame("heartbeat", {"lastEventId": self._ring.last_id})


async def _woken(reader: Reader, seconds: float) -> None:
    """Return when the reader is woken, or after so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await reader.woken.wait()


async def _write(send: Send, content: bytes) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": True})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _abort_of(scope: Scope) -> Callable[[], None]:
    """How to cut this connection off even while a write is stuck; the server puts its transport into the scope."""
    transport = scope.get("state", {}).get("transport")
    return transport.abort if transport is not None else lambda: None
