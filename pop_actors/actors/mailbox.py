"""An actor's mailbox: what waits for it, in order, bounded by the policy its actor states.

Any thread puts letters in, the actor's own takes them out. What happens at the bound:

block        The sender waits for room, at most so long; a process's link holds what it sent, and then is not read.
refuse       The sender hears Unavailable at once.
drop_oldest  The oldest letter that may be lost makes room. Where none may be, as with `block`.

A thread that others wait for never waits for room itself, or two full mailboxes could wait for each other for ever:
the threads of actors, of the hub and of timers, and any thread that runs an event loop. Under `block` and
`drop_oldest` what they send goes in above the bound, up to `OVERFLOW` times the limit. That is enough: they send
because of what they took, and what they take came in below the bounds.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import deque
from itertools import count
from typing import Any, Literal, get_args

from pop_actors.errors import Unavailable

MailboxPolicy = Literal["block", "refuse", "drop_oldest"]

MAILBOX_LIMIT = 100_000
FULL_AT = 0.8
OVERFLOW = 10
PATIENCE_SECONDS = 10.0

_this_thread = threading.local()


def never_wait_here() -> None:
    """Others wait for the calling thread: from now on it does not wait for room in mailboxes."""
    _this_thread.never_waits = True


def may_wait_here() -> bool:
    """Whether the calling thread may wait for room in a mailbox."""
    if getattr(_this_thread, "never_waits", False):
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


class Letter:
    """A message on its way, who waits for its answer, when (monotonic seconds) it was put in the mailbox, and whether
    it was left: it must not be lost with its reader."""

    __slots__ = ("at", "is_left", "message", "reply_to")

    def __init__(self, message: object, reply_to: Any = None, *, is_left: bool = False) -> None:
        self.message = message
        self.reply_to = reply_to
        self.is_left = is_left
        self.at = time.monotonic()


class Mailbox:
    """Letters in order. `put`, `offer` and the readings from any thread; `get` from one."""

    def __init__(self, limit: int = MAILBOX_LIMIT, *, refuses: bool = False) -> None:
        """`refuses`: at the limit nobody waits for room."""
        self.limit = limit
        self._full_at = int(limit * FULL_AT)
        self._refuses = refuses
        self._letters: deque[Letter] = deque()
        self._tokens: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._waiting_for_room = 0
        self._is_closed = False

    def put(self, letter: Letter) -> None:
        """Add a letter whatever the limit: for what must not be lost and has a bound of its own."""
        self._letters.append(letter)
        self._tokens.put(None)

    def offer(self, letter: Letter, patience: float = PATIENCE_SECONDS) -> int:
        """Add a letter, below the limit or by the policy; waits at most `patience` seconds for room.

        The letters that were dropped for it; Unavailable where it is not taken.
        """
        if len(self._letters) >= self.limit:
            self._pass_the_bound(patience)
        self._letters.append(letter)
        self._tokens.put(None)
        return 0

    def get(self, timeout: float | None = None) -> Letter:
        """The oldest letter; waits for one. `queue.Empty` after `timeout` seconds."""
        self._tokens.get(timeout=timeout)
        letter = self._pop()
        if self._waiting_for_room:
            self._tell_of_room()
        return letter

    def get_nowait(self) -> Letter:
        """The oldest letter; `queue.Empty` where there is none."""
        self._tokens.get_nowait()
        return self._pop()

    def close(self) -> None:
        """Nobody reads any more: who waits for room is sent away. Letters can still be put, and taken."""
        with self._room:
            self._is_closed = True
            self._room.notify_all()

    def qsize(self) -> int:
        """Letters waiting."""
        return len(self._letters)

    def is_full(self) -> bool:
        """Whether whoever can wait should not send now. It is so somewhat below the limit; never, where it refuses."""
        return len(self._letters) >= self._full_at and not self._refuses

    def oldest_seconds(self) -> float:
        """How long the oldest letter has waited; 0 where there is none."""
        letter = self._peek()
        return 0.0 if letter is None else max(0.0, time.monotonic() - letter.at)

    def _pop(self) -> Letter:
        return self._letters.popleft()

    def _peek(self) -> Letter | None:
        try:
            return self._letters[0]
        except IndexError:
            return None

    def _pass_the_bound(self, patience: float) -> None:
        """Return when one more letter may be added. Unavailable where none may, or not in time."""
        if self._refuses:
            raise self._unavailable("it refuses more")
        if not may_wait_here():
            if self.qsize() >= self.limit * OVERFLOW:
                raise self._unavailable("its reader does not keep up")
        elif not self._wait_for_room(patience):
            raise self._unavailable("it is closed" if self._is_closed else f"none was taken out in {patience:g} s")

    def _wait_for_room(self, patience: float) -> bool:
        with self._room:
            self._waiting_for_room += 1
            try:
                self._room.wait_for(lambda: self._is_closed or self.qsize() < self.limit, patience)
            finally:
                self._waiting_for_room -= 1
            return not self._is_closed and self.qsize() < self.limit

    def _tell_of_room(self) -> None:
        with self._room:
            if self.qsize() < self.limit:
                self._room.notify()

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(f"mailbox full, {self.limit} messages wait: {why}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.qsize()} of {self.limit})"


class SheddingMailbox(Mailbox):
    """A mailbox where the oldest letter that may be lost makes room for a new one.

    Both kinds wait in a deque of their own, numbered, so that dropping one is no search and the order stays.
    """

    def __init__(self, limit: int, may_be_lost: frozenset[type]) -> None:
        """Told messages of exactly these types may be lost."""
        super().__init__(limit)
        self._may_be_lost = may_be_lost
        self._lock = threading.Lock()
        self._numbers = count()
        self._kept: deque[tuple[int, Letter]] = deque()
        self._losable: deque[tuple[int, Letter]] = deque()

    def put(self, letter: Letter) -> None:
        with self._lock:
            self._add(letter)
        self._tokens.put(None)

    def offer(self, letter: Letter, patience: float = PATIENCE_SECONDS) -> int:
        with self._lock:
            if self.qsize() < self.limit:
                self._add(letter)
                self._tokens.put(None)
                return 0
            if self._losable:
                self._losable.popleft()
                self._add(letter)  # the token of the lost one stands for it
                return 1
            if self._is_losable(letter):
                return 1
        self._pass_the_bound(patience)
        self.put(letter)
        return 0

    def qsize(self) -> int:
        return len(self._kept) + len(self._losable)

    def is_full(self) -> bool:
        """Only with what must be kept: the rest makes room."""
        return len(self._kept) >= self._full_at

    def _add(self, letter: Letter) -> None:
        (self._losable if self._is_losable(letter) else self._kept).append((next(self._numbers), letter))

    def _is_losable(self, letter: Letter) -> bool:
        return type(letter.message) in self._may_be_lost and letter.reply_to is None and not letter.is_left

    def _first(self) -> deque[tuple[int, Letter]]:
        if self._kept and self._losable:
            return self._kept if self._kept[0][0] < self._losable[0][0] else self._losable
        return self._kept or self._losable

    def _pop(self) -> Letter:
        with self._lock:
            return self._first().popleft()[1]

    def _peek(self) -> Letter | None:
        with self._lock:
            first = self._first()
            return first[0][1] if first else None


def mailbox_of(owner: str, limit: int, policy: MailboxPolicy, may_be_lost: frozenset[type]) -> Mailbox:
    """The mailbox that a class of actors (`owner`) asks for; ValueError where it asks for none there is."""
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise ValueError(f"{owner}: mailbox_limit is a whole number from 1 on, not {limit!r}")
    if policy not in get_args(MailboxPolicy):
        raise ValueError(f"{owner}: mailbox_policy is one of {', '.join(get_args(MailboxPolicy))}, not {policy!r}")
    if policy != "drop_oldest":
        return Mailbox(limit, refuses=policy == "refuse")
    if not (isinstance(may_be_lost, frozenset) and may_be_lost and all(isinstance(kind, type) for kind in may_be_lost)):
        raise ValueError(f"{owner}: drop_oldest needs may_be_lost, a frozenset of message types, not {may_be_lost!r}")
    return SheddingMailbox(limit, may_be_lost)
