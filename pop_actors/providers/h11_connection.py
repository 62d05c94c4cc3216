"""HTTP/1.1 straight over a socket of the loop: h11 says what the bytes mean, this moves them.

Used by one exchange at a time. Both directions have a bound: a server that reads slowly is written to slowly, and a
reply that nobody takes yet is not read further.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl

import h11

from pop_actors.providers.address import Address
from pop_actors.providers.http_connection import Broken, Head, Header, NotSent, Unsendable, joined

CONNECT_SECONDS = 10.0
NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305: when one of a name's addresses does not answer, the next is tried beside it
MAX_HEAD_BYTES = 100 * 1024
MOST_UNREAD = 256 * 1024  # of a reply, before the socket is left alone
PIECE = 64 * 1024  # of a request; also what the loop takes before it asks us to pause
# a model may think for minutes; what keeps watch meanwhile over a peer that is gone without a word
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


class DirectLine:
    """A `Line` without anybody between. `certificates`: those that are believed; of no use to plain HTTP."""

    def __init__(self, address: Address, certificates: ssl.SSLContext | None) -> None:
        self._address = address
        self._certificates = certificates if address.scheme == "https" else None

    async def open(self, deadline: float) -> H11Connection:
        loop = asyncio.get_running_loop()
        until = min(deadline, loop.time() + CONNECT_SECONDS)
        try:
            async with asyncio.timeout_at(until):
                _, connection = await loop.create_connection(
                    H11Connection,
                    self._address.host,
                    self._address.port,
                    ssl=self._certificates,
                    happy_eyeballs_delay=NEXT_ADDRESS_SECONDS,
                )
        except TimeoutError as error:
            raise NotSent(str(error) or "no connection in time") from None
        except OSError as error:
            raise NotSent(str(error) or type(error).__name__) from None
        return connection


class H11Connection(asyncio.Protocol):
    """A `Connection`, and the loop's protocol. What the loop calls sets the state and wakes the one who waits."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._waiter: asyncio.Future[None] | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._error: str | None = None
        self._head: Head | None = None
        self._chunks: list[bytes] = []
        self._unread = 0
        self._is_whole = True  # the reply: nothing more of it is to come
        self._has_ended = False  # the server's side of it
        self._unsent = 0
        self._may_write = True
        self.moved = self._loop.time()

    # What the exchange asks

    @property
    def is_sending(self) -> bool:
        return self._unsent > 0 or self._transport.get_write_buffer_size() > 0

    @property
    def is_ready(self) -> bool:
        if self._error is not None or self._transport.is_closing() or self.is_sending:
            return False
        if self._chunks:  # they came as their call was cancelled; the next would take them for its own
            return False
        ended = self._http.our_state is self._http.their_state is h11.DONE and not self._http.trailing_data[0]
        # what comes while nobody asks is the end, of which the loop has not told us yet, or the answer to nothing
        return ended and not self._watch.poll(0)

    async def post(self, target: str, headers: list[Header], body: bytes) -> Head:
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        pieces = memoryview(body)
        start = self._spoken(target, headers, pieces[:PIECE], whole=len(body) <= PIECE)
        if self._error is None and not self._transport.is_closing():
            self._head, self._is_whole = None, False
            self.moved = self._loop.time()
            self._transport.write(start)
        if self._error is not None or self._transport.is_closing():
            raise NotSent(self._error or "the server had hung up")  # not even the first bytes were taken
        if len(body) > PIECE:
            await self._send(pieces)
        while self._head is None:
            await self._something()
        return self._head

    async def chunk(self) -> bytes:
        while not self._chunks and not self._is_whole:
            await self._something()
        came = b"".join(self._chunks)
        self._chunks.clear()
        if self._unread > MOST_UNREAD:
            self._transport.resume_reading()
        self._unread = 0
        return came

    def abort(self) -> None:
        self._fail("given up")
        self._transport.abort()

    async def closed(self) -> None:
        await self._lost

    def _spoken(self, target: str, headers: list[Header], piece: memoryview, *, whole: bool) -> bytes:
        try:
            spoken = [
                self._http.send(h11.Request(method="POST", target=target, headers=headers)),
                self._http.send(_data(piece)),
            ]
            if whole:
                spoken.append(self._http.send(h11.EndOfMessage()))
        except h11.LocalProtocolError as error:
            raise Unsendable(str(error)) from None
        return b"".join(part for part in spoken if part)

    async def _send(self, body: memoryview) -> None:
        """All but the first piece, for as long as the server says nothing: what it says before the end is a refusal."""
        self._unsent = len(body) - PIECE
        while self._unsent and self._head is None:
            if not self._may_write or self._error is not None:
                await self._something()
            elif self._watch.poll(0):
                await asyncio.sleep(0)  # hear it first: where writing fails, the loop reads no more
            else:
                piece = body[-self._unsent :][:PIECE]
                self._transport.write(self._http.send(_data(piece)) or b"")
                self._unsent -= len(piece)
                self.moved = self._loop.time()
        if not self._unsent:
            self._http.send(h11.EndOfMessage())
        self._unsent = 0

    async def _something(self) -> None:
        """Wait until something has happened. Broken when nothing can any more."""
        if self._error is not None:
            raise Broken(self._error)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(PIECE)
        wire = transport.get_extra_info("socket")
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEP_ALIVE:
            wire.setsockopt(socket.IPPROTO_TCP, option, value)
        self._watch = select.poll()
        self._watch.register(wire.fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        self.moved = self._loop.time()
        if self._is_whole:
            self.abort()  # nobody has asked for that
            return
        self._http.receive_data(data)
        self._read()
        if self._unread > MOST_UNREAD:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        if not self._is_whole:
            self._has_ended = True
            self._http.receive_data(b"")
            self._read()  # for some replies this is how they end
        self._fail("the server hung up")

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(str(error) if error else "the connection has ended")
        if not self._lost.done():  # whoever waited may have been cancelled
            self._lost.set_result(None)

    def pause_writing(self) -> None:
        self._may_write = False

    def resume_writing(self) -> None:
        self._may_write = True
        self.moved = self._loop.time()
        self._wake()

    def _read(self) -> None:
        try:
            while not self._is_whole:
                event = self._http.next_event()
                if isinstance(event, h11.Data):
                    self._chunks.append(bytes(event.data))
                    self._unread += len(event.data)
                elif isinstance(event, h11.Response):
                    self._head = Head(event.status_code, joined(event.headers.raw_items()))
                elif isinstance(event, h11.EndOfMessage):
                    self._is_whole = True
                elif not isinstance(event, h11.InformationalResponse):
                    return  # no more of it is here
        except h11.RemoteProtocolError as error:
            self._fail(f"what came is no HTTP: {error}" if not self._has_ended else self._why_too_short())

    def _why_too_short(self) -> str:
        if self._head is None:
            return "the server closed the connection before it replied"
        return "the server closed the connection before its reply was whole"

    def _fail(self, why: str) -> None:
        self._error = self._error or why
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __repr__(self) -> str:
        return f"H11Connection({self._http.our_state}, {self._http.their_state}, {self._error or 'open'})"


def _data(piece: memoryview) -> h11.Data:
    return h11.Data(data=piece)  # type: ignore[arg-type]  # a buffer of any kind will do
