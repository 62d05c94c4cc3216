"""Time for everybody: one thread that calls functions when their moment has come.

A callback runs in the timers' thread and returns at once; usually it tells an actor something.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from pop_actors.actors.mailbox import never_wait_here

COMPACT_AT = 256
JOIN_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Timer:
    """One call to come. `cancel()` any time, from any thread; a call already begun is not undone."""

    __slots__ = ("_function", "_timers")

    def __init__(self, timers: Timers, function: Callable[[], None]) -> None:
        self._timers = timers
        self._function: Callable[[], None] | None = function

    def cancel(self) -> None:
        """Not to be called any more; a second time does nothing."""
        if self._function is not None:
            self._function = None
            self._timers.forget()

    def take(self) -> Callable[[], None] | None:
        """What to call; None from the second time on, and where it was cancelled."""
        function, self._function = self._function, None
        return function

    @property
    def is_pending(self) -> bool:
        return self._function is not None


class Timers:
    """The calls to come, soonest first, and the thread that makes them. It starts with the first of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._heap: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._stopped = False
        self._thread: threading.Thread | None = None

    def after(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Call `function` in `seconds`. Once the timers are stopped, it is never called."""
        timer = Timer(self, function)
        with self._changed:
            if self._stopped:
                timer.take()
                return timer
            entry = (self._clock() + seconds, next(self._numbers), timer)
            heapq.heappush(self._heap, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._call_for_ever, name="timers", daemon=True)
                self._thread.start()
            elif self._heap[0] is entry:
                self._changed.notify()
        return timer

    def stop(self) -> None:
        """End the thread; what has not been called is not called. A second call does nothing."""
        with self._changed:
            self._stopped = True
            self._heap.clear()
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(JOIN_SECONDS)

    def forget(self) -> None:
        """A timer was cancelled: sweep once most of the heap is dead."""
        with self._changed:
            self._cancelled += 1
            if self._cancelled > COMPACT_AT and self._cancelled * 2 > len(self._heap):
                self._heap = [entry for entry in self._heap if entry[2].is_pending]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def _call_for_ever(self) -> None:
        never_wait_here()
        while (function := self._next()) is not None:
            try:
                function()
            except Exception:  # noqa: BLE001 - one caller's mistake must not stop time for the others
                _log.exception("a timer's callback failed")

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next call that is due; None once stopped."""
        with self._changed:
            while not self._stopped:
                pause = self._heap[0][0] - self._clock() if self._heap else None
                if pause is not None and pause <= 0:
                    function = heapq.heappop(self._heap)[2].take()
                    if function is not None:
                        return function
                    self._cancelled = max(0, self._cancelled - 1)
                    continue
                self._changed.wait(None if pause is None else min(pause, threading.TIMEOUT_MAX))
        return None

    def __repr__(self) -> str:
        return f"Timers({len(self._heap)} to come{', stopped' if self._stopped else ''})"
