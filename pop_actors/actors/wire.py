"""The wire form of messages between processes: length-prefixed orjson frames, tagged with the message's type.

A frame is 4 bytes of length (big endian) and a JSON object:
`{"to": address, "kind": "tell"|"ask"|"reply"|"refusal", "id": n, "type": tag, "body": {…}}`.
No pickle crosses a process. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NamedTuple, cast

import orjson
from pydantic import TypeAdapter, ValidationError

from pop_actors.errors import FrameRefused

MAX_FRAME_BYTES = 32 * 1024 * 1024
HEADER_BYTES = 4
REPLY: Final = "reply"

Kind = Literal["tell", "ask", "reply", "refusal"]
_KINDS = frozenset({"tell", "ask", "reply", "refusal"})


class Envelope(NamedTuple):
    """One decoded frame. `body` is a message for tell and ask, a JSON value for reply, {code, message, details} for
    refusal. `id` pairs an ask with its reply and is chosen by the asker."""

    to: str
    kind: Kind
    id: int
    body: Any


class Vocabulary:
    """The closed set of message types a link understands; each is a frozen dataclass, its class name is its tag."""

    def __init__(self, types: Iterable[type]) -> None:
        self._validators = {cls.__name__: TypeAdapter(cls).validator for cls in types}

    def encode(self, envelope: Envelope) -> bytes:
        """The frame of an envelope. FrameRefused where it is oversized, not JSON, or of an unknown type."""
        tag = type(envelope.body).__name__ if envelope.kind in {"tell", "ask"} else ""
        if tag and tag not in self._validators:
            raise FrameRefused(f"{tag} is no message of this vocabulary")
        document = {"to": envelope.to, "kind": envelope.kind, "id": envelope.id, "type": tag, "body": envelope.body}
        try:
            payload = orjson.dumps(document)
        except orjson.JSONEncodeError as error:
            raise FrameRefused(f"{tag or envelope.kind} for {envelope.to}: not JSON: {error}") from None
        if len(payload) > MAX_FRAME_BYTES:
            raise FrameRefused(
                f"{tag or envelope.kind} for {envelope.to}: {len(payload)} bytes, {MAX_FRAME_BYTES} are allowed"
            )
        return len(payload).to_bytes(HEADER_BYTES, "big") + payload

    def decode(self, payload: bytes | bytearray | memoryview) -> Envelope:
        """The envelope of a frame's payload. FrameRefused where it is anything else than `encode` makes."""
        try:
            document = orjson.loads(payload)
            to, kind, number = document["to"], document["kind"], document["id"]
            tag, body = document["type"], document["body"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise FrameRefused(f"malformed frame: {type(error).__name__}: {error}") from None
        if not isinstance(kind, str) or kind not in _KINDS:
            raise FrameRefused(f"malformed frame: kind {kind!r}")
        if not isinstance(to, str) or type(number) is not int:
            raise FrameRefused(f"malformed frame: to {to!r}, id {number!r}")
        if kind in {"tell", "ask"}:
            body = self._message(tag, body)
        return Envelope(to, cast("Kind", kind), number, body)

    def _message(self, tag: Any, body: Any) -> Any:
        validator = self._validators.get(tag) if isinstance(tag, str) else None
        if validator is None:
            raise FrameRefused(f"unknown message {tag!r}")
        try:
            return validator.validate_python(body)
        except ValidationError as error:
            raise FrameRefused(f"malformed {tag}: {error.errors(include_url=False)[0]['msg']}") from None


class FrameReader:
    """Cuts a stream of bytes into frames. Feed what arrives; iterate the payloads that are whole."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, chunk: bytes | memoryview) -> Iterator[bytes]:
        """The payloads completed by `chunk`; each is yielded once, also where its taker fails on it.

        FrameRefused, for good, at a frame over the limit.
        """
        buffer = self._buffer
        if not buffer and len(chunk) > HEADER_BYTES:
            length = int.from_bytes(chunk[:HEADER_BYTES], "big")
            if length == len(chunk) - HEADER_BYTES and length <= MAX_FRAME_BYTES:  # the usual case: one frame, whole
                yield bytes(chunk[HEADER_BYTES:])
                return
        buffer += chunk
        start = 0
        try:
            while len(buffer) - start >= HEADER_BYTES:
                body = start + HEADER_BYTES
                length = int.from_bytes(buffer[start:body], "big")
                if length > MAX_FRAME_BYTES:
                    raise FrameRefused(f"a frame of {length} bytes; {MAX_FRAME_BYTES} are allowed")
                if len(buffer) < body + length:
                    break
                start = body + length
                yield bytes(memoryview(buffer)[body:start])
        finally:
            del buffer[:start]
