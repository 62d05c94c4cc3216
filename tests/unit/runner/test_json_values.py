"""What a stage returns is JSON or is refused, naming the place; what it is handed is its own."""

from __future__ import annotations

import enum
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.runner import StageResult
from pop_actors.runner.json_values import (
    MAX_LEVELS,
    FlagChanged,
    InvalidResult,
    copied,
    json_type,
    merged_flags,
    plain,
    result_of,
)

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@given(values)
def test_json_comes_through_as_it_is(value: Any) -> None:
    """Nothing is lost, and nothing is shared with what was given."""
    taken = plain(value, "output")
    assert taken == value
    assert json.loads(json.dumps(taken)) == value
    assert copied(taken) == value


def test_a_copy_shares_nothing_with_its_original() -> None:
    """A stage that changes what it was handed changes nothing else."""
    original = {"list": [{"a": 1}]}
    copied(original)["list"][0]["a"] = 2
    assert original == {"list": [{"a": 1}]}


def test_subclasses_of_json_types_become_the_plain_ones() -> None:
    """Enums and tuples are welcome; what later stages see is what a resumed run would read back."""
    taken = plain({"c": Colour.RED, "l": Level.HIGH, "t": (1, 2)}, "output")
    assert taken == {"c": "red", "l": 3, "t": [1, 2]}
    assert [type(item) for item in taken.values()] == [str, int, list]


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (float("nan"), "output: nan is no finite number"),
        ({"a": [1, float("inf")]}, r"output\.a\[1\]: inf is no finite number"),
        ({"a": "\ud800"}, r"output\.a: half of a surrogate pair"),
        ({"\udc00": 1}, "a key: half of a surrogate pair"),
        ({1: 2}, "the key 1 is not a text"),
        (2**64, "beyond 64 bits"),
        (b"bytes", "a bytes is not JSON"),
        ({"s": {1, 2}}, r"output\.s: a set is not JSON"),
        (nested(MAX_LEVELS + 1), "nested deeper than"),
    ],
)
def test_what_json_does_not_have_is_refused_with_its_place(value: Any, fault: str) -> None:
    """The message says where it is and what is wrong."""
    with pytest.raises(InvalidResult, match=fault):
        plain(value, "output")


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle ends at the bound on nesting instead of never."""
    value: list[Any] = []
    value += [value, value]
    with pytest.raises(InvalidResult, match="nested deeper"):
        plain(value, "output")


@pytest.mark.parametrize(
    "returned",
    [None, 1, "text", [], (1, {}), {}, {"flags": {}}, {"output": 1, "flag": {}}, {"output": 1, "flags": [1]}, object()],
)
def test_another_shape_than_a_result_names_the_stage(returned: Any) -> None:
    """Whatever a stage returns instead of a result is refused, and the stage is named."""
    with pytest.raises(InvalidResult, match=r"^inference"):
        result_of(returned, "inference")


@pytest.mark.parametrize(
    "returned",
    [
        {"output": 1},
        {"output": 1, "flags": None},
        {"output": 1, "flags": {}},
        StageResult(1),
        StageResult(1, None),
        StageResult(output=1, flags={}),
    ],
)
def test_both_forms_of_a_result_are_taken(returned: Any) -> None:
    """A mapping with `output`, or a StageResult; flags may be left out."""
    assert result_of(returned, "inference") == (1, {})


@pytest.mark.parametrize(
    ("before", "after", "ok"),
    [
        (True, False, True), (1, 2.5, True), ("a", "b", True), ([], [1], True), ({}, {"a": 1}, True),
        (True, 1, False), (False, "no", False), (None, True, False), ([], {}, False),
    ],
)  # fmt: skip
def test_a_flag_keeps_its_type(before: Any, after: Any, ok: bool) -> None:
    """All numbers are of one type; a boolean is no number."""
    assert (json_type(before) == json_type(after)) is ok
    if ok:
        assert merged_flags({"f": before, "g": 1}, {"f": after}, "parsing") == {"f": after, "g": 1}
    else:
        with pytest.raises(FlagChanged, match="parsing: the flag f was"):
            merged_flags({"f": before}, {"f": after}, "parsing")
