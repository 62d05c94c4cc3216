"""An actor that is a process of its own: the base class, and what it is handed.

Lives in the child only. The main thread runs the actor: it takes one message at a time from the mailbox. The link's
thread fills the mailbox, answers asks and sends heartbeats; it never runs the actor's code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Protocol

from pop_actors.actors.link import Question
from pop_actors.core.messages import Stop
from pop_actors.errors import ActorError, Refused


class Ref(Protocol):
    """An actor's address, wherever the actor lives. Names are looked up at each send, so a ref outlives restarts."""

    @property
    def address(self) -> str: ...

    def tell(self, message: object) -> None:
        """Send and go on. The message is dropped where nobody is there to take it."""

    def request(self, message: object) -> Future[Any]:
        """Send; the future gets the answer, a `Refused`, or `Unavailable` where nobody can answer."""

    def ask(self, message: object, timeout: float) -> Any:
        """Send and wait. AskTimeout after `timeout` seconds; while nobody is there, the message is sent again."""


@dataclass(frozen=True, slots=True)
class ProcessContext:
    """What a process actor is handed: its address, its incarnation, and refs to others by address."""

    address: str
    epoch: int
    ref: Callable[[str], Ref]
    mailbox: SimpleQueue[object]
    ready: Callable[[], None] = lambda: None
    """Tells the supervisor that the actor has started; again does nothing."""


class ProcessActor:
    """Base of actors that live in a process of their own.

    Override `on_start` (before the first message) and `on_receive`. Call `stop()` to end after the current message:
    the process then exits with reason `normal`. An exception out of either ends it as a failure. Anything the actor's
    own threads want to tell it goes through `self.context.mailbox.put(message)`.
    """

    def __init__(self, context: ProcessContext) -> None:
        self.context = context
        self._running = True

    def on_start(self) -> None:
        """Called once, in the main thread, before the first message. The actor has started when it is through, or when
        it calls `self.context.ready()`; what fails before that is a failed start. `stop()` before that means that
        there is nothing to do: no failure, and no child."""

    def on_receive(self, message: object) -> None:
        """Called for each message, in the main thread; an ask comes as a `Question`, and `Refused` raised on one is
        its answer. What a subclass does not know it passes on here: the supervisor's `Stop` then ends it."""
        if isinstance(message, Stop):
            self.stop()

    def stop(self) -> None:
        """End after the message being handled."""
        self._running = False

    def run(self) -> None:
        """The actor's life: start, then one message after the other until `stop()`."""
        self.on_start()
        if not self._running:  # nothing to do: no failure, and no child
            return
        self.context.ready()
        while self._running:
            self._turn(self.context.mailbox.get())

    def _turn(self, message: object) -> None:
        """One message. Whoever asked hears of a failure, or the same question would fail the next incarnation, too."""
        if not isinstance(message, Question):
            self.on_receive(message)
            return
        try:
            self.on_receive(message)
        except Refused as refusal:
            message.fail(refusal)
        except BaseException as error:
            with contextlib.suppress(ActorError):  # nobody is left to hear it
                message.fail(error)
            raise
