"""A process actor's end of its socket to the daemon: refs to others, its mailbox, its heartbeat.

One thread reads frames, fills the mailbox, completes asks and sends heartbeats. It never runs the actor's code. When
the daemon's end closes, the whole process group ends.
"""

from __future__ import annotations

import itertools
import logging
import mmap
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, NamedTuple

from pop_actors.actors.wire import REPLY, Envelope, FrameReader, Kind, Vocabulary
from pop_actors.core.messages import Heartbeat
from pop_actors.errors import AskTimeout, FrameRefused, Refused, Unavailable

PARENT = "parent"
UNAVAILABLE = "unavailable"
FAILED = "failed"
HEARTBEAT_SECONDS = 2.0
RECEIVE_BYTES = 262144
RETRY_SECONDS = 0.05

_log = logging.getLogger(__name__)


class Link:
    """The child's half of the wire. Thread-safe."""

    def __init__(
        self, connection: socket.socket, vocabulary: Vocabulary, address: str, epoch: int, frames: FrameReader
    ) -> None:
        """`frames` has read the stream so far."""
        self.mailbox: SimpleQueue[object] = SimpleQueue()
        self._socket = connection
        self._vocabulary = vocabulary
        self._address = address
        self._epoch = epoch
        self._frames = frames
        self._chunk = memoryview(mmap.mmap(-1, RECEIVE_BYTES))  # takes memory only as far as it is ever filled
        self._sending = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._owner = os.getpid()

    def start(self, early: Sequence[Envelope] = ()) -> None:
        """Begin reading and beating; `early` came before there was a link to take it."""
        for envelope in early:
            self._take(envelope)
        threading.Thread(target=self._read_for_ever, name="link", daemon=True).start()

    def ref(self, address: str) -> RemoteRef:
        """A ref to an actor of the daemon, or of another process, by its address."""
        return RemoteRef(self, address)

    def send(self, to: str, kind: Kind, number: int, body: object) -> None:
        """One frame out; blocks while the daemon does not read. FrameRefused where the body cannot be sent."""
        frame = self._vocabulary.encode(Envelope(to, kind, number, body))
        if os.getpid() != self._owner:
            raise Unavailable("a forked copy of a process actor has no link; only the actor itself may send")
        with self._sending:
            try:
                self._socket.sendall(frame)
            except OSError as error:
                raise Unavailable(f"the link to the daemon is down: {error}") from None

    def request(self, to: str, message: object) -> Future[Any]:
        """Ask without waiting. The future cannot be cancelled: its answer comes all the same, and is let go."""
        number = next(self._numbers)
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._waiting[number] = future
        try:
            self.send(to, "ask", number, message)
        except (FrameRefused, Unavailable) as error:
            self._waiting.pop(number, None)
            future.set_exception(error)
        return future

    def _read_for_ever(self) -> None:
        """The link's thread: without it the process would be deaf and unwatched, so its end is the process's."""
        try:
            self._beat_and_receive()
        except (Unavailable, FrameRefused) as error:
            _log.debug("the link to the daemon is over: %s", error)
        finally:
            os.killpg(0, signal.SIGKILL)

    def _beat_and_receive(self) -> None:
        beats = itertools.count(1)
        next_beat = time.monotonic()
        self._wake_up_each(HEARTBEAT_SECONDS)
        while True:
            now = time.monotonic()
            if now >= next_beat:
                next_beat = now + HEARTBEAT_SECONDS
                self.send(PARENT, "tell", 0, Heartbeat(self._address, self._epoch, next(beats)))
            self._receive()

    def _wake_up_each(self, seconds: float) -> None:
        """The kernel's own timeout of a blocking read: one call a message, where `poll` and `recv` would be two."""
        whole, rest = divmod(seconds, 1)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", int(whole), int(rest * 1_000_000))
        )

    def _receive(self) -> None:
        """Take what is there; return without anything where nothing came for a beat."""
        try:
            size = self._socket.recv_into(self._chunk)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if not size:
            raise Unavailable("the daemon's end is closed")
        for payload in self._frames.feed(self._chunk[:size]):
            self._take(self._vocabulary.decode(payload))

    def _take(self, envelope: Envelope) -> None:
        if envelope.kind == "tell":
            self.mailbox.put(envelope.body)
        elif envelope.kind == "ask":
            self.mailbox.put(Question(envelope.body, envelope.id, self))
        else:
            future = self._waiting.pop(envelope.id, None)
            if future is not None:
                settle(future, envelope)


class Question(NamedTuple):
    """An ask that reached a process actor: `answer` it, once."""

    message: object
    number: int
    link: Link

    def answer(self, value: object) -> None:
        """Send the answer, a plain JSON value."""
        self.link.send(PARENT, REPLY, self.number, value)

    def fail(self, error: BaseException) -> None:
        """Say no: the asker gets a `Refused` as it is; of anything else, that the actor failed on the question, which
        is then not asked again."""
        self.link.send(PARENT, "refusal", self.number, refusal_body(error))


@dataclass(frozen=True, slots=True)
class RemoteRef:
    """An address, seen from a process actor."""

    link: Link
    address: str

    def tell(self, message: object) -> None:
        self.link.send(self.address, "tell", 0, message)

    def request(self, message: object) -> Future[Any]:
        return self.link.request(self.address, message)

    def ask(self, message: object, timeout: float) -> Any:
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.request(message).result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise AskTimeout(f"{self.address} did not answer {type(message).__name__} in {timeout:g} s") from None
            except Unavailable:
                if time.monotonic() + RETRY_SECONDS > deadline:
                    raise
                time.sleep(RETRY_SECONDS)


def settle(future: Future[Any], envelope: Envelope) -> None:
    """Complete an ask's future from the frame that answers it."""
    if envelope.kind == REPLY:
        future.set_result(envelope.body)
        return
    refusal = envelope.body if isinstance(envelope.body, dict) else {}
    code = str(refusal.get("code", FAILED))
    message = str(refusal.get("message", ""))
    details = refusal.get("details")
    if code == UNAVAILABLE:
        future.set_exception(Unavailable(message))
    else:
        future.set_exception(Refused(code, message, details if isinstance(details, dict) else None))


def refusal_body(error: BaseException) -> dict[str, Any]:
    """The wire form of an error that answers an ask."""
    if isinstance(error, Refused):
        return {"code": error.code, "message": error.message, "details": error.details}
    code = UNAVAILABLE if isinstance(error, Unavailable) else FAILED
    return {"code": code, "message": f"{type(error).__name__}: {error}", "details": {}}
