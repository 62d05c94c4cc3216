"""A user's JSON Schema in Anthropic's dialect: what is kept, what becomes words, and what cannot be said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pop_actors.providers.anthropic_schema import in_dialect
from pop_actors.providers.sample import sample

STRING = {"type": "string"}
names = st.sampled_from(["a", "b", "c"])
schemas: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.sampled_from(
        [
            STRING,
            {"type": "integer", "minimum": 1, "maximum": 9},
            {"type": ["string", "null"]},
            {"enum": ["x", 2]},
            {"type": "string", "minLength": 2, "description": "said"},
        ]
    ),
    lambda inner: (
        st.builds(
            lambda properties: {"type": "object", "properties": properties, "required": sorted(properties)},
            st.dictionaries(names, inner, min_size=1, max_size=3),
        )
        | st.builds(lambda items: {"type": "array", "items": items, "minItems": 2, "maxItems": 3}, inner)
        | st.builds(lambda variants: {"anyOf": variants}, st.lists(inner, min_size=1, max_size=2))
    ),
    max_leaves=8,
)


def test_objects_are_closed_and_bounds_become_words() -> None:
    """What the dialect knows is kept, what it does not is told in the description."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 1, "description": "A number."}},
        "required": ["n"],
    }
    assert in_dialect(schema) == {
        "type": "object",
        "properties": {"n": {"type": "integer", "description": 'A number.\n\n{"minimum":1}'}},
        "required": ["n"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"oneOf": [STRING]}, {"anyOf": [STRING]}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "odd"}, {"type": "string", "description": '{"format":"odd"}'}),
        ({"type": "array", "items": STRING, "minItems": 1}, {"type": "array", "items": STRING, "minItems": 1}),
        ({"$ref": "#/$defs/a", "$defs": {"a": STRING}}, {"$ref": "#/$defs/a", "$defs": {"a": STRING}}),
    ],
)
def test_what_can_be_said_is_said(schema: dict[str, Any], said: dict[str, Any]) -> None:
    assert in_dialect(schema) == said


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": STRING}, "additionalProperties": STRING},
        {"type": "object", "properties": {"a": STRING}, "patternProperties": {"x": STRING}},
        {"type": "array"},
        {"type": "array", "items": True},
        {"type": "nothing"},
        {"type": 7},
        {"anyOf": STRING},
        {"type": "object", "properties": {"a": {"type": "object"}}},
    ],
)
def test_what_cannot_be_said_is_not_tried(schema: dict[str, Any]) -> None:
    """Maps of unnamed keys, lists of anything, what is no schema: the model is shown it instead."""
    assert in_dialect(schema) is None


def test_a_bottomless_schema_is_not_tried() -> None:
    """Depth has a bound, and no stack is exhausted."""
    schema: dict[str, Any] = STRING
    for _ in range(200):
        schema = {"type": "array", "items": schema}
    assert in_dialect(schema) is None


@given(schemas)
def test_what_satisfies_the_schema_satisfies_its_dialect(schema: dict[str, Any]) -> None:
    """A conforming reply with no unnamed keys can be written under the dialect: it forbids nothing else."""
    narrowed = in_dialect(schema)
    assert narrowed is not None
    document = sample(schema, b"seed")
    Draft202012Validator(schema).validate(document)
    Draft202012Validator(narrowed).validate(document)
