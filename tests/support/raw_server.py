"""A server that says on its sockets just what a test tells it to, byte by byte; and a proxy before other servers.

`with RawServer(script) as server:`: `script(peer)` serves one connection in a thread of its own; when it returns, the
connection is closed. `server.open` are those whose client has not gone.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self

SECONDS = 20.0
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Peer:
    """One connection, as the server has it."""

    def __init__(self, wire: socket.socket) -> None:
        self.wire = wire
        self._seen = b""

    def request(self) -> tuple[bytes, bytes] | None:
        """The head and the body of the next request; None when there is none."""
        head = self.head()
        return None if head is None else (head, self.body(head))

    def body(self, head: bytes) -> bytes:
        """What belongs to the head that was read last. ConnectionError if it ends early."""
        length = _LENGTH.search(head)
        body = bytearray(self._seen)
        self._seen = b""
        while len(body) < (int(length[1]) if length else 0):
            came = self.wire.recv(65536)
            if not came:
                raise ConnectionError("the client has gone in the middle of its request")
            body += came
        return bytes(body)

    def head(self) -> bytes | None:
        """No more than the head; what has come of the body stays for `body`."""
        while b"\r\n\r\n" not in self._seen:
            came = self.wire.recv(65536)
            if not came:
                return None
            self._seen += came
        head, _, self._seen = self._seen.partition(b"\r\n\r\n")
        return head

    def say(self, said: bytes) -> None:
        self.wire.sendall(said)

    def reset(self) -> None:
        """End it with a reset instead of a farewell."""
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wire.close()

    def wait_for_the_end(self) -> None:
        """Until the client has gone; what it still says is lost."""
        with contextlib.suppress(ConnectionError):
            while self.wire.recv(65536):
                pass


Script = Callable[[Peer], None]


class RawServer:
    """`opened`: how many connections there were in all. `heads`: what a script notes of its requests."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._wires: set[socket.socket] = set()
        self.opened = 0
        self.heads: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name="raw-server", daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open(self) -> int:
        return len(self._wires)

    def wait_until_open(self, count: int) -> None:
        """Return once so many connections are open."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.open == count, SECONDS), f"{self.open} are open"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for wire in tuple(self._wires):
            with contextlib.suppress(OSError):
                wire.shutdown(socket.SHUT_RDWR)
        for thread in (self._thread, *self._threads):
            thread.join(SECONDS)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                wire, _ = self._socket.accept()
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._changed:
                    self.opened += 1
                    self._wires.add(wire)
                    self._changed.notify_all()
                thread = threading.Thread(target=self._serve, args=(wire,), name="raw-peer", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, wire: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._script(Peer(wire))
        with contextlib.suppress(OSError):
            wire.close()
        with self._changed:
            self._wires.discard(wire)
            self._changed.notify_all()


class Proxy(RawServer):
    """Forwards plain requests, and makes tunnels for CONNECT; `heads` are what it was asked."""

    def __init__(self, answer: bytes | None = None) -> None:
        super().__init__(self._forward)
        self._answer = answer  # to everybody, instead of doing anything

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _forward(self, peer: Peer) -> None:
        asked = peer.head()
        if asked is None:
            return
        self.heads.append(asked)
        if self._answer is not None:
            peer.say(self._answer)
            return
        verb, where, _ = asked.split(b" ", 2)
        place = where if verb == b"CONNECT" else where.split(b"/")[2]
        host, _, port = place.decode().rpartition(":")
        with socket.create_connection((host, int(port)), SECONDS) as beyond:
            beyond.settimeout(None)
            back = threading.Thread(target=_pass_on, args=(beyond, peer.wire), daemon=True)
            back.start()
            if verb == b"CONNECT":
                peer.say(b"HTTP/1.1 200 Go\r\n\r\n")
                _pass_on(peer.wire, beyond)
            else:
                self._hand_on(peer, asked, b"http://" + place, beyond)
            back.join(SECONDS)

    def _hand_on(self, peer: Peer, head: bytes, origin: bytes, beyond: socket.socket) -> None:
        """Requests to one server, as long as there are any; it is told paths, not whole addresses."""
        asked: tuple[bytes, bytes] | None = head, peer.body(head)
        while asked is not None:
            beyond.sendall(b"\r\n\r\n".join((asked[0].replace(origin, b"", 1), asked[1])))
            asked = peer.request()
        beyond.shutdown(socket.SHUT_WR)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := one.recv(65536):
            other.sendall(piece)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)
