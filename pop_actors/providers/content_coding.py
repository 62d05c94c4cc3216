"""A reply's body as it is meant: what a server compressed, although it was not asked to, is unpacked.

Never more at once than a piece, so that whoever reads can stop in time. A coding that is not known stays as it is, and
makes no sense to whoever reads it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from pop_actors.providers.http_connection import Connection, Head

PIECE = 256 * 1024
_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_EITHER = zlib.MAX_WBITS | 32  # gzip's head or zlib's
_BARE = -zlib.MAX_WBITS  # what some servers take deflate to be


class Undecodable(Exception):
    """The body is not what its header says it is."""


class Body:
    """The body of one reply."""

    def __init__(self, connection: Connection, head: Head) -> None:
        coding = head.headers.get("content-encoding", "").strip().lower()
        self._connection = connection
        self._inflater = Inflater() if coding in _CODINGS else None
        self._unpacked: Iterator[bytes] = iter(())

    async def chunk(self) -> bytes:
        """The next of it; empty at its end. Broken; Undecodable."""
        if self._inflater is None:
            return await self._connection.chunk()
        while True:
            piece = next(self._unpacked, b"")
            if piece:
                return piece
            chunk = await self._connection.chunk()
            if not chunk:
                return b""
            self._unpacked = self._inflater.feed(chunk)


class Inflater:
    """Of gzip and deflate. Pure."""

    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(_EITHER)
        self._has_begun = False

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """What the chunk, the next of the body, unpacks to, in pieces. Undecodable."""
        try:
            piece = self._first(chunk)
            while piece:
                yield piece
                piece = self._inflate.decompress(self._inflate.unconsumed_tail, PIECE)
        except zlib.error as error:
            raise Undecodable(f"the body cannot be unpacked: {error}") from None

    def _first(self, chunk: bytes) -> bytes:
        try:
            piece = self._inflate.decompress(chunk, PIECE)
        except zlib.error:
            if self._has_begun:
                raise
            self._inflate = zlib.decompressobj(_BARE)
            piece = self._inflate.decompress(chunk, PIECE)
        self._has_begun = True
        return piece
