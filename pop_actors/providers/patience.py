"""How long an exchange waits: for its deadline at the longest, and where a reply is under way, for its next bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pop_actors.providers.http_connection import Connection


class Patience:
    """One timer, which aborts the connection when it has waited too long. Bytes that come only move a number.

    `may_be_silent` is asked when the timer looks, at least every `idle` seconds: whether silence is no sign of death.
    Where a request does not leave us, it is one. `is_spent`: it was aborted; `was_sending`: when the timer looked last.
    """

    def __init__(self, deadline: float, idle: float) -> None:
        self.is_spent = False
        self.was_sending = False
        self.deadline = deadline
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._watched: tuple[Connection, Callable[[], bool]] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connection: Connection, may_be_silent: Callable[[], bool]) -> None:
        """From now on, until `end`."""
        self._watched = connection, may_be_silent
        self._timer = self._loop.call_at(min(self.deadline, self._loop.time() + self._idle), self._look)

    def hurry(self, seconds: float) -> None:
        """No longer than that from now on, whatever comes."""
        if self._timer is not None:
            self._timer.cancel()
        self.deadline = min(self.deadline, self._loop.time() + seconds)
        self._timer = self._loop.call_at(self.deadline, self._look)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._watched = None  # no circle of references is left to the garbage collector

    def _look(self) -> None:
        assert self._watched is not None
        connection, may_be_silent = self._watched
        now = self._loop.time()
        until = self.deadline
        self.was_sending = connection.is_sending
        if self.was_sending or not may_be_silent():
            until = min(until, connection.moved + self._idle)
        if now >= until:
            self.is_spent = True
            connection.abort()
        else:
            self._timer = self._loop.call_at(min(until, now + self._idle), self._look)
