"""The hub: one thread, one selector, every socket to a process actor and every process's death.

It moves frames between sockets and mailboxes, never runs an actor's code and never waits. A frame it cannot read costs
the sender its link, nothing else. What an actor cannot take now, because its mailbox is full or it is being started
again, is held for it while everything else goes on; where a link has too much held, it is not read: the sender blocks.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from pop_actors.actors.link import PARENT, RECEIVE_BYTES, settle
from pop_actors.actors.mailbox import never_wait_here
from pop_actors.actors.port import Port
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.wire import Envelope, Vocabulary
from pop_actors.core.messages import Heartbeat
from pop_actors.errors import ActorError, FrameRefused, Unavailable

__all__ = ["Hub", "Port"]

STALL_SECONDS = 0.01
VOUCH_SECONDS = 0.5
DEAF_SECONDS = 5.0
MOST_LAST_READS = 64  # of RECEIVE_BYTES each; a dead process has left less in its socket, a copy it forked may go on

_log = logging.getLogger(__name__)


class Directory(Protocol):
    """What the hub needs of the registry."""

    def ref(self, address: str) -> Ref: ...

    def accepts(self, address: str) -> bool:
        """Whether a message for `address` should be delivered now. False: hold it, somebody will take it soon."""

    def bequeath(self, address: str, message: object) -> None:
        """A dead process's last words: tell who is at `address`, or who comes next if somebody is about to."""


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
        self._holding: set[Port] = set()
        self._look_at = 0.0
        self._chunk = memoryview(bytearray(RECEIVE_BYTES))
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
        port = Port(connection, pidfd, self.vocabulary, self._wake, on_parent, on_exit)
        self._call(lambda: self._register(port))
        return port

    def _wake(self, port: Port) -> None:
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
        never_wait_here()
        while self._running:
            for key, events in self._selector.select(STALL_SECONDS if self._holding else None):
                try:
                    self._serve(key.data, events)
                except Exception:  # noqa: BLE001  (the hub outlives any single frame or socket)
                    _log.exception("the hub met an unexpected error")
            if self._holding and time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + STALL_SECONDS
                self._deliver_held()
        self._close()

    def _close(self) -> None:
        """Nothing is left open: neither the ports of processes still there, nor the hub's own descriptors."""
        with self._calls_lock:
            self._is_closed = True
        self._run_calls()  # one may be a port's that has just come
        ports = {key.data[0] for key in self._selector.get_map().values() if key.data is not None}
        for port in ports:
            self._shut(port)
            os.close(port._pidfd)
        self._selector.close()
        os.close(self._wake_reader)
        os.close(self._wake_writer)

    def _serve(self, who: tuple[Port, bool] | None, events: int) -> None:
        if who is None:
            os.read(self._wake_reader, 4096)
            self._run_calls()
            return
        port, is_death = who
        if is_death:
            self._bury(port)
        elif port._open:
            if events & selectors.EVENT_WRITE:
                port._flush()
                self._watch(port)
            if events & selectors.EVENT_READ:
                self._read(port)

    def _run_calls(self) -> None:
        with self._calls_lock:
            calls, self._calls = self._calls, []
        for call in calls:
            try:
                call()
            except Exception:  # noqa: BLE001  (one port's trouble is not the others')
                _log.exception("the hub met an unexpected error")

    def _register(self, port: Port) -> None:
        """Its death first: a process that cannot be listened to loses its link, ends itself, and is heard to."""
        self._selector.register(port._pidfd, selectors.EVENT_READ, (port, True))
        try:
            self._selector.register(port._socket, selectors.EVENT_READ, (port, False))
        except OSError:
            self._shut(port)
            raise

    def _watch(self, port: Port) -> None:
        """Look for what the port needs now: readable unless too much is held, writable while something is unsent."""
        if not port._open:
            return
        reads = 0 if port._held.is_too_much() else selectors.EVENT_READ
        events = reads | (selectors.EVENT_WRITE if port._unsent else 0)
        known = self._selector.get_map().get(port._socket)
        if known is None:
            if events:
                self._selector.register(port._socket, events, (port, False))
        elif not events:
            self._selector.unregister(port._socket)
        elif known.events != events:
            self._selector.modify(port._socket, events, (port, False))

    def _read(self, port: Port) -> bool:
        """Take what is there; False at the end of the stream."""
        try:
            size = port._socket.recv_into(self._chunk)
        except BlockingIOError:
            return True
        except OSError:
            size = 0
        if not size:
            self._shut(port)
            return False
        try:
            for payload in port._frames.feed(self._chunk[:size]):
                self._take(port, self.vocabulary.decode(payload), len(payload))
        except FrameRefused as error:
            _log.warning("a process sent what nobody can read, its link is cut: %s", error)
            self._shut(port)
            return False
        return True

    def _take(self, port: Port, envelope: Envelope, size: int) -> None:
        """One frame, whose trouble is not that of the frames behind it."""
        try:
            if envelope.to == PARENT or envelope.kind not in {"tell", "ask"}:
                self._take_own(port, envelope)
            elif port._held.waits_for(envelope.to) or not self._directory.accepts(envelope.to):
                self._hold(port, envelope, size)
            else:
                self._pass_on(port, envelope)
        except Exception:  # noqa: BLE001  (the hub outlives any single frame)
            _log.exception("the hub could not deliver a frame for %s", envelope.to)

    def _take_own(self, port: Port, envelope: Envelope) -> None:
        """What is meant for the port: answers, and what the process tells its parent. Nothing ever holds these up."""
        if envelope.kind == "tell":
            if isinstance(envelope.body, Heartbeat):
                port.last_beat = envelope.body
            port.on_parent(envelope.body)
        elif envelope.kind == "ask":
            nobody: Future[Any] = Future()
            nobody.set_exception(Unavailable("a parent is told, not asked"))
            port.answer(envelope.id, nobody)
        else:
            waiting = port._take_waiting(envelope.id)
            if waiting is not None:
                settle(waiting, envelope)

    def _pass_on(self, port: Port, envelope: Envelope) -> None:
        ref = self._directory.ref(envelope.to)
        if envelope.kind == "ask":
            number = envelope.id
            ref.request(envelope.body).add_done_callback(lambda done: port.answer(number, done))
            return
        try:
            ref.tell(envelope.body)
        except ActorError as error:  # counted and logged where it was refused
            _log.debug("told to nobody: %s: %s", envelope.to, error)

    def _hold(self, port: Port, envelope: Envelope, size: int) -> None:
        port._held.add(envelope, size)
        self._holding.add(port)
        if port._held.is_too_much():
            self._watch(port)

    def _deliver_held(self) -> None:
        now = time.monotonic()
        for port in tuple(self._holding):
            try:
                for envelope in port._held.take(self._directory.accepts):
                    self._pass_on(port, envelope)
                if not port._held:
                    self._holding.discard(port)
                self._watch(port)
                self._vouch(port, now)
            except Exception:  # noqa: BLE001  (the rest is delivered at the next look)
                _log.exception("the hub could not deliver what it held")

    def _vouch(self, port: Port, now: float) -> None:
        """A process whose link is not read cannot show that it lives; as long as that lasts its last beat is repeated.
        If it is hung, that is found once it is read again."""
        if port._held.is_too_much() and port._open and port.last_beat is not None and now >= port.vouch_at:
            port.vouch_at = now + VOUCH_SECONDS
            port.on_parent(port.last_beat)

    def _bury(self, port: Port) -> None:
        """The process is dead: take what it still said, close, tell. Its death is told whatever goes wrong before."""
        self._selector.unregister(port._pidfd)
        os.close(port._pidfd)
        try:
            for _ in range(MOST_LAST_READS):
                if not (port._open and self._drain_step(port)):
                    break
            for envelope in port._held.take(lambda _: True):
                if envelope.kind == "tell":
                    self._directory.bequeath(envelope.to, envelope.body)
        finally:
            self._shut(port)
            self._holding.discard(port)
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
        if port._socket in self._selector.get_map():
            self._selector.unregister(port._socket)
        port._shut()
