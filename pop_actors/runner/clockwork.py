"""The one thread of a job's process that watches the clock: it interrupts stages that outlive their time.

A stage in Python code is interrupted by an exception raised in its threads, again and again until it ends. A stage in
C code is out of reach; the daemon ends its process.
"""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

REPEAT_SECONDS = 0.2
T = TypeVar("T")

_raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
_raise_in_thread.argtypes = (ctypes.c_ulong, ctypes.py_object)
_raise_in_thread.restype = ctypes.c_int


class StageTimeout(BaseException):
    """The stage's time is over. No Exception, so that a task's `except Exception` does not swallow it."""


class Clockwork:
    """Calls functions at their time, in its own thread, which starts with the first of them. Thread-safe."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._wakes_at = float("inf")
        self._stopped = False

    def at(self, moment: float, call: Callable[[], None]) -> None:
        """Call it at `moment` (monotonic seconds). It must return at once."""
        with self._changed:
            heapq.heappush(self._due, (moment, next(self._numbers), call))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="clockwork", daemon=True)
                self._thread.start()
            elif moment < self._wakes_at:
                self._changed.notify()

    def stop(self) -> None:
        """Call nothing any more."""
        with self._changed:
            self._stopped = True
            self._due.clear()
            self._changed.notify()

    def _run(self) -> None:
        while (call := self._next()) is not None:
            call()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._stopped:
                self._wakes_at = self._due[0][0] if self._due else float("inf")
                wait = self._wakes_at - time.monotonic()
                if wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(min(wait, threading.TIMEOUT_MAX))
            return None


class Deadline:
    """The time one stage has. The stage's threads are interrupted when it is over. `seconds` counts from now, without
    the time in which it is held."""

    def __init__(self, clockwork: Clockwork, seconds: float) -> None:
        self.seconds = seconds
        self.passed = False
        self._moment = time.monotonic() + seconds
        self._holders = 0
        self._held_since = 0.0
        self._ended = False
        self._clockwork = clockwork
        self._lock = threading.Lock()
        self._threads: set[int] = set()

    @property
    def moment(self) -> float:
        """When it is over (monotonic seconds), if it is not held from here on."""
        with self._lock:
            held = time.monotonic() - self._held_since if self._holders else 0.0
            return self._moment + held

    @property
    def remaining(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.moment - time.monotonic())

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The time in here does not count. Several threads may hold it at once: it goes on when the last lets go."""
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._held_since = time.monotonic()
        try:
            yield
        finally:
            self._let_go()

    def guard(self, work: Callable[[], T]) -> T:
        """Run the stage in this thread. StageTimeout where it outlived its time, however it ended then."""
        try:
            self._clockwork.at(self._moment, self._ring)
            return self.share(work)
        finally:
            self._ended = True

    def share(self, work: Callable[[], T]) -> T:
        """Run it in this thread, to be interrupted as the stage is. For threads that work for the stage."""
        thread = threading.get_ident()
        outcome: Any = None
        error: BaseException | None = None
        try:
            self._join(thread)
            outcome = work()
        except BaseException as caught:  # noqa: BLE001  (kept until this thread is out of reach, then raised again)
            error = caught
        while True:
            try:
                self._leave(thread)
                break
            except StageTimeout:  # it came in just now: once more
                self.passed = True
        if self.passed:
            raise self.over() from error
        if error is not None:
            raise error
        return outcome  # type: ignore[no-any-return]  # what `work` returned

    def over(self) -> StageTimeout:
        """The exception that says so."""
        return StageTimeout(f"not finished within {self.seconds:g} s")

    def _join(self, thread: int) -> None:
        with self._lock:
            self._threads.add(thread)
        if self.passed:
            raise self.over()

    def _leave(self, thread: int) -> None:
        with self._lock:
            self._threads.discard(thread)
        if self.passed:
            _let_it_come()

    def _let_go(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders:
                return
            self._moment += time.monotonic() - self._held_since
        self._clockwork.at(self._moment, self._ring)

    def _ring(self) -> None:
        """Nothing while it is held, or where it was: whoever let it go has set another alarm."""
        with self._lock:
            if self._ended or (not self.passed and (self._holders or time.monotonic() < self._moment)):
                return
            self.passed = True
            for thread in self._threads:
                _raise_in_thread(thread, StageTimeout)
        self._clockwork.at(time.monotonic() + REPEAT_SECONDS, self._ring)


def _let_it_come() -> None:
    """Run some bytecode, so that an exception raised in this thread from outside, if there is one, comes now.

    Taking it back (PyThreadState_SetAsyncExc with NULL) would leave CPython 3.11's eval breaker set for good: every
    loop of the process slower, and an endless one under a profiler.
    """
    for _ in range(100):
        continue
