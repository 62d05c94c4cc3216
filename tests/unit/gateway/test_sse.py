"""Server-sent events: read whole, however the network cut them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.providers import sse
from pop_actors.providers.sse import EventDecoder
from pop_actors.providers.types import AttemptFailed, ServerEvent


def decoded(*chunks: bytes) -> list[ServerEvent]:
    decoder = EventDecoder()
    return [*(event for chunk in chunks for event in decoder.feed(chunk)), *decoder.end()]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\n\n", [("message", "a")]),
        (b"data:a\r\n\r\ndata:b\r\r", [("message", "a"), ("message", "b")]),
        (b"event: ping\ndata: {}\nid: 7\nretry: 1\n\n", [("ping", "{}")]),
        (b"data: a\ndata: b\n\n", [("message", "a\nb")]),
        (b": keep-alive\n\n\n\n: again\n\n", []),
        (b"event: x\n\ndata: a\n\n", [("message", "a")]),
        (b"data\n\n", [("message", "")]),
        (b"nonsense\n\xff\xfe\n\ndata: \xff\n\n", [("message", "\ufffd")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("message", "a")]),
        (b"data: the end is missing", [("message", "the end is missing")]),
        (b"data:  two spaces\n\n", [("message", " two spaces")]),
        (b"", []),
    ],
)
def test_events_are_read_as_the_standard_says(stream: bytes, events: list[tuple[str, str]]) -> None:
    """Line ends of all kinds, names, comments, data in several lines, and what is no event at all."""
    assert decoded(stream) == [ServerEvent(*event) for event in events]


@given(
    st.lists(st.sampled_from([b"data: a", b"data: \xc3\xa9\xe2\x82\xac", b"event: x", b": c", b"\n", b"\r\n", b"\r"])),
    st.data(),
)
def test_cuts_make_no_difference(pieces: list[bytes], data: st.DataObject) -> None:
    """Between any two bytes, within a character or a line end: the same events come out."""
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    chunks = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert decoded(*chunks) == decoded(stream)


@pytest.mark.parametrize("chunk", [b"data: " + b"x" * 1000, b"data: " + b"x" * 50 + b"\n", b"data\n" * 100])
def test_an_event_without_measure_is_not_taken(chunk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line or in many, memory has a bound."""
    monkeypatch.setattr(sse, "MAX_EVENT_CHARACTERS", 10_000)
    with pytest.raises(AttemptFailed, match="10000"):
        decoded(*[chunk] * 1000)


def test_many_events_are_taken_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is an event's, not the stream's."""
    monkeypatch.setattr(sse, "MAX_EVENT_CHARACTERS", 10_000)
    decoder = EventDecoder()
    assert sum(len(decoder.feed(b"data: " + b"x" * 5000 + b"\n\n")) for _ in range(20)) == 20
