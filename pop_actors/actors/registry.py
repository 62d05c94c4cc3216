"""Names: which live actor answers at an address of this process. Looked up at each send, so a ref outlives restarts.

Actors register themselves when they have started; process actors' hub-side endpoints and the hub use it, too. It runs
no actor's code.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from pop_actors.errors import AskTimeout, Unavailable

RETRY_SECONDS = 0.05

_log = logging.getLogger(__name__)


class Endpoint(Protocol):
    """What can be registered: something that takes messages. Both methods return at once, from any thread."""

    def tell(self, message: object) -> None:
        """Take the message. Unavailable where it cannot be taken."""

    def request(self, message: object) -> Future[Any]:
        """Take the message; the future gets the answer, a `Refused`, or an `ActorError`."""


@runtime_checkable
class Mailbox(Protocol):
    """An endpoint that says how much waits in it."""

    def depth(self) -> int:
        """Messages waiting."""

    def is_full(self) -> bool:
        """Whether whoever can wait should not send now."""


class Registry:
    """Address → endpoint. Thread-safe."""

    def __init__(self) -> None:
        self._endpoints: dict[str, Endpoint] = {}
        self._mailboxes: dict[str, Mailbox] = {}
        self._changed = threading.Condition()

    def register(self, address: str, endpoint: Endpoint) -> None:
        """From now on messages for `address` go to `endpoint`; the one before it, if any, gets no more."""
        with self._changed:
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
                self._mailboxes.pop(address, None)

    def find(self, address: str) -> Endpoint | None:
        """Who answers at `address` now."""
        return self._endpoints.get(address)

    def is_registered(self, address: str) -> bool:
        """Whether somebody answers at `address` now."""
        return address in self._endpoints

    def find_other(self, address: str, tried: Endpoint | None, seconds: float) -> Endpoint | None:
        """Who answers at `address`: somebody else than `tried`, or after at most `seconds` whoever is there."""
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

    def __repr__(self) -> str:
        return f"Registry({', '.join(sorted(self._endpoints))})"


@dataclass(frozen=True, slots=True)
class LocalRef:
    """An address in this process. A `Ref` (see `process_actor`)."""

    registry: Registry
    address: str

    def tell(self, message: object) -> None:
        """Send and go on; dropped where nobody is there. Unavailable where the mailbox is full."""
        endpoint = self.registry.find(self.address)
        if endpoint is None:
            _log.debug("nobody at %s to take a %s", self.address, type(message).__name__)
            return
        endpoint.tell(message)

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
