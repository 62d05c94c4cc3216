"""Names: which live actor answers at an address of this process. Looked up at each send, so a ref outlives restarts.

Actors register themselves when they have started; process actors' hub-side endpoints and the hub use it, too. It runs
no actor's code. What could not be delivered is counted here, since a registry outlives every actor.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict, deque
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pop_actors.actors.undelivered import Undelivered
from pop_actors.errors import ActorError, AskTimeout, Unavailable

_log = logging.getLogger(__name__)

RETRY_SECONDS = 0.05
AWAY_SECONDS = 30.0
MOST_LEFT = 10_000


class Endpoint(Protocol):
    """What can be registered: something that takes messages, from any thread."""

    def tell(self, message: object) -> None:
        """Take the message. It may wait for room, where the thread may. Unavailable where it cannot be taken."""

    def request(self, message: object) -> Future[Any]:
        """Take the message; the future gets the answer, a `Refused`, or an `ActorError`. Returns at once."""


@runtime_checkable
class Mailbox(Protocol):
    """An endpoint that says how much waits in it."""

    def depth(self) -> int:
        """Messages waiting."""

    def is_full(self) -> bool:
        """Whether whoever can wait should not send now."""

    def oldest_seconds(self) -> float:
        """How long the oldest of them has waited; 0 where there is none."""

    def keep(self, message: object) -> None:
        """Take a message whatever waits already, or give it back to the registry. Returns at once."""


class Registry:
    """Address → endpoint. Thread-safe."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._mailboxes: dict[str, Mailbox] = {}
        self._went_at: OrderedDict[str, float] = OrderedDict()
        self._left: dict[str, deque[object]] = {}
        self._left_count = 0
        self._changed = threading.Condition()
        self.undelivered = Undelivered()

    def register(self, address: str, endpoint: Endpoint) -> None:
        """From now on messages for `address` go to `endpoint`; the one before it, if any, gets no more.

        What was left for it comes first.
        """
        with self._changed:
            self.undelivered.know(address)
            self._went_at.pop(address, None)
            left = self._left.pop(address, ())
            self._left_count -= len(left)
            for message in left:
                with contextlib.suppress(ActorError):  # counted where it was refused
                    _hand(message, endpoint)
            before = self._endpoints.get(address)
            if before is not None and before is not endpoint:
                _log.warning(
                    "%s is %r from now on; %r had the address, and gets no more messages", address, endpoint, before
                )
            self._endpoints[address] = endpoint
            self._mailboxes.pop(address, None)
            if isinstance(endpoint, Mailbox):
                self._mailboxes[address] = endpoint
            self._changed.notify_all()

    def unregister(self, address: str, endpoint: Endpoint) -> None:
        """Nobody is at `address` any more, unless somebody else has taken it over."""
        with self._changed:
            if self._endpoints.get(address) is endpoint:
                del self._endpoints[address]
                if self._mailboxes.pop(address, None) is not None:
                    self._note_absence(address)

    def _note_absence(self, address: str) -> None:
        now = time.monotonic()
        self._went_at[address] = now
        self._went_at.move_to_end(address)
        while self._went_at and now - next(iter(self._went_at.values())) >= AWAY_SECONDS:
            self._went_at.popitem(last=False)

    def is_away(self, address: str) -> bool:
        """Whether an actor with a mailbox went less than `AWAY_SECONDS` ago, so that the next one may come soon."""
        went_at = self._went_at.get(address)
        return went_at is not None and time.monotonic() - went_at < AWAY_SECONDS

    def accepts(self, address: str) -> bool:
        """Whether a sender that can wait should send to `address` now: not while the mailbox there is full, nor while
        the next actor is to come. Where nobody is expected, waiting is of no use."""
        mailbox = self._mailboxes.get(address)
        if mailbox is not None:
            return not mailbox.is_full()
        return address in self._endpoints or not self.is_away(address)

    def leave(self, address: str, message: object) -> None:
        """Tell whoever is at `address`, however much waits there, or who comes next: for what must not be lost, and
        whose sender has a bound of its own. An actor that goes before it took the message gives it back. MOST_LEFT
        messages wait for actors to come."""
        self._leave(address, [message])

    def give_back(self, address: str, messages: list[object]) -> None:
        """Leave again what an actor did not take before it went, in front of what has been left since."""
        self._leave(address, messages, in_front=True)

    def _leave(self, address: str, messages: list[object], *, in_front: bool = False) -> None:
        with self._changed:
            endpoint = self._endpoints.get(address)
            if endpoint is None:
                kept = messages[: max(0, MOST_LEFT - self._left_count)]
                self._left_count += len(kept)
                if kept and in_front:
                    self._left.setdefault(address, deque()).extendleft(reversed(kept))
                elif kept:
                    self._left.setdefault(address, deque()).extend(kept)
        if endpoint is not None:
            for message in messages:
                _hand(message, endpoint)
        elif lost := len(messages) - len(kept):
            self.undelivered.count_dropped(address, "too much was left for actors that do not come", lost)

    def bequeath(self, address: str, message: object) -> None:
        """The last words of a sender that is dead: like `leave` where somebody is about to come, else like `tell`."""
        try:
            if self.is_away(address):
                self.leave(address, message)
            else:
                self.ref(address).tell(message)
        except ActorError:  # counted where it was refused
            return

    def find(self, address: str) -> Endpoint | None:
        """Who answers at `address` now."""
        return self._endpoints.get(address)

    def is_registered(self, address: str) -> bool:
        """Whether somebody answers at `address` now."""
        return address in self._endpoints

    def find_other(self, address: str, tried: Endpoint | None, seconds: float) -> Endpoint | None:
        """Who answers at `address`: somebody else than `tried`, or after at most `seconds` whoever is there."""
        endpoint = self._endpoints.get(address)
        if endpoint is not None and endpoint is not tried:
            return endpoint
        if tried is not None:
            seconds = min(seconds, RETRY_SECONDS)

        def is_there() -> bool:
            endpoint = self._endpoints.get(address)
            return endpoint is not None and endpoint is not tried

        with self._changed:
            self._changed.wait_for(is_there, seconds)
            return self._endpoints.get(address)

    def ref(self, address: str) -> LocalRef:
        """A ref to whoever is at `address` at each send."""
        return LocalRef(self, address)

    def addresses(self) -> list[str]:
        """Every address where somebody answers."""
        return list(self._endpoints)

    def depth(self, address: str) -> int:
        """Messages waiting at `address`; 0 where nobody is or the endpoint keeps none."""
        mailbox = self._mailboxes.get(address)
        return 0 if mailbox is None else mailbox.depth()

    def is_full(self, address: str) -> bool:
        """Whether a sender that can wait should not send to `address` now."""
        mailbox = self._mailboxes.get(address)
        return mailbox is not None and mailbox.is_full()

    def depths(self) -> dict[str, int]:
        """Messages waiting, by address."""
        return {address: mailbox.depth() for address, mailbox in list(self._mailboxes.items())}

    def age(self, address: str) -> float:
        """How long the oldest message at `address` has waited (s); 0 where nobody is or none waits."""
        mailbox = self._mailboxes.get(address)
        return 0.0 if mailbox is None else mailbox.oldest_seconds()

    def __repr__(self) -> str:
        return f"Registry({', '.join(sorted(self._endpoints))})"


def _hand(message: object, endpoint: Endpoint) -> None:
    if isinstance(endpoint, Mailbox):
        endpoint.keep(message)
    else:
        endpoint.tell(message)


@dataclass(frozen=True, slots=True)
class LocalRef:
    """An address in this process. A `Ref` (see `process_actor`)."""

    registry: Registry
    address: str

    def tell(self, message: object) -> None:
        """Send and go on; dropped, and counted, where nobody is there. A full mailbox does as its policy says: the
        sender waits, or hears Unavailable."""
        endpoint = self.registry.find(self.address)
        if endpoint is None:
            self.registry.undelivered.count_missed(self.address, message)
            return
        endpoint.tell(message)

    def leave(self, message: object) -> None:
        """Like `tell` for what must not be lost: where nobody is there to take it, whoever comes next gets it first of
        all, and no mailbox is too full. See `Registry.leave`."""
        self.registry.leave(self.address, message)

    def request(self, message: object) -> Future[Any]:
        """Send; the future gets the answer, or Unavailable at once where nobody is there."""
        endpoint = self.registry.find(self.address)
        if endpoint is None:
            future: Future[Any] = Future()
            future.set_exception(Unavailable(f"nobody is at {self.address} now"))
            return future
        return endpoint.request(message)

    def ask(self, message: object, timeout: float) -> Any:
        """Send and wait at most `timeout` seconds. While nobody is there to answer it is sent again, as often as
        somebody new comes; then AskTimeout. A message its actor failed on is not sent again: AnswerFailed."""
        deadline = time.monotonic() + timeout
        tried: Endpoint | None = None
        while (left := deadline - time.monotonic()) > 0:
            endpoint = self.registry.find_other(self.address, tried, left)
            if endpoint is None:
                continue
            future = endpoint.request(message)
            try:
                return future.result(max(0.0, deadline - time.monotonic()))
            except Unavailable:
                tried = endpoint
            except TimeoutError:
                if future.done():  # the answer itself is a TimeoutError, or came this instant
                    return future.result()
                break
        raise AskTimeout(f"{self.address} did not answer a {type(message).__name__} in {timeout:g} s")

    def __repr__(self) -> str:
        return f"LocalRef({self.address})"
