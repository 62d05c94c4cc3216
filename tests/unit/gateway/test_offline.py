"""The built-in provider: deterministic, free, and true to any schema it is given."""

from __future__ import annotations

import asyncio
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import ChatRequest, Message
from pop_actors.errors import CallFailed
from pop_actors.providers.offline import OfflineProvider
from pop_actors.providers.sample import sample
from pop_actors.providers.types import ProviderReply

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "left", "children"],
        }
    },
    "$ref": "#/$defs/node",
}
SCHEMAS: list[Any] = [
    True,
    {},
    {"type": "object"},
    {"properties": {"a": {"type": "integer"}}, "required": ["a", "b"], "additionalProperties": {"type": "boolean"}},
    {"type": "object", "minProperties": 3, "additionalProperties": {"type": "number"}},
    {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
    {"type": "array", "prefixItems": [{"type": "integer"}, {"const": "x"}], "items": False},
    {"type": "array", "maxItems": 0},
    {"type": "array", "items": {"type": "integer"}, "minItems": 4, "uniqueItems": True},
    {"type": "string", "minLength": 40, "maxLength": 41},
    {"type": "string", "maxLength": 3},
    {"type": "string", "pattern": "^[A-Z]{2}-\\d{3,}(foo|bar)?$"},
    {"type": "string", "pattern": "[^a-z]+x"},
    {"type": "string", "format": "date-time"},
    {"type": "integer", "minimum": 7, "maximum": 7},
    {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
    {"type": "integer", "minimum": 10, "multipleOf": 7},
    {"type": "number", "minimum": 0.1, "maximum": 0.2},
    {"type": "number", "exclusiveMaximum": -5},
    {"type": ["null", "string"]},
    {"anyOf": [{"type": "string", "maxLength": 2}, {"type": "integer"}]},
    {"allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"required": ["b"], "type": "object"}]},
    {"enum": [1, "two", None]},
    {"const": {"deep": [1]}},
    TREE,
]


def ask(**request: Any) -> ProviderReply:
    messages = [Message(role="user", content=request.pop("text", "Describe the market for wind turbines"))]
    return asyncio.run(OfflineProvider().chat(ChatRequest(messages=messages, **request), "offline-1", 1e9))


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
@pytest.mark.parametrize("seed", [b"one", b"two", b"three"])
def test_a_sample_conforms_to_its_schema(schema: Any, seed: bytes) -> None:
    """Whatever the seed, jsonschema finds no fault, and the same seed gives the same document."""
    document = sample(schema, seed)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert sample(schema, seed) == document


@given(st.integers(-50, 50), st.integers(0, 30), st.integers(1, 9))
def test_whole_numbers_keep_every_bound(low: int, room: int, step: int) -> None:
    """Minimum, maximum and multipleOf together, wherever a multiple lies between them."""
    schema = {"type": "integer", "minimum": low, "maximum": low + room + step, "multipleOf": step}
    jsonschema.Draft202012Validator(schema).validate(sample(schema, b"x"))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}},
         "$ref": "#/$defs/a"},
        {"type": "string", "minLength": 10**12},
        {"type": "array", "minItems": 10**9},
        {"type": "object", "properties": 7},
        {"type": "integer", "minimum": "a"},
    ],
)  # fmt: skip
def test_a_schema_nothing_can_meet_is_refused(schema: Any) -> None:
    """Endless, enormous or malformed: a bad_request, not a crash and not a full memory."""
    with pytest.raises(CallFailed) as failed:
        sample(schema, b"x")
    assert failed.value.code == "bad_request"


def test_the_same_request_gets_the_same_reply_and_another_another() -> None:
    """Deterministic, and sensitive to what is asked."""
    assert ask() == ask()
    assert ask().content != ask(text="Describe the history of tea").content


def test_text_is_about_what_was_asked() -> None:
    """The last user message's words come back in the answer."""
    assert "turbines" in ask().content or "market" in ask().content or "describe" in ask().content


def test_it_costs_nothing_and_estimates_its_tokens() -> None:
    """A price of 0, not an unknown one, and some tokens each way."""
    reply = ask()
    assert reply.cost_usd == 0.0
    assert reply.usage.input_tokens > 0
    assert reply.usage.output_tokens > 10


def test_json_is_an_object_and_a_schema_is_met() -> None:
    """`json` gives an object; a schema gives a document that conforms."""
    schema = {"type": "object", "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 5}},
              "required": ["score"]}  # fmt: skip
    assert isinstance(orjson.loads(ask(response_format="json").content), dict)
    assert 1 <= orjson.loads(ask(response_format=schema).content)["score"] <= 5


def test_max_tokens_cuts_the_text_and_says_so() -> None:
    """A short limit ends the paragraph early with finish reason length."""
    reply = ask(max_tokens=3)
    assert reply.finish_reason == "length"
    assert reply.usage.output_tokens <= 3


TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    },
}


def test_a_tool_is_called_only_where_one_must_be() -> None:
    """With arguments to its parameters; left the choice, it writes."""
    assert ask(tools=[TOOL]).content
    for choice in ("required", {"type": "function", "function": {"name": "look_up"}}):
        reply = ask(tools=[TOOL], tool_choice=choice)
        (call,) = reply.tool_calls
        assert (reply.content, reply.finish_reason, call["function"]["name"]) == ("", "tool_calls", "look_up")
        assert isinstance(orjson.loads(call["function"]["arguments"])["n"], int)


def test_a_tool_that_is_not_there_cannot_be_called() -> None:
    """bad_request, naming it."""
    with pytest.raises(CallFailed, match="dig"):
        ask(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "dig"}})
