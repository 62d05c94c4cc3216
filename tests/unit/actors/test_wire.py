"""Messages and bytes: what `encode` makes `decode` reads, and anything else is refused by name."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.actors.wire import HEADER_BYTES, MAX_FRAME_BYTES, Envelope, FrameReader, Vocabulary
from pop_actors.errors import FrameRefused


@dataclass(frozen=True, slots=True)
class Note:
    """A message as they are in `core.messages`."""

    text: str
    number: int = 0
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stranger:
    """In nobody's vocabulary."""

    text: str = ""


WORDS = Vocabulary((Note,))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)
NOTES = st.builds(Note, st.text(st.characters(exclude_categories=("Cs",))), st.integers(-(2**53), 2**53))
MESSAGES = st.builds(Envelope, st.text("ab/-", max_size=5), st.sampled_from(["tell", "ask"]), st.integers(0, 9), NOTES)
ANSWERS = st.builds(Envelope, st.just("parent"), st.sampled_from(["reply", "refusal"]), st.integers(0, 9), JSON)


def frame(document: Any) -> bytes:
    payload = document if isinstance(document, bytes) else orjson.dumps(document)
    return len(payload).to_bytes(HEADER_BYTES, "big") + payload


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """The stream in chunks that end at these places."""
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(edges)]


@given(MESSAGES | ANSWERS)
def test_what_is_encoded_is_read_back(envelope: Envelope) -> None:
    """Messages as their own type, answers as plain JSON."""
    encoded = WORDS.encode(envelope)
    assert int.from_bytes(encoded[:HEADER_BYTES], "big") == len(encoded) - HEADER_BYTES
    assert WORDS.decode(encoded[HEADER_BYTES:]) == envelope


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 400), max_size=12))
def test_any_chunking_of_a_stream_gives_the_same_frames(payloads: list[bytes], places: list[int]) -> None:
    """Also empty frames, and cuts within a header."""
    reader = FrameReader()
    stream = b"".join(map(frame, payloads))
    assert [payload for chunk in cut(stream, places) for payload in reader.feed(chunk)] == payloads


def test_a_frame_whose_taker_fails_is_not_given_again() -> None:
    """The frames behind it are still there."""
    reader = FrameReader()
    taken: list[bytes] = []

    def take(chunk: bytes) -> None:
        for payload in reader.feed(chunk):
            taken.append(payload)
            if payload == b"bad":
                raise ValueError("cannot be taken")

    with pytest.raises(ValueError, match="cannot be taken"):
        take(frame(b"one") + frame(b"bad") + frame(b"two"))
    take(frame(b"three"))
    assert taken == [b"one", b"bad", b"two", b"three"]


def test_a_reader_keeps_nothing_of_what_it_gave_away() -> None:
    """Its buffer is as large as the frame that is not whole yet."""
    reader = FrameReader()
    for _ in range(100):
        assert list(reader.feed(frame(b"x" * 1000))) == [b"x" * 1000]
    assert list(reader.feed(frame(b"y" * 10)[:7])) == []
    assert len(reader._buffer) == 7


def test_a_header_over_the_limit_is_refused_before_its_body_comes() -> None:
    """For good: more bytes change nothing, and none of them is kept as a frame."""
    reader = FrameReader()
    too_much = (MAX_FRAME_BYTES + 1).to_bytes(HEADER_BYTES, "big")
    assert next(reader.feed(frame(b"fine") + too_much)) == b"fine"
    for _ in range(2):
        with pytest.raises(FrameRefused, match=f"{MAX_FRAME_BYTES + 1} bytes"):
            list(reader.feed(b""))


NOTE = {"to": "peer", "kind": "tell", "id": 0, "type": "Note", "body": {"text": "t"}}
MALFORMED: dict[str, tuple[Any, str]] = {
    "empty": (b"", "malformed frame"),
    "not JSON": (b"{", "malformed frame"),
    "not UTF-8": (b'{"to": "\xff"}', "malformed frame"),
    "a lone surrogate": (b'"\\ud800"', "malformed frame"),
    "too deep": (b"[" * 5000 + b"]" * 5000, "malformed frame"),
    "a list": ([1], "malformed frame"),
    "a string": ("tell", "malformed frame"),
    "a field short": ({key: value for key, value in NOTE.items() if key != "id"}, "malformed frame: KeyError: 'id'"),
    "another kind": ({**NOTE, "kind": "shout"}, "kind 'shout'"),
    "a kind that cannot be hashed": ({**NOTE, "kind": ["tell"]}, "kind"),
    "a kind that is an object": ({**NOTE, "kind": {"tell": 1}}, "kind"),
    "an address that is none": ({**NOTE, "to": 7}, "to 7"),
    "a number that is none": ({**NOTE, "id": "1"}, "id '1'"),
    "a truth for a number": ({**NOTE, "id": True}, "id True"),
    "an unknown type": ({**NOTE, "type": "Stranger"}, "unknown message 'Stranger'"),
    "a type that cannot be hashed": ({**NOTE, "type": ["Note"]}, "unknown message"),
    "no type": ({**NOTE, "type": None}, "unknown message None"),
    "a body short of a field": ({**NOTE, "body": {}}, "malformed Note"),
    "a body of wrong type": ({**NOTE, "body": {"text": 1}}, "malformed Note"),
    "a body that is no object": ({**NOTE, "body": 5}, "malformed Note"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_what_encode_would_not_make_is_refused(case: str) -> None:
    """With FrameRefused and nothing else, so that it costs its sender the link and nobody more."""
    document, words = MALFORMED[case]
    payload = document if isinstance(document, bytes) else orjson.dumps(document)
    with pytest.raises(FrameRefused) as refused:
        WORDS.decode(payload)
    assert words in str(refused.value)


@given(st.binary(max_size=60) | JSON.map(orjson.dumps))
def test_no_bytes_get_another_error_out_of_decode(payload: bytes) -> None:
    """Whatever a broken process sends."""
    try:
        envelope = WORDS.decode(payload)
    except FrameRefused:
        return
    assert WORDS.decode(WORDS.encode(envelope)[HEADER_BYTES:]) == envelope


UNSENDABLE: dict[str, tuple[Envelope, str]] = {
    "of no vocabulary": (Envelope("peer", "tell", 0, Stranger()), "Stranger is no message"),
    "not JSON": (Envelope("peer", "tell", 0, Note("t", more={"a": object()})), "not JSON"),
    "with a number for a key": (Envelope("peer", "tell", 0, Note("t", more={1: 2})), "not JSON"),
    "an answer that is not JSON": (Envelope("parent", "reply", 1, {1, 2}), "not JSON"),
    "oversized": (Envelope("peer", "tell", 0, Note("x" * MAX_FRAME_BYTES)), f"{MAX_FRAME_BYTES} are allowed"),
}


@pytest.mark.parametrize("case", UNSENDABLE)
def test_what_cannot_be_sent_is_refused_where_it_is_sent(case: str) -> None:
    """The sender hears it, with the message's name; nothing goes out."""
    envelope, words = UNSENDABLE[case]
    with pytest.raises(FrameRefused) as refused:
        WORDS.encode(envelope)
    assert words in str(refused.value)
