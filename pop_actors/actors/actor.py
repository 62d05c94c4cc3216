"""An actor that is a thread of this process: pykka's actor with every death heard and every asker answered.

Subclasses override `receive`, and `on_start` / `on_stop` where they hold something. The parent hears `Started`, then
one `Exited`, or only `StartFailed`. An exception ends this actor and no other. What waits for it is bounded: see
`mailbox` for the policies and for who may wait.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self, cast

import pykka

from pop_actors.actors.answers import Answers, Reply, words_of
from pop_actors.actors.child import (
    NORMAL,
    SHUTDOWN,
    Beat,
    Exited,
    ExitReason,
    Launch,
    Notify,
    Started,
    StartFailed,
    nobody,
)
from pop_actors.actors.exits import a_reason
from pop_actors.actors.mailbox import (
    MAILBOX_LIMIT,
    PATIENCE_SECONDS,
    Letter,
    MailboxPolicy,
    mailbox_of,
    never_wait_here,
)
from pop_actors.actors.registry import Registry
from pop_actors.errors import AnswerFailed, Refused, StartRefused, Unavailable

START_SECONDS = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ping:
    """Asked: the actor's base answers with the messages still waiting, so the asker knows that its loop turns."""


@dataclass(frozen=True, slots=True)
class _Nudge:
    """Wakes an idle loop, which then finds that a beat is wanted."""


@dataclass(frozen=True, slots=True)
class _StopRequest:
    """The polite stop, queued behind what is there already."""


_FOR_THE_BASE = frozenset({Ping, _Nudge, _StopRequest})


class Actor(pykka.ThreadingActor):
    """Base of every thread actor. Start it with `spawn`, or under a supervisor with `thread(ItsClass, **arguments)`.

    It is an `Endpoint` (`tell`, `request`), a `Mailbox` and a `RunningChild`; all of that may be called from any
    thread. A subclass with a constructor calls `super().__init__()`.
    """

    use_daemon_thread = True
    mailbox_limit: ClassVar[int] = MAILBOX_LIMIT
    """How many messages may wait. Processes that send to it are held back at four fifths of it."""
    mailbox_policy: ClassVar[MailboxPolicy] = "block"
    """What happens at the limit: the sender of a tell waits (`block`), hears Unavailable (`refuse`), or the oldest
    message that `may_be_lost` makes room (`drop_oldest`)."""
    may_be_lost: ClassVar[frozenset[type]] = frozenset()
    """Under `drop_oldest`: the types of messages that may, when they were told."""
    starts_by_itself: ClassVar[bool] = False
    """Whether the subclass calls `started()` some time after `on_start`, instead of the base right after it."""

    def __init__(self) -> None:
        super().__init__()
        self._launch = Launch(type(self).__name__, 1, nobody)
        self.is_asked = False
        """Whether who sent the present message waits for an answer."""
        self._has_begun = False
        self._is_up = False
        self._up_since: float | None = None
        self._is_closed = False
        self._thread = 0
        self._end_reason: ExitReason | None = None
        self._busy_since: float | None = None
        self._beat_is_wanted = False
        self._answers = Answers()
        self._ended = threading.Event()

    # What a subclass overrides.

    def on_start(self) -> None:
        """Called in the actor's thread before the first message. An exception is a failed start; no `on_stop` then."""

    def on_stop(self) -> None:
        """Called in the actor's thread after the last message, also when that failed; not where `on_start` did."""

    def receive(self, message: Any) -> object:
        """Take one message. What is returned answers an ask; a `Future` answers it once it is done.

        `Refused` raised here is a declared no: the asker gets it and the actor lives on. Any other exception fails the
        actor; an asker gets AnswerFailed. Messages a subclass does not know go to `super().receive(message)`.
        """
        raise Refused("unknown_message", f"{self.address} takes no {type(message).__name__}")

    def on_stop_request(self) -> None:
        """Called in the actor's thread when it is asked to stop. The base ends at once."""
        self.end(SHUTDOWN)

    # What others use, from any thread.

    @classmethod
    def spawn(
        cls, address: str, registry: Registry, notify: Notify = nobody, /, epoch: int = 1, **arguments: Any
    ) -> Self:
        """Make and start one at `address`; `arguments` go to its constructor. What becomes of it goes to `notify`."""
        actor = cls(**arguments)
        actor._launch = Launch(address, epoch, notify, registry)
        actor._start_actor_loop()
        return actor

    @classmethod
    def start_and_wait(
        cls,
        address: str,
        registry: Registry,
        notify: Notify = nobody,
        /,
        timeout: float = START_SECONDS,
        **arguments: Any,
    ) -> Self:
        """Like `spawn`, and return once it has started. StartRefused where it does not, or not within `timeout` s."""
        outcome: Future[None] = Future()

        def hear(notice: object) -> None:
            if isinstance(notice, Started):
                outcome.set_result(None)
            elif isinstance(notice, StartFailed):
                outcome.set_exception(StartRefused(f"{address} did not start: {notice.reason}"))
            notify(cast("Any", notice))

        actor = cls.spawn(address, registry, hear, **arguments)
        try:
            outcome.result(timeout)
        except TimeoutError:
            actor.request_stop()
            raise StartRefused(f"{address} did not start within {timeout:g} s") from None
        return actor

    @property
    def address(self) -> str:
        """Where it is registered. Known from `on_start` on, not yet in the constructor."""
        return self._launch.address

    @property
    def registry(self) -> Registry:
        """Where it, and those it talks to, are found."""
        return self._launch.registry

    @property
    def pid(self) -> int | None:
        """A thread is no process of its own."""
        return None

    def tell(self, message: object) -> None:
        """Put a message in the mailbox. Where that is full the sender waits for room, at most `PATIENCE_SECONDS` and if
        its thread may; Unavailable where it is not taken, or the actor is gone."""
        if self._is_closed:
            raise self._gone_error()
        self._offer(Letter(message), PATIENCE_SECONDS)

    def request(self, message: object) -> Future[Any]:
        """Put a question in the mailbox; the future gets the answer, a `Refused`, or an `ActorError`. It returns at
        once: a thread that may wait does so in `ask`, which sends again while the mailbox is full."""
        reply = Reply()
        try:
            self._offer(Letter(message, reply), 0.0)
        except Unavailable as error:
            reply.future.set_exception(error)
        return reply.future

    def put(self, message: object) -> None:
        """Put a message in the mailbox whatever its limit: for what must not be lost. Dropped when it is gone."""
        self._mailbox.put(Letter(message))
        if self._is_closed:
            self._turn_away()

    def keep(self, message: object) -> None:
        """Like `put`, for what was left (`Registry.leave`): given back where it goes before it has taken it."""
        self._mailbox.put(Letter(message, is_left=True))
        if self._is_closed:
            self._turn_away()

    def depth(self) -> int:
        """Messages waiting."""
        return self._mailbox.qsize()

    def is_full(self) -> bool:
        """Whether whoever can wait should not send now; `tell` and `request` wait or refuse somewhat later."""
        return self._mailbox.is_full()

    def oldest_seconds(self) -> float:
        """How long the oldest message has waited; 0 where there is none."""
        return self._mailbox.oldest_seconds()

    def request_stop(self, message: object | None = None) -> None:
        """Ask it to end after what is in its mailbox: with `message` before, where one is given."""
        if message is not None:
            self.put(message)
        self.put(_StopRequest())

    def stop(self) -> None:
        """Pykka's name for `request_stop`."""
        self.request_stop()

    def kill(self) -> bool:
        """A thread cannot be killed."""
        return False

    def ping(self) -> None:
        """Have its parent hear a `Beat` as soon as it is done with its present message, however many wait behind it."""
        if not self._beat_is_wanted:
            self._beat_is_wanted = True
            self._mailbox.put(Letter(_Nudge()))

    def wait_ended(self, timeout: float | None) -> bool:
        """Whether it is gone, waiting at most `timeout` seconds for it. Its parent has heard of it by then."""
        return self._ended.wait(timeout)

    def stop_and_wait(self, timeout: float) -> bool:
        """Ask it to stop and wait; False where it is still there after `timeout` seconds."""
        self.request_stop()
        return self.wait_ended(timeout)

    def busy_seconds(self) -> float:
        """How long it has been at its present message; 0 while it waits for one."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def uptime(self) -> float:
        """Seconds since it started; 0 before."""
        return 0.0 if self._up_since is None else time.monotonic() - self._up_since

    def snapshot(self) -> dict[str, Any]:
        """What it is doing now, JSON-able. Called from other threads; a subclass adds its own keys."""
        return {
            "mailbox": self.depth(),
            "oldestSeconds": round(self.oldest_seconds(), 3),
            "busySeconds": round(self.busy_seconds(), 3),
            "unanswered": len(self._answers),
        }

    # What a subclass uses.

    def tell_self(self, message: object) -> None:
        """A message to itself, also from its own threads and timers; no limit. Unavailable when it is gone."""
        if self._is_closed:
            raise self._gone_error()
        self.put(message)

    def end(self, reason: ExitReason = NORMAL) -> None:
        """End after the present message, for this reason; what waits in the mailbox is not taken any more."""
        if self._end_reason is None:
            self._end_reason = a_reason(reason)
        self.actor_stopped.set()
        if threading.get_ident() != self._thread:
            self._mailbox.put(Letter(_Nudge()))

    @property
    def has_failed(self) -> bool:
        """Whether it is on its way out for a bad reason."""
        return self._end_reason is not None and self._end_reason.is_abnormal

    def started(self) -> None:
        """Be found by others, and have the parent hear `Started`. Only with `starts_by_itself`, and once."""
        self._is_up = True
        self._up_since = time.monotonic()
        self.registry.register(self.address, self)
        self._launch.notify(Started())

    # pykka's hooks: the loop, its three phases, and what ends it.

    def _create_actor_inbox(self) -> Any:  # type: ignore[override]  # pykka's is static and knows no policies
        name = type(self).__name__
        self._mailbox = mailbox_of(name, self.mailbox_limit, self.mailbox_policy, self.may_be_lost)
        return self._mailbox

    def _start_actor_loop(self) -> None:
        if not hasattr(self, "_ended"):
            raise TypeError(f"{type(self).__name__}'s constructor does not call super().__init__(), which it has to")
        threading.Thread(target=self._actor_loop, name=self.address, daemon=self.use_daemon_thread).start()

    def _actor_loop_setup(self) -> None:
        never_wait_here()
        self._thread = threading.get_ident()
        try:
            self.on_start()
            self._has_begun = True
            if not (self.starts_by_itself or self.actor_stopped.is_set()):
                self.started()
        except BaseException as error:  # noqa: BLE001 - every way out of a start is heard by the parent
            self._handle_failure(type(error), error, error.__traceback__)

    def _actor_loop_running(self) -> None:
        mailbox, has_stopped = self._mailbox, self.actor_stopped.is_set
        while not has_stopped():
            letter = mailbox.get()
            self._busy_since = time.monotonic()
            self._turn(letter)
            self._busy_since = None
            if self._beat_is_wanted:
                self._beat()

    def _turn(self, letter: Letter) -> None:
        """One message. An exception goes to the asker; all but a refusal end the actor."""
        reply = letter.reply_to
        self.is_asked = reply is not None
        try:
            answer = self._handle_receive(letter.message)
        except Refused as refusal:
            if reply is None:
                _log.warning("%s refused a %s it was told: %s", self.address, _name(letter), refusal)
            else:
                reply.fail(refusal)
        except BaseException as error:  # noqa: BLE001 - also a SystemExit ends this actor only, and answers its asker
            self._handle_failure(type(error), error, error.__traceback__)
            if reply is not None:
                reply.fail(AnswerFailed(f"{self.address} failed on a {_name(letter)}: {words_of(error)}"))
        else:
            if reply is not None:
                self._answers.give(reply, answer, self.address)

    def _handle_receive(self, message: Any) -> Any:
        if type(message) in _FOR_THE_BASE:
            return self._receive_own(message)
        return self.receive(message)

    def _receive_own(self, message: Any) -> Any:
        if isinstance(message, Ping):
            return self.depth()
        if isinstance(message, _StopRequest):
            return self.on_stop_request()
        return None

    def _stop(self) -> None:
        self.on_stop_request()

    def _handle_failure(
        self,
        exception_type: type[BaseException] | None,
        exception_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _log.error("%s failed", self.address, exc_info=cast("Any", (exception_type, exception_value, traceback)))
        kind = "exit" if isinstance(exception_value, SystemExit) else "exception"
        if self._end_reason is None or not self._end_reason.is_abnormal:
            self._end_reason = ExitReason(cast("Any", kind), words_of(exception_value))
        self.actor_stopped.set()

    def _actor_loop_teardown(self) -> None:
        """Leave the registry, clean up, turn away who waits, and say good-bye; the last two whatever fails."""
        self.registry.unregister(self.address, self)
        try:
            if self._has_begun:
                self.on_stop()
        except BaseException as error:  # noqa: BLE001 - a failing clean-up is the reason of the exit, and is heard
            self._handle_failure(type(error), error, error.__traceback__)
        finally:
            self._is_closed = True
            self._mailbox.close()
            self._turn_away()
            self._answers.drop(self._gone_error())
            reason = self._end_reason or NORMAL
            self._launch.notify(Exited(reason) if self._is_up else StartFailed(reason))
            self._ended.set()

    # The mailbox.

    def _turn_away(self) -> None:
        """Empty the mailbox of an actor that is gone. Whoever finds it closed after a `put` does so, too."""
        lost, left = 0, []
        while True:
            try:
                letter = self._mailbox.get_nowait()
            except queue.Empty:
                break
            if letter.reply_to is not None:
                letter.reply_to.fail(self._gone_error())
            elif letter.is_left:
                left.append(letter.message)
            elif not isinstance(letter.message, _StopRequest | _Nudge):
                lost += 1
        if left:
            self.registry.give_back(self.address, left)
        if lost:
            self.registry.undelivered.count_dropped(self.address, "they waited in its mailbox when it went", lost)

    def _offer(self, letter: Letter, patience: float) -> None:
        try:
            dropped = self._mailbox.offer(letter, patience)
        except Unavailable as error:
            self.registry.undelivered.count_refused(self.address, str(error))
            raise Unavailable(f"{self.address}: {error}") from None
        if dropped:
            self.registry.undelivered.count_dropped(self.address, "the oldest made room in a full mailbox", dropped)
        if self._is_closed:
            self._turn_away()

    def _gone_error(self) -> Unavailable:
        return Unavailable(f"{self.address} is gone")

    def _beat(self) -> None:
        self._beat_is_wanted = False
        if not self.actor_stopped.is_set():
            self._launch.notify(Beat())

    def __repr__(self) -> str:
        state = "gone" if self._is_closed else "busy" if self._busy_since is not None else "idle"
        return f"{type(self).__name__}({self.address}, {state}, {self.depth()} waiting)"

    def __str__(self) -> str:
        return repr(self)


def thread(actor: type[Actor], /, **arguments: Any) -> Callable[[Launch], Actor]:
    """A starter for a `ChildSpec`: a thread actor of this class; `arguments` go to its constructor."""
    if not (isinstance(actor, type) and issubclass(actor, Actor)):
        raise TypeError(f"thread() takes a class of Actor, and what its constructor wants by name; not {actor!r}")

    def start(launch: Launch) -> Actor:
        return actor.spawn(launch.address, launch.registry, launch.notify, epoch=launch.epoch, **arguments)

    return start


def _name(letter: Letter) -> str:
    return type(letter.message).__name__
