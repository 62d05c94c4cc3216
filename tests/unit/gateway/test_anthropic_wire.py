"""Anthropic's wire format: what is asked of which model, what is read, and that nothing a server says breaks it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import ChatRequest, Usage
from pop_actors.providers import anthropic_wire as wire
from pop_actors.providers.catalogue import VENDORS
from pop_actors.providers.fitting import fit
from pop_actors.providers.types import AttemptFailed, ServerEvent

VENDOR = VENDORS["anthropic"]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
WORDS = (
    "type", "content", "text", "usage", "input_tokens", "stop_reason", "error", "delta", "index", "message", "name",
    "content_block", "tool_use", "message_start", "message_stop", "message_delta", "content_block_start",
    "content_block_delta", "input_json_delta", "partial_json", "input", "thinking", "refusal", "details", "error_code",
)  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=25,
)


def asked(model: str = "claude-opus-5-5", **request: Any) -> dict[str, Any]:
    """The body, of a request brought to what the model takes."""
    request.setdefault("messages", [{"role": "user", "content": "hello"}])
    fitting, _ = fit(ChatRequest(**request), model, VENDOR, drop=True)
    body: dict[str, Any] = orjson.loads(wire.request(fitting, model, VENDOR, stream=False).body)
    return body


def refused(model: str = "claude-opus-5-5", **request: Any) -> str:
    with pytest.raises(AttemptFailed) as failed:
        asked(model, **request)
    assert (failed.value.code, failed.value.fate) == ("bad_request", "permanent")
    return failed.value.message


def message(*content: dict[str, Any], stop: str = "end_turn", **more: Any) -> bytes:
    return orjson.dumps({"type": "message", "content": content, "stop_reason": stop, **more})


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def test_a_bare_request_has_a_model_messages_and_the_limit_the_api_wants() -> None:
    """Nothing else is sent that was not asked for."""
    assert asked() == {
        "model": "claude-opus-5-5",
        "max_tokens": 32_000,
        "messages": [{"role": "user", "content": [text("hello")]}],
    }


@pytest.mark.parametrize(
    ("model", "wanted", "sent"),
    [("claude-opus-5-5", 500, 500), ("claude-opus-4-1", 100_000, 32_000), ("claude-of-tomorrow", 100_000, 100_000)],
)
def test_no_more_tokens_are_asked_for_than_a_model_has(model: str, wanted: int, sent: int) -> None:
    """The API refuses more than a model's most; who wants more means the most."""
    assert asked(model, max_tokens=wanted)["max_tokens"] == sent


def test_instructions_go_to_the_top_and_turns_alternate() -> None:
    """System and developer messages are one text; what follows one another from the same side is one turn."""
    body = asked(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "a"},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"},
        ]
    )
    assert body["system"] == "Be brief.\n\nBe kind."
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][0]["content"] == [text("a"), text("b")]


def test_a_cache_mark_of_the_users_own_is_kept() -> None:
    """Parts with more than the one form knows go as they are."""
    marked = {"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}
    document = {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}}
    body = asked(messages=[{"role": "system", "content": [marked]}, {"role": "user", "content": [document]}])
    assert body["system"] == [marked]
    assert body["messages"][0]["content"] == [document]


def test_images_are_translated() -> None:
    """Data and addresses of the one form become Anthropic's two kinds of source."""
    images = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
    ]
    content = asked(messages=[{"role": "user", "content": images}])["messages"][0]["content"]
    assert [block["source"] for block in content] == [
        {"type": "base64", "media_type": "image/png", "data": "AAAA"},
        {"type": "url", "url": "https://example.org/a.png"},
    ]


def test_tools_are_translated() -> None:
    """A declaration has its schema under another name; one without parameters takes an empty object."""
    bare = {"type": "function", "function": {"name": "now", "description": "The time."}}
    assert asked(tools=[TOOL, bare])["tools"] == [
        {"name": "look", "input_schema": {"type": "object"}},
        {"name": "now", "description": "The time.", "input_schema": {"type": "object"}},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}),
    ],
)
def test_the_choice_of_a_tool_is_translated(choice: Any, sent: dict[str, str]) -> None:
    assert asked("claude-sonnet-4-6", tools=[TOOL], tool_choice=choice)["tool_choice"] == sent


def test_a_model_that_cannot_be_told_to_use_a_tool_is_not_asked() -> None:
    """Known beforehand, so refused before anything is sent, and what to do is said."""
    assert "leave tool_choice out" in refused(tools=[TOOL], tool_choice="required")


def test_answers_of_tools_called_together_are_one_turn() -> None:
    """The API wants all of them in the user's turn that follows, before what the user says."""
    calls = [{"id": id_, "type": "function", "function": {"name": "look", "arguments": "{}"}} for id_ in ("1", "2")]
    turns = asked(
        messages=[
            {"role": "user", "content": "look"},
            {"role": "assistant", "content": "I look.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "1", "content": "a"},
            {"role": "tool", "tool_call_id": "2", "content": "b"},
            {"role": "user", "content": "well?"},
        ]
    )["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
    assert [block["type"] for block in turns[1]["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["type"] for block in turns[2]["content"]] == ["tool_result", "tool_result", "text"]


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        ("claude-opus-5-5", ["thinking", "tool_use"]),
        ("claude-opus-5-5-20260922", ["thinking", "tool_use"]),
        ("claude-sonnet-5-5", ["tool_use"]),
    ],
)
def test_thoughts_go_back_to_the_model_that_had_them(model: str, blocks: list[str]) -> None:
    """Another model refuses them, as after a fallback."""
    thoughts = {"model": "claude-opus-5-5", "thinking": [{"type": "thinking", "thinking": "", "signature": "s"}]}
    call = {
        "id": "1",
        "type": "function",
        "function": {"name": "look", "arguments": "{}"},
        "extra_content": {"anthropic": thoughts},
    }
    turns = asked(
        model,
        messages=[
            {"role": "user", "content": "look"},
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "a"},
        ],
    )["messages"]
    assert [block["type"] for block in turns[1]["content"]] == blocks


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "sent_effort"),
    [
        ("claude-opus-5-5", None, None, None),
        ("claude-opus-5-5", "none", None, "low"),
        ("claude-opus-5-5", "minimal", None, "low"),
        ("claude-opus-5-5", "xhigh", None, "xhigh"),
        ("claude-of-tomorrow", "high", None, "high"),
        ("claude-opus-5", "none", {"type": "disabled"}, None),
        ("claude-haiku-5-5", "none", {"type": "disabled"}, None),
        ("claude-sonnet-5-5", "none", {"type": "between_tools"}, None),
        ("claude-sonnet-5-5", "medium", None, "medium"),
        ("claude-opus-4-6", "none", None, None),
        ("claude-opus-4-6", "xhigh", {"type": "adaptive"}, "max"),
        ("claude-opus-4-8", "xhigh", {"type": "adaptive"}, "xhigh"),
        ("claude-sonnet-4-5-20250929", "none", None, None),
        ("claude-sonnet-4-5-20250929", "low", {"type": "enabled", "budget_tokens": 2_048}, None),
        ("claude-sonnet-4-5-20250929", "max", {"type": "enabled", "budget_tokens": 16_000}, None),
    ],
)
def test_effort_is_said_as_each_model_takes_it(
    model: str, effort: str | None, thinking: dict[str, Any] | None, sent_effort: str | None
) -> None:
    """An effort, a way of thinking, a budget within max_tokens, or nothing."""
    body = asked(model, reasoning_effort=effort)
    assert body.get("thinking") == thinking
    assert body.get("output_config", {}).get("effort") == sent_effort


@pytest.mark.parametrize(
    "request_part",
    [
        {"max_tokens": 2_000},
        {"tools": [TOOL], "tool_choice": "required"},
        {
            "messages": [
                {"role": "user", "content": "look"},
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
                },
                {"role": "tool", "tool_call_id": "1", "content": "a"},
            ]
        },
    ],
)
def test_a_model_does_not_think_where_the_api_would_refuse_it(request_part: dict[str, Any]) -> None:
    """Too few tokens for a budget, a forced tool, a tool's answer without the thoughts before it."""
    assert "thinking" not in asked("claude-haiku-4-5", reasoning_effort="high", **request_part)


@pytest.mark.parametrize(
    ("model", "schema", "native"),
    [
        ("claude-opus-5-5", SCHEMA, True),
        ("claude-opus-4-1", SCHEMA, False),
        ("claude-opus-5-5", {"type": "object", "additionalProperties": {"type": "string"}}, False),
    ],
)
def test_a_schema_is_shown_where_it_cannot_be_sent(model: str, schema: dict[str, Any], native: bool) -> None:
    """An earlier model, or a schema the dialect has no words for: the model reads it instead."""
    body = asked(model, response_format=schema)
    assert ("format" in body.get("output_config", {})) == native
    assert ("JSON Schema" in body.get("system", "")) != native


def test_what_an_assistant_began_is_gone_on_with_only_where_that_is_taken() -> None:
    """Newer models refuse it, and it is known."""
    begun = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert asked("claude-haiku-4-5", messages=begun)["messages"][-1]["role"] == "assistant"
    assert "last message" in refused(messages=begun)


@pytest.mark.parametrize("messages", [[{"role": "system", "content": "x"}], [{"role": "user", "content": ""}]])
def test_a_request_that_asks_nothing_is_refused(messages: list[dict[str, str]]) -> None:
    assert "message" in refused(messages=messages)


def test_the_arguments_of_a_call_must_be_an_object() -> None:
    """A model's nonsense, told again, is found before it is sent."""
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{oh"}}
    told = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}]
    assert "tool call 1" in refused(messages=told)


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "other"),
        ("something new", "other"),
    ],
)
def test_endings_are_mapped_to_the_one_set(stop: str, finish: str) -> None:
    assert wire.parse_reply(message(text("hi"), stop=stop)).finish_reason == finish


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_reply"),
        (b"<html>", "bad_reply"),
        (b"[]", "bad_reply"),
        (b"{}", "bad_reply"),
        (message(), "bad_reply"),
        (message(stop="max_tokens"), "truncated"),
        (message(text("I beg"), stop="refusal"), "blocked"),
        (message({"type": "thinking", "thinking": "hm"}, stop="end_turn"), "bad_reply"),
    ],
)
def test_a_reply_without_text_is_a_failure_that_is_not_retried(body: bytes, code: str) -> None:
    """Text before a refusal is not to be used."""
    with pytest.raises(AttemptFailed) as failed:
        wire.parse_reply(body)
    assert (failed.value.code, failed.value.fate) == (code, "permanent")


def test_a_refusal_says_why_and_what_it_cost() -> None:
    """The explanation and the usage are kept."""
    details = {"type": "refusal", "explanation": "It could do harm."}
    with pytest.raises(AttemptFailed) as failed:
        wire.parse_reply(message(stop="refusal", stop_details=details, usage={"input_tokens": 7, "output_tokens": 1}))
    assert "It could do harm." in failed.value.message
    assert failed.value.usage == Usage(input_tokens=7, output_tokens=1)


def test_each_call_has_the_thoughts_before_it() -> None:
    """Thinking between tools stands with the call it led to."""
    blocks = []
    for number in ("1", "2"):
        blocks.append({"type": "thinking", "thinking": number, "signature": number})
        blocks.append({"type": "tool_use", "id": number, "name": "look", "input": {"at": number}})
    calls = wire.parse_reply(message(*blocks, stop="tool_use", model="m")).tool_calls
    assert [call["function"]["arguments"] for call in calls] == ['{"at":"1"}', '{"at":"2"}']
    assert [call["extra_content"]["anthropic"]["thinking"][0]["thinking"] for call in calls] == ["1", "2"]


def test_arguments_nested_without_end_are_a_bad_reply() -> None:
    """They could not be written down."""
    deep = b'"input":' + b'{"x":' * 500 + b"1" + b"}" * 500
    body = message({"type": "tool_use", "name": "look", "input": 7}, stop="tool_use").replace(b'"input":7', deep)
    with pytest.raises(AttemptFailed) as failed:
        wire.parse_reply(body)
    assert failed.value.code == "bad_reply"


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"<html>Bad Gateway", "Bad Gateway"), (b'{"message": "no route"}', "no route"), (b'{"error": "down"}', "down")],
)
def test_what_stands_before_the_provider_is_understood_too(body: bytes, said: str) -> None:
    """A proxy's error has another form; its words are told all the same."""
    failure = wire.parse_error(502, {}, body, 0.0)
    assert (failure.code, failure.fate) == ("server", "ambiguous")
    assert said in failure.message


@given(json_values)
def test_no_json_breaks_the_reader(document: Any) -> None:
    """Whatever JSON comes as a reply or as an error, it is judged and not tripped over."""
    body = orjson.dumps(document)
    assert wire.parse_error(500, {}, body, 0.0).fate in {"ambiguous", "permanent"}
    try:
        reply = wire.parse_reply(body)
    except AttemptFailed:
        return
    assert reply.content or reply.tool_calls


@given(st.lists(json_values, max_size=8))
def test_no_events_break_the_stream(documents: list[Any]) -> None:
    """Whatever events come, the end of it is a reply or an AttemptFailed."""
    stream = wire.open_stream()
    try:
        for document in documents:
            stream.feed(ServerEvent("message", orjson.dumps(document).decode()))
        reply = stream.close()
    except AttemptFailed:
        return
    assert stream.done
    assert reply.content or reply.tool_calls


@given(st.binary(max_size=100))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    with pytest.raises(AttemptFailed):
        wire.parse_reply(b"\xff" + body)
    assert wire.parse_error(529, {}, b"\xff" + body, 0.0).code == "overloaded"
