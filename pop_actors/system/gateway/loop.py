"""An asyncio loop in a thread of its own, and the way into it from other threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

_log = logging.getLogger(__name__)


class LoopThread:
    """Runs coroutines until `stop`. `submit` and `call` may be used from any other thread."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._inbox: deque[Callable[[], object]] = deque()
        self._is_woken = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Begin it in the loop; the future gets what it returns or raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, act: Callable[[], object]) -> None:
        """Have `act` called in the loop, soon and in order; RuntimeError where it is stopped. Calls that come together
        wake the loop once."""
        self._inbox.append(act)
        if not self._is_woken:
            self._is_woken = True
            try:
                self._loop.call_soon_threadsafe(self._take_in)
            except RuntimeError:
                self._is_woken = False  # the next one hears it too
                raise

    def stop(self) -> None:
        """End the loop and its thread; work under way is cancelled. A second call does nothing."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _take_in(self) -> None:
        self._is_woken = False  # before it looks: who adds after the last look wakes the loop again
        while self._inbox:
            act = self._inbox.popleft()
            try:
                act()
            except Exception:  # noqa: BLE001  (what comes after it in the inbox is somebody else's)
                _log.exception("%s: what it was handed failed", self._thread.name)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            rest = asyncio.all_tasks(self._loop)
            for task in rest:
                task.cancel()
            if rest:
                self._loop.run_until_complete(asyncio.wait(rest))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()

    def __repr__(self) -> str:
        return f"LoopThread({self._thread.name}, {'running' if self._thread.is_alive() else 'stopped'})"
