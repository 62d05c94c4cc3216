"""Patience with the disk: a write waits while there is no room for it, and its stage's time stands still meanwhile. A
call that is to wait for the next day's budget waits likewise.

For everything a job's process writes itself, and `ctx.io`. A device that fails is tried a few times; then it is an
error. What a task's own code opens and writes does not come here.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal, TypeVar

from pop_actors.runner.clockwork import Deadline
from pop_actors.storage.refusals import is_no_room, is_trouble

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 1.0
TOLD_AFTER_SECONDS = 0.5
TRIES_IN_TROUBLE = 4
T = TypeVar("T")


class Leaving(BaseException):
    """The process is to leave while something waits for room: what was under way is done again after the next start.

    No Exception, so that a task's `except Exception` does not swallow it.
    """


class Room:
    """Those of one attempt of a task, or of a process as a whole, who wait. Thread-safe."""

    def __init__(
        self,
        leaving: threading.Event,
        told: Callable[[], None] = lambda: None,
        went_on: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`told` is called when a wait has become a long one, `went_on(seconds)` when the last of those is over."""
        self.leaving = leaving
        self._told = told
        self._went_on = went_on
        self._lock = threading.Lock()
        self._waiting = 0
        self._since = 0.0
        self.untold = 0.0
        """Seconds of waits so short that nobody was told of them."""
        self.reason: Literal["disk", "budget"] = "disk"
        """What was waited for last."""

    def write(self, put: Callable[[], T], deadline: Deadline | None = None) -> T:
        """What `put()` returns, tried again while there is no room. Leaving where the process is to leave first;
        OSError where the device keeps failing, or it is no matter of the disk at all."""
        try:
            return put()
        except OSError as error:
            refused = error
        with self.wait(deadline) as wait:
            troubles = 0
            while True:
                troubles += is_trouble(refused)
                if not is_no_room(refused) and not 0 < troubles < TRIES_IN_TROUBLE:
                    raise refused
                wait.pause()
                try:
                    return put()
                except OSError as error:
                    refused = error

    @contextlib.contextmanager
    def wait(self, deadline: Deadline | None) -> Iterator[Wait]:
        """One wait, which is as long as its pauses are."""
        wait = Wait(self, deadline)
        try:
            yield wait
        finally:
            wait.end()

    def begin(self) -> None:
        """A wait has become a long one."""
        with self._lock:
            self._waiting += 1
            if self._waiting > 1:
                return
            self._since = time.monotonic()
        self._told()

    def end(self) -> None:
        """A long wait is over."""
        with self._lock:
            self._waiting -= 1
            if self._waiting:
                return
            seconds = time.monotonic() - self._since + self.untold
            self.untold = 0.0
        self._went_on(seconds)


class Wait:
    """Pauses between tries, longer and longer, up to a second. The stage's deadline stands still in them."""

    def __init__(self, room: Room, deadline: Deadline | None) -> None:
        self._room = room
        self._deadline = deadline
        self._pauses = 0
        self._is_told = False

    def pause(self, reason: Literal["disk", "budget"] = "disk") -> None:
        """Leaving where the process is to leave."""
        self._room.reason = reason
        with self._standing_still() as seconds:
            self._room.leaving.wait(seconds)
        self._leave_if_asked()

    async def apause(self, reason: Literal["disk", "budget"] = "disk") -> None:
        """`pause` in an event loop."""
        import asyncio  # an async stage has loaded it

        self._room.reason = reason
        with self._standing_still() as seconds:
            await asyncio.sleep(seconds)
        self._leave_if_asked()

    def end(self) -> None:
        """No more pauses; what waited goes on, or failed."""
        if self._is_told:
            self._is_told = False
            self._room.end()

    @contextlib.contextmanager
    def _standing_still(self) -> Iterator[float]:
        """For the seconds it yields."""
        self._pauses += 1
        seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * self._pauses)
        if not self._is_told:
            self._room.untold += seconds
            if self._room.untold > TOLD_AFTER_SECONDS:
                self._is_told = True
                self._room.begin()
        with contextlib.nullcontext() if self._deadline is None else self._deadline.held():
            yield seconds

    def _leave_if_asked(self) -> None:
        if self._room.leaving.is_set():
            waits = "no room on the disk" if self._room.reason == "disk" else "no budget today"
            raise Leaving(f"there is {waits}, and the service stops")
