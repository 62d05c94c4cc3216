"""Many items, a few threads: what `ctx.io.run_batch` does. The threads share the stage's deadline and its log."""

from __future__ import annotations

import contextvars
import inspect
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from pop_actors.errors import CallFailed
from pop_actors.runner.clockwork import Deadline
from pop_actors.runner.failures import HOPELESS_CODES
from pop_actors.runner.forks import here_only

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


def run_batch(
    items: Sequence[Any], fn: Callable[[Any], Any], concurrency: int, max_retries: int, deadline: Deadline
) -> list[Any]:
    """The results of `fn(item)` in the items' order. Raises what the first failed item (in that order) raised."""
    if concurrency < 1 or max_retries < 0:
        raise ValueError(
            f"concurrency must be 1 or more and max_retries 0 or more, not {concurrency} and {max_retries}"
        )
    batch = _Batch(items, fn, max_retries, deadline)
    workers = [_worker(batch, number) for number in range(min(concurrency, len(batch.items)))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return batch.outcome()


def _worker(batch: _Batch, number: int) -> threading.Thread:
    context = contextvars.copy_context()
    name = f"{threading.current_thread().name}-{number}"
    return threading.Thread(target=context.run, args=(batch.work,), name=name, daemon=True)


class _Batch:
    def __init__(self, items: Sequence[Any], fn: Callable[[Any], Any], max_retries: int, deadline: Deadline) -> None:
        self.items = list(items)
        self._fn = fn
        self._max_retries = max_retries
        self._deadline = deadline
        self._results: list[Any] = [None] * len(self.items)
        self._errors: dict[int, BaseException] = {}
        self._todo: SimpleQueue[int] = SimpleQueue()
        for number in range(len(self.items)):
            self._todo.put(number)

    def work(self) -> None:
        while not self._errors:
            try:
                number = self._todo.get_nowait()
            except Empty:
                return
            try:
                self._results[number] = self._deadline.share(partial(self._try, self.items[number]))
            except BaseException as error:  # noqa: BLE001  (raised again in the stage's thread)
                self._errors[number] = error

    def _try(self, item: Any) -> Any:
        """One item, with its retries."""
        pause = FIRST_PAUSE_SECONDS
        for _ in range(self._max_retries):
            try:
                return self._call(item)
            except Exception as error:
                if isinstance(error, CallFailed) and error.code in HOPELESS_CODES:
                    raise
            time.sleep(min(pause, self._deadline.remaining))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        return self._call(item)

    def _call(self, item: Any) -> Any:
        return here_only(lambda: settled(self._fn(item), self._deadline))

    def outcome(self) -> list[Any]:
        if not self._errors:
            return self._results
        number = min(self._errors)
        error = self._errors[number]
        error.add_note(f"in item {number + 1} of {len(self.items)} of run_batch")
        raise error


def settled(value: Any, deadline: Deadline) -> Any:
    """The value itself, or, of an async function's call, what it comes to. StageTimeout at the deadline."""
    if not inspect.isawaitable(value):
        return value
    import asyncio  # costs 20 ms, and many tasks have no async stage

    async def bounded() -> Any:
        timer = asyncio.timeout(None)
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(deadline.remaining, lambda: look())  # noqa: PLW0108  (it is defined below)

        def look() -> None:
            """Each time it should be over: the deadline may have been held since."""
            nonlocal alarm
            if deadline.remaining > 0:
                alarm = loop.call_later(deadline.remaining, look)
            else:
                timer.reschedule(loop.time())

        try:
            async with timer:
                return await value
        except TimeoutError:
            if timer.expired():
                raise deadline.over() from None
            raise
        finally:
            alarm.cancel()

    coroutine: Coroutine[Any, Any, Any] = bounded()
    return asyncio.run(coroutine)
