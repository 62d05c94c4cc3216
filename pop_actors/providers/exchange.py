"""One request and its reply over one connection: how long it may take and how large it may be, and what failed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from http import HTTPStatus

from pop_actors.core.chat import Usage
from pop_actors.core.rate_news import RateNews, read_rate_news
from pop_actors.providers.connections import Connections
from pop_actors.providers.content_coding import Body, Undecodable
from pop_actors.providers.endpoint import Endpoint
from pop_actors.providers.http_connection import Broken, Connection, Head, Header, NotSent, Unsendable
from pop_actors.providers.patience import Patience
from pop_actors.providers.sse import EventDecoder
from pop_actors.providers.types import AttemptFailed, Parsed, StreamParser, Wire

MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_STREAM_BYTES = 256 * 1024 * 1024  # a token's event is some 200 bytes
MAX_ERROR_BYTES = 64 * 1024
FAREWELL_SECONDS = 0.2  # for the end of a body after the reply's end, so that the connection can serve again


@dataclass(frozen=True, slots=True)
class Post:
    """What goes out."""

    target: str
    headers: list[Header] = field(repr=False)
    body: bytes = field(repr=False)


class Exchange:
    """`rate_news`: what the reply's headers said of limits, once they are here. `parser`: of the stream asked for."""

    def __init__(self, endpoint: Endpoint, wire: Wire, deadline: float, parser: StreamParser | None) -> None:
        self.rate_news: RateNews | None = None
        self._endpoint = endpoint
        self._wire = wire
        self._parser = parser
        self._head: Head | None = None
        self._patience = Patience(deadline, endpoint.idle_seconds)
        self._clock = asyncio.get_running_loop().time

    async def run(self, connections: Connections, post: Post) -> Parsed:
        """Each failure says whether the request can have been worked on."""
        try:
            connection = await connections.take(self._patience.deadline)
            self._patience.watch(connection, self._may_be_silent)
            try:
                return await self._over(connection, post)
            finally:
                self._patience.end()
                connections.give_back(connection)
        except NotSent as error:
            if self._is_late():
                raise AttemptFailed(
                    "timeout", f"not sent in time: {self._endpoint.said(error)}", "never_sent"
                ) from None
            raise AttemptFailed("connect", self._endpoint.said(error), "never_sent") from None
        except Unsendable as error:
            raise AttemptFailed("connect", self._endpoint.said(error), "permanent") from None
        except Undecodable as error:
            raise AttemptFailed("bad_reply", self._endpoint.said(error), "permanent", usage=self._billed()) from None
        except Broken as error:
            # it may have been worked on, and what a stream has told of its bill till then was billed
            if self._patience.is_spent:
                raise AttemptFailed("timeout", self._why_too_slow(), "ambiguous", usage=self._billed()) from None
            raise AttemptFailed("disconnected", self._endpoint.said(error), "ambiguous", usage=self._billed()) from None
        except AttemptFailed as failure:
            failure.usage = failure.usage or self._billed()
            failure.message = self._endpoint.without_secrets(failure.message)
            failure.args = (failure.message,)
            raise

    async def _over(self, connection: Connection, post: Post) -> Parsed:
        head = self._head = await connection.post(post.target, post.headers, post.body)
        self.rate_news = read_rate_news(head.headers, time.time())
        body = Body(connection, head)
        if not HTTPStatus.OK <= head.status < HTTPStatus.MULTIPLE_CHOICES:
            raise self._refused(head, (await _whole(body, MAX_ERROR_BYTES))[:MAX_ERROR_BYTES])
        # a server that does not stream, although it was asked to, answers as it can
        if self._parser is not None and _media_type(head) == "text/event-stream":
            reply = await self._stream(body, self._parser)
            if not connection.is_ready:
                await self._see_off(connection)
            return reply
        self._parser = None
        whole = await _whole(body, MAX_BODY_BYTES)
        if len(whole) > MAX_BODY_BYTES:
            raise _too_long("reply", MAX_BODY_BYTES)
        return self._wire.parse_reply(whole)

    def _refused(self, head: Head, body: bytes) -> AttemptFailed:
        body = self._endpoint.without_secrets(body.decode("utf-8", "replace")).encode()
        return self._wire.parse_error(head.status, head.headers, body, time.time())

    async def _stream(self, body: Body, parser: StreamParser) -> Parsed:
        decoder = EventDecoder()
        size = 0
        while not parser.done:
            chunk = await body.chunk()
            size += len(chunk)
            if size > MAX_STREAM_BYTES:
                raise _too_long("stream", MAX_STREAM_BYTES)
            for event in decoder.feed(chunk) if chunk else decoder.end():
                parser.feed(event)
            if not chunk:
                break
        return parser.close()

    async def _see_off(self, connection: Connection) -> None:
        """Read to the end of the body, if it is near: a connection is kept only then. The reply is here already, and
        was paid: who gives the call up now gives up the connection, and not the reply."""
        self._patience.hurry(FAREWELL_SECONDS)
        try:
            with contextlib.suppress(Broken):
                while await connection.chunk():
                    pass
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            assert ours is not None
            ours.uncancel()

    def _may_be_silent(self) -> bool:
        """Whether no bytes for the idle time say nothing.

        A model may think for minutes before its first word, and most vendors send nothing meanwhile, often not even the
        head: only those that keep their streams alive are held to it. A plain body that has begun comes at once.
        """
        if self._parser is None:
            return self._head is None
        return not self._parser.began and not self._endpoint.vendor.keeps_alive

    def _is_late(self) -> bool:
        return self._clock() >= self._patience.deadline

    def _why_too_slow(self) -> str:
        if self._is_late():
            return "no whole reply before the call's deadline"
        if self._patience.was_sending:
            return f"the server did not take the request: it stopped for {self._endpoint.idle_seconds:g} s"
        if self._head is None:
            return f"no reply had begun for {self._endpoint.idle_seconds:g} s, although this vendor is never so silent"
        return f"the reply stopped in the middle for {self._endpoint.idle_seconds:g} s"

    def _billed(self) -> Usage | None:
        return self._parser.usage() if self._parser else None


async def _whole(body: Body, most: int) -> bytes:
    """The body; of one that is longer than `most`, more than that."""
    chunks: list[bytes] = []
    size = 0
    while size <= most and (chunk := await body.chunk()):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _too_long(what: str, most: int) -> AttemptFailed:
    return AttemptFailed("bad_reply", f"a {what} of over {most} bytes was not taken", "permanent")


def _media_type(head: Head) -> str:
    return head.headers.get("content-type", "").partition(";")[0].strip().lower()
