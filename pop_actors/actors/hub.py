"""The hub: one thread, one selector, every socket to a process actor and every process's death.

It moves frames between sockets and mailboxes and never runs an actor's code. A frame it cannot read costs the sender
its link, nothing else. While an actor's mailbox is full, the links that write to it are not read: the sender blocks.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from typing import Any, Protocol

from pop_actors.actors.link import PARENT, RECEIVE_BYTES, refusal_body, settle
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.wire import REPLY, Envelope, FrameReader, Kind, Vocabulary
from pop_actors.errors import ActorError, FrameRefused, Unavailable

SEND_BUFFER_BYTES = 64 * 1024 * 1024
STALL_SECONDS = 0.01
DEAF_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Directory(Protocol):
    """What the hub needs of the registry."""

    def ref(self, address: str) -> Ref: ...

    def is_full(self, address: str) -> bool: ...


class Port:
    """The daemon's end of one process: its socket, what waits to be sent, who hears what it says to its parent.

    Any thread may send. `on_parent` and `on_exit` are called in the hub's thread and return at once.
    """

    def __init__(
        self,
        hub: Hub,
        connection: socket.socket,
        pidfd: int,
        on_parent: Callable[[object], None],
        on_exit: Callable[[], None],
    ) -> None:
        self.on_parent = on_parent
        self.on_exit = on_exit
        self._hub = hub
        self._socket = connection
        self._pidfd = pidfd
        self._frames = FrameReader()
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._numbers = count(1)
        self._waiting: dict[int, Future[Any]] = {}
        self._held: list[Envelope] = []
        self._open = True

    def tell(self, message: object) -> None:
        """A message to the process. Unavailable where it is gone or does not read."""
        self._send(Envelope(PARENT, "tell", 0, message))

    def request(self, message: object) -> Future[Any]:
        """A question to the process. The future cannot be cancelled; Unavailable where the process goes first."""
        number = next(self._numbers)
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            self._waiting[number] = future
        try:
            self._send(Envelope(PARENT, "ask", number, message))
        except ActorError as error:
            if self._take_waiting(number) is not None:
                future.set_exception(error)
        return future

    def _take_waiting(self, number: int) -> Future[Any] | None:
        """The asker's future, to exactly one of those who complete it: the answer, a failed send, the end."""
        with self._lock:
            return self._waiting.pop(number, None)

    def _send(self, envelope: Envelope) -> None:
        frame = self._hub.vocabulary.encode(envelope)
        with self._lock:
            if not self._open:
                raise Unavailable("the process is gone")
            if len(self._unsent) + len(frame) > SEND_BUFFER_BYTES:
                raise Unavailable("the process does not read what it is sent")
            self._unsent += frame
            if len(self._unsent) == len(frame):
                self._push()
            if self._unsent:
                self._hub.wake(self)

    def _push(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
            return
        del self._unsent[:sent]

    def __repr__(self) -> str:
        return (
            f"Port(fd {self._socket.fileno()}, {'open' if self._open else 'closed'}, {len(self._unsent)} bytes to send)"
        )


class Hub:
    """The thread that owns every socket and pidfd of process actors."""

    def __init__(self, vocabulary: Vocabulary, directory: Directory) -> None:
        self.vocabulary = vocabulary
        self._directory = directory
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, None)
        self._calls: list[Callable[[], None]] = []
        self._calls_lock = threading.Lock()
        self._is_closed = False
        self._stalled: set[Port] = set()
        self._running = False
        self._thread = threading.Thread(target=self._turn_for_ever, name="hub", daemon=True)

    def start(self) -> None:
        self._running = True
        self._thread.start()

    def stop(self) -> None:
        """End the thread; ports still open are closed. A second call does nothing."""
        if self._running:
            self._running = False
            self._call(lambda: None)
            self._thread.join(DEAF_SECONDS)

    def is_turning(self) -> bool:
        """Whether the thread answers within `DEAF_SECONDS`."""
        answered = threading.Event()
        self._call(answered.set)
        return answered.wait(DEAF_SECONDS)

    def attach(
        self, connection: socket.socket, pid: int, on_parent: Callable[[object], None], on_exit: Callable[[], None]
    ) -> Port:
        """Take over a process's socket and its death. ProcessLookupError where the process is gone already."""
        pidfd = os.pidfd_open(pid)
        connection.setblocking(False)  # noqa: FBT003  (the standard library's own signature)
        port = Port(self, connection, pidfd, on_parent, on_exit)
        self._call(lambda: self._register(port))
        return port

    def wake(self, port: Port) -> None:
        """Have the rest of what a port has to send go out when its socket takes it."""
        self._call(lambda: self._watch(port))

    def _call(self, action: Callable[[], None]) -> None:
        with self._calls_lock:
            if self._is_closed:
                return
            self._calls.append(action)
            if len(self._calls) == 1:
                os.write(self._wake_writer, b"x")

    def _turn_for_ever(self) -> None:
        while self._running:
            try:
                self._turn()
            except Exception:  # noqa: BLE001  (the hub outlives any single frame or socket)
                _log.exception("the hub met an unexpected error")
        self._close()

    def _close(self) -> None:
        """Nothing is left open: neither the ports of processes still there, nor the hub's own descriptors."""
        ports = {key.data[0] for key in self._selector.get_map().values() if key.data is not None}
        for port in ports:
            self._shut(port)
            os.close(port._pidfd)
        self._selector.close()
        with self._calls_lock:
            self._is_closed = True
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    def _turn(self) -> None:
        timeout = STALL_SECONDS if self._stalled else None
        for key, events in self._selector.select(timeout):
            if key.data is None:
                self._run_calls()
                continue
            port, is_death = key.data
            if is_death:
                self._bury(port)
            elif port._open:
                if events & selectors.EVENT_WRITE:
                    self._flush(port)
                if events & selectors.EVENT_READ:
                    self._read(port)
        for port in tuple(self._stalled):
            self._deliver_held(port)

    def _run_calls(self) -> None:
        os.read(self._wake_reader, 4096)
        with self._calls_lock:
            calls, self._calls = self._calls, []
        for call in calls:
            try:
                call()
            except Exception:  # noqa: BLE001  (one port's trouble is not the others')
                _log.exception("the hub met an unexpected error")

    def _register(self, port: Port) -> None:
        self._selector.register(port._socket, selectors.EVENT_READ, (port, False))
        self._selector.register(port._pidfd, selectors.EVENT_READ, (port, True))

    def _watch(self, port: Port) -> None:
        """Look for what the port needs now: readable unless stalled, writable while something is unsent."""
        if not port._open:
            return
        events = (0 if port in self._stalled else selectors.EVENT_READ) | (selectors.EVENT_WRITE if port._unsent else 0)
        known = port._socket in self._selector.get_map()
        if events and known:
            self._selector.modify(port._socket, events, (port, False))
        elif events:
            self._selector.register(port._socket, events, (port, False))
        elif known:
            self._selector.unregister(port._socket)

    def _flush(self, port: Port) -> None:
        with port._lock:
            port._push()
        self._watch(port)

    def _read(self, port: Port) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            chunk = port._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            chunk = b""
        if not chunk:
            self._shut(port)
            return False
        try:
            for payload in port._frames.feed(chunk):
                self._deliver(port, self.vocabulary.decode(payload))
        except FrameRefused as error:
            _log.warning("a process sent what nobody can read, its link is cut: %s", error)
            self._shut(port)
            return False
        return True

    def _deliver(self, port: Port, envelope: Envelope) -> None:
        if port._held or (envelope.to != PARENT and self._directory.is_full(envelope.to)):
            port._held.append(envelope)
            self._stalled.add(port)
            self._watch(port)
            return
        if envelope.kind == "tell":
            self._tell(port, envelope)
        elif envelope.kind == "ask":
            number = envelope.id
            future = self._directory.ref(envelope.to).request(envelope.body)
            future.add_done_callback(lambda done: _answer(port, number, done))
        else:
            waiting = port._take_waiting(envelope.id)
            if waiting is not None:
                settle(waiting, envelope)

    def _tell(self, port: Port, envelope: Envelope) -> None:
        if envelope.to == PARENT:
            port.on_parent(envelope.body)
            return
        try:
            self._directory.ref(envelope.to).tell(envelope.body)
        except Unavailable as error:
            _log.debug("told to nobody: %s: %s", envelope.to, error)

    def _deliver_held(self, port: Port) -> None:
        held, port._held = port._held, []
        self._stalled.discard(port)
        for envelope in held:
            self._deliver(port, envelope)
        self._watch(port)

    def _bury(self, port: Port) -> None:
        """The process is dead: take what it still said, close, tell."""
        while port._open and self._drain_step(port):
            pass
        self._shut(port)
        held, port._held = port._held, []
        self._stalled.discard(port)
        for envelope in held:
            if envelope.kind == "tell":
                self._tell(port, envelope)
        self._selector.unregister(port._pidfd)
        os.close(port._pidfd)
        port.on_exit()

    def _drain_step(self, port: Port) -> bool:
        try:
            if not port._socket.recv(1, socket.MSG_PEEK):
                return False
        except OSError:
            return False
        return self._read(port)

    def _shut(self, port: Port) -> None:
        if not port._open:
            return
        with port._lock:
            port._open = False
            port._unsent.clear()
            waiting, port._waiting = port._waiting, {}
        if port._socket in self._selector.get_map():
            self._selector.unregister(port._socket)
        port._socket.close()
        for future in waiting.values():
            future.set_exception(Unavailable("the process is gone"))


def _answer(port: Port, number: int, done: Future[Any]) -> None:
    error = done.exception()
    kind: Kind = REPLY if error is None else "refusal"
    body = done.result() if error is None else refusal_body(error)
    try:
        try:
            port._send(Envelope(PARENT, kind, number, body))
        except FrameRefused as refused:
            port._send(Envelope(PARENT, "refusal", number, refusal_body(refused)))
    except Unavailable:
        _log.debug("an answer came after its asker was gone")
