"""Answers to asks: given at once, or when a future is done; never left out, also where the actor that owes them dies.

Thread actors keep one `Answers` each. A future may be completed in any thread.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any

from pop_actors.errors import ActorError, AnswerFailed, Refused

_log = logging.getLogger(__name__)


class Reply:
    """The future an asker waits for. It is completed once; an asker that has cancelled it is left alone."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: Future[Any] = Future()

    def set(self, value: object) -> None:
        try:
            self.future.set_result(value)
        except InvalidStateError:
            return

    def fail(self, error: BaseException) -> None:
        try:
            self.future.set_exception(error)
        except InvalidStateError:
            return


class Answers:
    """Those an actor still owes. Thread-safe."""

    def __init__(self) -> None:
        self._owed: set[Reply] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._owed)

    def give(self, reply: Reply, answer: object, address: str) -> None:
        """Pass the answer on; a future's result once it is done. `address` is who answers, for errors."""
        if not isinstance(answer, Future):
            reply.set(answer)
            return
        with self._lock:
            self._owed.add(reply)
        answer.add_done_callback(lambda done: self._settle(reply, done, address))

    def drop(self, error: ActorError) -> None:
        """Fail all that are owed: their actor is gone."""
        with self._lock:
            owed, self._owed = self._owed, set()
        for reply in owed:
            reply.fail(error)

    def _settle(self, reply: Reply, done: Future[Any], address: str) -> None:
        """In whatever thread completed the future: pass its result on, unless the actor died before."""
        with self._lock:
            if reply not in self._owed:
                return
            self._owed.remove(reply)
        error = CancelledError("cancelled") if done.cancelled() else done.exception()
        if error is None:
            reply.set(done.result())
        elif isinstance(error, Refused | ActorError):
            reply.fail(error)
        else:
            _log.error("%s: an answer failed", address, exc_info=error)
            reply.fail(AnswerFailed(f"{address}: {words_of(error)}"))


def words_of(error: BaseException | None) -> str:
    """An error for people: its type and what it says."""
    return f"{type(error).__name__}: {error}"
