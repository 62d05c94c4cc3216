"""Requests and replies as values: what they take, what they refuse, and what of them is written down."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pop_actors.core.chat import EFFORTS, ChatReply, ChatRequest, Message, Usage

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def request(**asked: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": "hi"}], **asked})


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "look"}, PNG]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA"}}]},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": "I will look", "toolCalls": [CALL | {"extra_content": {"x": 1}}]},
        {"role": "tool", "content": "7", "tool_call_id": "c1"},
    ],
)
def test_a_message_is_written_down_as_it_was_given(message: dict[str, Any]) -> None:
    """In camel case, with nothing added; and read back it is the same."""
    made = Message.model_validate(message)
    written = request(messages=[message]).document()["messages"][0]
    names = {"tool_calls": "toolCalls", "tool_call_id": "toolCallId"}
    assert written == {names.get(name, name): value for name, value in message.items()}
    assert Message.model_validate(written) == made


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ({"role": "user"}, "content"),
        ({"role": "assistant", "tool_calls": []}, "content"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "only an assistant"),
        ({"role": "tool", "content": "7"}, "tool_call_id"),
        ({"role": "user", "content": "7", "tool_call_id": "c1"}, "tool_call_id"),
        ({"role": "assistant", "tool_calls": [{"id": "c1"}]}, "a tool call is"),
        ({"role": "assistant", "tool_calls": [CALL | {"type": "custom"}]}, "a tool call is"),
        ({"role": "user", "content": [{"type": "text"}]}, "a text part is"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}, "an image"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:text/html,x"}}]}, "an image"),
        ({"role": "narrator", "content": "once"}, "system"),
    ],
)
def test_a_message_that_cannot_be_says_what_it_should_be(message: dict[str, Any], why: str) -> None:
    """The complaint teaches the form."""
    with pytest.raises(ValidationError, match=why):
        Message.model_validate(message)


@pytest.mark.parametrize(
    ("content", "place", "why"),
    [
        ([{"type": "image_url", "image_url": "https://somewhere/a.png"}], ("content", "parts", 0), "an image is"),
        ([PNG, "and some words"], ("content", "parts", 1), "dictionary"),
        (7, ("content", "text"), "string"),
    ],
)
def test_the_first_fault_of_a_content_is_that_of_the_form_it_has(
    content: Any, place: tuple[Any, ...], why: str
) -> None:
    """Of an image that is wrong it is not said that it is no text."""
    with pytest.raises(ValidationError) as refused:
        Message.model_validate({"role": "user", "content": content})
    fault = refused.value.errors()[0]
    assert fault["loc"] == place
    assert why in fault["msg"]


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_a_temperature_no_provider_takes_is_refused(temperature: float) -> None:
    """One that is no number would be sent as null."""
    with pytest.raises(ValidationError, match="temperature"):
        request(temperature=temperature)


@pytest.mark.parametrize(
    ("tool", "fits"),
    [
        (TOOL, True),
        ({"type": "function", "function": {"name": "f"}}, True),
        ({"type": "web_search"}, True),
        ({"function": {"name": "f"}}, False),
        ({}, False),
        ({"type": "function", "function": {"name": "no spaces"}}, False),
        ({"type": "function", "function": {"name": "f", "parameters": "none"}}, False),
        ({"type": "function", "name": "f"}, False),
    ],
)
def test_a_tool_has_openais_form_or_is_a_providers_own(tool: dict[str, Any], fits: bool) -> None:
    """Functions are checked, since they are translated; others are passed on."""
    if fits:
        assert request(tools=[tool]).document()["tools"] == [tool]
    else:
        with pytest.raises(ValidationError, match="a tool is"):
            request(tools=[tool])


@pytest.mark.parametrize("choice", ["auto", "none", "required", {"type": "function", "function": {"name": "f"}}])
def test_a_choice_of_tools_needs_tools(choice: Any) -> None:
    """Without them it means nothing."""
    assert request(tools=[TOOL], tool_choice=choice).tool_choice == choice
    with pytest.raises(ValidationError, match="no tools"):
        request(tool_choice=choice)


@given(json_values)
def test_whatever_stands_in_a_schema_reaches_the_provider(value: Any) -> None:
    """Only what was not given is left out: a null within a schema was given."""
    schema = {"const": value}
    assert request(response_format=schema).document()["responseFormat"] == schema


def test_the_levels_of_effort_rise() -> None:
    """Their order is used to find the nearest."""
    assert EFFORTS == ("none", "minimal", "low", "medium", "high", "xhigh", "max")


def test_a_reply_of_an_older_journal_is_still_read() -> None:
    """Without the fields that came later."""
    usage = {"inputTokens": 1, "outputTokens": 2, "cachedTokens": 0, "reasoningTokens": 0}
    old = {"content": "hi", "usage": usage, "costUsd": None, "provider": "p", "model": "m", "finishReason": "stop"}
    reply = ChatReply.model_validate(old)
    assert (reply.tool_calls, reply.usage) == ([], Usage(input_tokens=1, output_tokens=2))
