"""Threads for the attempts of a job: one is started when none is idle, so a chain of tasks runs in one thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


class TaskThreads:
    """Runs work side by side. The threads are daemons: a stopped job does not wait for them."""

    def __init__(self) -> None:
        self._work: SimpleQueue[tuple[str, Callable[[], None]]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    def run(self, name: str, work: Callable[[], None]) -> None:
        """Have it done at once, in a thread of that name. `work` does not raise."""
        with self._lock:
            has_idle = self._idle > 0
            self._idle -= has_idle
        self._work.put((name, work))
        if not has_idle:
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            name, work = self._work.get()
            threading.current_thread().name = name
            work()
            with self._lock:
                self._idle += 1
