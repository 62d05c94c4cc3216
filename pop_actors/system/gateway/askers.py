"""Those who wait for word of a call, in whatever threads: told once, or given up by themselves before that."""

from __future__ import annotations

import contextlib
import logging
from concurrent.futures import Future, InvalidStateError
from typing import Any

from pop_actors.errors import CallFailed, Unavailable

Answer = Future[dict[str, Any]]
"""Of one asker: the document of a `ChatReply`, or why there is none. It may be cancelled meanwhile."""

_log = logging.getLogger("pop_actors.gateway")


def fail(answer: Answer, error: BaseException) -> None:
    """Tell it the error, unless it has been told something before."""
    with contextlib.suppress(InvalidStateError):
        answer.set_exception(error)


def in_words(error: BaseException) -> CallFailed | Unavailable:
    """As an asker is to hear it: an error nobody declared is one of ours, and is logged."""
    if isinstance(error, CallFailed | Unavailable):
        return error
    _log.error("a call failed for a reason of our own", exc_info=error)
    return CallFailed("internal", f"the gateway failed: {type(error).__name__}: {error}")


class Askers:
    """All of one call. Used by the gateway's loop."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._alive: set[str] = set()  # asks of the process that lives now

    def add(self, answer: Answer, ask: str) -> None:
        """`ask` is what it may be withdrawn by."""
        self._answers.append(answer)
        self._alive.add(ask)

    def lose_their_job(self) -> None:
        """The process they asked from has ended: who asks from now on asks from the next."""
        self._alive.clear()

    def withdraw(self, ask: str) -> bool:
        """That one does not wait any more; whether it was the last one alive."""
        if ask not in self._alive:
            return False
        self._alive.remove(ask)
        return not self._alive

    def tell(self, document: dict[str, Any]) -> None:
        """The reply, to all who wait now."""
        answers, self._answers = self._answers, []
        for answer in answers:
            with contextlib.suppress(InvalidStateError):
                answer.set_result(document)

    def fail(self, error: BaseException) -> None:
        """The failure, to all who wait now."""
        answers, self._answers = self._answers, []
        for answer in answers:
            fail(answer, error)

    def __repr__(self) -> str:
        return f"Askers({len(self._answers)})"
