"""Strict JSON: what everybody accepts is accepted, what parsers disagree on is refused, with the place."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.strict_json import parse
from pop_actors.errors import InvalidJson

BAD = {
    "a key twice": (b'{"a": 1,\n "a": 2}', 2, 2),
    "a key twice, once escaped": (b'{"a": 1, "\\u0061": 2}', 1, 10),
    "a key twice, inside": (b'[{"x": {"k": 1, "k": 1}}]', 1, 17),
    "NaN": (b"[NaN]", 1, 2),
    "Infinity": (b"[1, Infinity]", 1, 5),
    "minus Infinity": (b"[-Infinity]", 1, 2),
    "a number that overflows": (b'{"x": [1e999]}', 1, 8),
    "a number with too many digits": (b"1" * 5000, 1, 1),
    "a lone high surrogate": (b'["ok", "\\ud800"]', 1, 8),
    "a lone low surrogate": (b'{"\\uDFFF": 1}', 1, 2),
    "65 levels": (b"[" * 65 + b"]" * 65, 1, 65),
    "bytes that are not UTF-8": (b'{"a":\n "\xff"}', 2, 3),
    "a surrogate in bytes": (b'"\xed\xa0\x80"', 1, 2),
    "nothing": (b"", 1, 1),
    "something behind it": (b"{} x", 1, 4),
    "a comma too many": (b"[1,]", 1, 4),
    "a control character": (b'"a\nb"', 1, 3),
    "two byte order marks": (b"\xef\xbb\xbf\xef\xbb\xbf{}", 1, 1),
    "single quotes": (b"{'a': 1}", 1, 2),
    "half a file": (b'{"a": [1, 2', 1, 12),
}


@pytest.mark.parametrize(("content", "line", "column"), BAD.values(), ids=BAD)
def test_what_is_not_strict_is_refused_with_its_place(content: bytes, line: int, column: int) -> None:
    """Every fault names the line and column where a person has to look."""
    with pytest.raises(InvalidJson) as caught:
        parse(content)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert str(caught.value).startswith(f"line {line}, column {column}: ")


GOOD = {
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    "a surrogate pair": (b'"\\ud83d\\ude00"', "\U0001f600"),
    "64 levels": (b"[" * 64 + b"]" * 64, json.loads("[" * 64 + "]" * 64)),
    "brackets inside texts": (b'["' + b"[" * 200 + b'\\"]"]', ["[" * 200 + '"]']),
    "the same key in two objects": (b'[{"a": 1}, {"a": {"a": 2}}]', [{"a": 1}, {"a": {"a": 2}}]),
    "the largest float": (b"1.7976931348623157e308", 1.7976931348623157e308),
    "a word like a constant, in a text": (b'"NaN Infinity 1e999"', "NaN Infinity 1e999"),
}


@pytest.mark.parametrize(("content", "value"), GOOD.values(), ids=GOOD)
def test_what_only_looks_strange_is_accepted(content: bytes, value: object) -> None:
    """Rules bite on what they are for and on nothing else."""
    assert parse(content) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.booleans())
def test_every_json_value_comes_back_as_it_went(value: object, ascii_only: bool) -> None:
    """What the standard library writes, escaped or not, is read as the same value."""
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:\\u0aN1e9- ', max_size=60).map(str.encode))
def test_no_bytes_bring_out_another_error(content: bytes) -> None:
    """Whatever the bytes, the answer is a value the standard library agrees on, or InvalidJson."""
    try:
        value = parse(content)
    except InvalidJson as refused:
        place = (refused.line, refused.column)
    else:
        place = (1, 1) if json.loads(content.decode("utf-8-sig")) == value else (0, 0)
    assert min(place) >= 1


HOSTILE = {
    "open brackets": b"[" * 1_000_000,
    "open objects": b'{"a":' * 200_000,
    "an endless text of escaped quotes": b'"' + b'\\"' * 500_000,
    "quotes only": b'"' * 1_000_000,
    "digits only": b"9" * 1_000_000,
    "minus signs": b"[" + b"-" * 1_000_000,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_megabyte_of_malice_is_refused_quickly(content: bytes) -> None:
    """Neither recursion nor backtracking: a second is a hundred times what it takes."""
    began = time.monotonic()
    with pytest.raises(InvalidJson):
        parse(content)
    assert time.monotonic() - began < 1.0
