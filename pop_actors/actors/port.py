"""The daemon's end of one process: what waits to be sent, who waits for its answers, what is held of what it sent.

Any thread may send; the rest is the hub's, in the hub's thread.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from itertools import count
from typing import Any

from pop_actors.actors.held import Held
from pop_actors.actors.link import PARENT, refusal_body
from pop_actors.actors.wire import REPLY, Envelope, FrameReader, Kind, Vocabulary
from pop_actors.core.messages import Heartbeat
from pop_actors.errors import ActorError, FrameRefused, Unavailable

SEND_BUFFER_BYTES = 64 * 1024 * 1024

_log = logging.getLogger(__name__)


class Port:
    """`on_parent` and `on_exit` are called in the hub's thread and return at once."""

    def __init__(
        self,
        connection: socket.socket,
        pidfd: int,
        vocabulary: Vocabulary,
        wake: Callable[[Port], None],
        on_parent: Callable[[object], None],
        on_exit: Callable[[], None],
    ) -> None:
        """`wake(port)` has the hub send the rest as soon as the socket takes it."""
        self.on_parent = on_parent
        self.on_exit = on_exit
        self.last_beat: Heartbeat | None = None
        self.vouch_at = 0.0
        self._vocabulary = vocabulary
        self._wake = wake
        self._socket = connection
        self._pidfd = pidfd
        self._frames = FrameReader()
        self._held = Held()
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._numbers = count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._open = True

    def tell(self, message: object) -> None:
        """A message to the process. Unavailable where it is gone or does not read."""
        self._send(Envelope(PARENT, "tell", 0, message))

    def request(self, message: object) -> Future[Any]:
        """A question to the process. The future cannot be cancelled; Unavailable where the process goes first."""
        number = next(self._numbers)
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self._waiting[number] = future
        try:
            self._send(Envelope(PARENT, "ask", number, message))
        except ActorError as error:
            if self._take_waiting(number) is not None:
                future.set_exception(error)
        return future

    def answer(self, number: int, done: Future[Any]) -> None:
        """Send what became of the process's ask, as well as it can be sent."""
        error = CancelledError() if done.cancelled() else done.exception()
        kind: Kind = REPLY if error is None else "refusal"
        body = done.result() if error is None else refusal_body(error)
        try:
            try:
                self._send(Envelope(PARENT, kind, number, body))
            except FrameRefused as refused:
                self._send(Envelope(PARENT, "refusal", number, refusal_body(refused)))
        except Unavailable:
            _log.debug("an answer came after its asker was gone")

    def _take_waiting(self, number: int) -> Future[Any] | None:
        """The asker's future, to exactly one of those who complete it: the answer, a failed send, the end."""
        return self._waiting.pop(number, None)

    def _send(self, envelope: Envelope) -> None:
        frame = self._vocabulary.encode(envelope)
        with self._lock:
            if not self._open:
                raise Unavailable("the process is gone")
            if self._unsent:
                self._add_unsent(frame)
                return
            sent = self._push(frame)
            if sent < len(frame):
                self._unsent += memoryview(frame)[sent:]
                self._wake(self)

    def _add_unsent(self, frame: bytes) -> None:
        if len(self._unsent) + len(frame) > SEND_BUFFER_BYTES:
            raise Unavailable("the process does not read what it is sent")
        self._unsent += frame

    def _push(self, data: bytes | bytearray) -> int:
        """How much the socket took. All of it where the other end is gone: the hub hears of that by itself."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def _flush(self) -> None:
        with self._lock:
            if self._unsent:
                del self._unsent[: self._push(self._unsent)]

    def _shut(self) -> None:
        """Close the socket; who waits for an answer hears that the process is gone."""
        with self._lock:
            self._open = False
            self._unsent.clear()
            self._socket.close()
        while True:
            try:
                _, future = self._waiting.popitem()
            except KeyError:
                return
            future.set_exception(Unavailable("the process is gone"))

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"Port(fd {self._socket.fileno()}, {state}, {len(self._unsent)} bytes to send, {self._held})"
