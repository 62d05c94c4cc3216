"""Which schemas are asked for in OpenAI's strict mode: those it takes as they stand, and no other."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import ChatRequest, Message
from pop_actors.providers import openai_wire, responses_wire
from pop_actors.providers.catalogue import COMPATIBLE, VENDORS
from pop_actors.providers.openai_strict import is_strict


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


TEXT = {"type": "string", "description": "some words"}
STRICT = [
    closed(a=TEXT),
    closed(a=TEXT, b=closed(c={"type": ["integer", "null"]})),
    closed(a={"type": "array", "items": closed(b={"type": "string", "enum": ["x", "y"]})}),
    closed(a={"anyOf": [TEXT, closed(b=TEXT)]}),
]
LOOSE = [
    {},
    {"type": "object"},
    TEXT,
    closed(),
    closed(a={}),
    closed(a={"type": "array"}),
    closed(a={"type": "string", "minLength": 3}),
    closed(a={"type": ["object", "null"]}),
    closed(a={"anyOf": []}),
    closed(a={"$ref": "#/$defs/x"}),
    {**closed(a=TEXT), "required": []},
    {**closed(a=TEXT), "required": ["a", "b"]},
    {**closed(a=TEXT), "additionalProperties": True},
    {**closed(a=TEXT), "oneOf": []},
    closed(a=closed(a=closed(a=closed(a=closed(a=TEXT))))),
]


@pytest.mark.parametrize(("schema", "strict"), [*((one, True) for one in STRICT), *((one, False) for one in LOOSE)])
def test_a_schema_is_strict_where_the_mode_takes_it_as_it_stands(schema: dict[str, Any], strict: bool) -> None:
    """Every object closed, every property required, no word the dialect may not know."""
    assert is_strict(schema) is strict


def test_openai_is_asked_for_the_mode_and_nobody_else() -> None:
    """By both its APIs; what others make of the word is not known."""
    request = ChatRequest(messages=[Message(role="user", content="hello")], response_format=STRICT[0])

    def strict(wire: Any, vendor: Any) -> bool:
        body = orjson.loads(wire.request(request, "m", vendor, stream=False).body)
        said = body["response_format"]["json_schema"] if "response_format" in body else body["text"]["format"]
        assert said["schema"] == STRICT[0]
        answer: bool = said["strict"]
        return answer

    assert strict(openai_wire, VENDORS["openai"])
    assert strict(responses_wire, VENDORS["openai"])
    assert not strict(openai_wire, VENDORS["moonshot"])
    assert not strict(openai_wire, COMPATIBLE["openai"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=3) | st.sampled_from(["object", "array", "string"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["type", "properties", "required", "items", "anyOf", "enum"]), inner)
        ),
        max_leaves=15,
    )
)
def test_no_schema_breaks_the_look_at_it(value: Any) -> None:
    """Whatever a user wrote; only an object of properties is ever strict."""
    required = list(value) if isinstance(value, dict) else value
    schema = {"type": "object", "properties": value, "required": required, "additionalProperties": False}
    assert isinstance(value, dict) or not is_strict(schema)
