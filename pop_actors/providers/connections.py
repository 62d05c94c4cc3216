"""The connections to one server: one for each request under way, kept for the next when it has ended well.

Used by the transport only. Those that nobody has used for a while are closed by a timer.
"""

from __future__ import annotations

import asyncio
from collections import deque

from pop_actors.providers.http_connection import Connection, Line, NotSent

KEPT_SECONDS = 4.0  # many servers hang up on who says nothing for five: a request should not meet that


class Connections:
    """Used by one loop, `close` included. `kept` (s): how long one stays open without work."""

    def __init__(self, line: Line, kept: float = KEPT_SECONDS) -> None:
        self._line = line
        self._kept = kept
        self._idle: deque[tuple[Connection, float]] = deque()  # with when it was put back; the oldest first
        self._going: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    async def take(self, deadline: float) -> Connection:
        """One for one request, to be given back: the last one that was used, for the others may grow old. NotSent."""
        if self._loop.time() >= deadline:
            raise NotSent("the deadline had passed")
        while self._idle:
            connection, _ = self._idle.pop()
            if connection.is_ready:
                return connection
            self._let_go(connection)
        return await self._line.open(deadline)

    def give_back(self, connection: Connection) -> None:
        """What is in the middle of something is closed at once."""
        if not connection.is_ready:
            self._let_go(connection)
            return
        self._idle.append((connection, self._loop.time()))
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._kept, self._close_old)

    async def close(self) -> None:
        """Close all of them; after the last request."""
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._let_go(self._idle.popleft()[0])
        if self._going:
            await asyncio.wait(self._going)

    def _close_old(self) -> None:
        self._sweep = None
        now = self._loop.time()
        while self._idle and self._idle[0][1] + self._kept <= now:
            self._let_go(self._idle.popleft()[0])
        if self._idle:
            self._sweep = self._loop.call_at(self._idle[0][1] + self._kept, self._close_old)

    def _let_go(self, connection: Connection) -> None:
        connection.abort()
        going = self._loop.create_task(connection.closed())
        self._going.add(going)
        going.add_done_callback(self._going.discard)

    def __repr__(self) -> str:
        return f"Connections({len(self._idle)} idle)"
