"""What is not to begin after a run's end: who puts a file under files/ and reports it does so in here, and who asks a
model.

Shared by the threads of a job's process. Its job ends it before it tells of the run's end, so that the two agree.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from pop_actors.runner.room import Leaving


class Writes:
    """Those under way, counted. Thread-safe."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._are_over = False

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Put a file there and report it, or send a call. Leaving where the run has ended."""
        with self._changed:
            if self._are_over:
                raise Leaving("the run has ended")
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def end(self, seconds: float) -> bool:
        """Let none begin any more, and wait for those under way; False where they take longer."""
        with self._changed:
            self._are_over = True
            return self._changed.wait_for(lambda: not self._under_way, seconds)
