"""The connections to one server: a client of httpx2 for each request under way, kept for the next when it has ended.

Used by the transport only. One pool for all would look at every connection whenever a request begins or ends, which
at 512 under way costs more than the requests themselves; a client with one connection has one to look at.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2

KEPT_SECONDS = 5.0  # httpx2 does not use a connection that was idle for longer


class Connections:
    """`first` and whatever `make` gives are clients for one request at a time. Used by one loop, `close` included."""

    def __init__(self, first: httpx2.AsyncClient, make: Callable[[], httpx2.AsyncClient]) -> None:
        self._make = make
        self._idle: deque[tuple[httpx2.AsyncClient, float]] = deque([(first, 0.0)])  # with when it was put back
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[httpx2.AsyncClient]:
        """A client for one request, the last one that was used: the others may grow old."""
        client = self._idle.pop()[0] if self._idle else self._make()
        try:
            yield client
        finally:
            self._put_back(client)

    async def close(self) -> None:
        """Close all of them; after the last request."""
        while self._idle:
            self._let_go(self._idle.popleft()[0])
        await asyncio.gather(*self._closing)

    def _put_back(self, client: httpx2.AsyncClient) -> None:
        now = asyncio.get_running_loop().time()
        self._idle.append((client, now))
        while len(self._idle) > 1 and self._idle[0][1] < now - KEPT_SECONDS:
            self._let_go(self._idle.popleft()[0])

    def _let_go(self, client: httpx2.AsyncClient) -> None:
        closing = asyncio.get_running_loop().create_task(client.aclose())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def __repr__(self) -> str:
        return f"Connections({len(self._idle)} idle)"
