"""OpenAI's responses format: what is asked, what is read, and that nothing a server says breaks the reader."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import ChatRequest, Usage
from pop_actors.providers import responses_wire
from pop_actors.providers.catalogue import VENDORS
from pop_actors.providers.responses_wire import parse_reply
from pop_actors.providers.types import AttemptFailed, Parsed, ServerEvent

HELLO = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
USAGE = {
    "input_tokens": 10,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2},
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["output", "type", "content", "usage", "status", "text", "response", "error", "name"]),
            inner | st.sampled_from(["message", "output_text", "function_call", "completed", "response.completed"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)


def asked(*, stream: bool = False, **request: Any) -> dict[str, Any]:
    made = ChatRequest.model_validate({"messages": [HELLO], **request})
    sent = responses_wire.request(made, "gpt-x", VENDORS["openai"], stream=stream)
    assert sent.path == "/responses"
    body: dict[str, Any] = orjson.loads(sent.body)
    return body


def message(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text}]}


def response(*output: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    return {"status": status, "output": list(output), "usage": USAGE, **more}


def test_nothing_is_sent_that_was_not_asked_for_and_nothing_is_stored() -> None:
    """A bare request has a model and input; `store` is said, since its default is true."""
    assert asked() == {"model": "gpt-x", "store": False, "input": [HELLO]}


def test_every_parameter_has_its_own_name_here() -> None:
    """Limit, effort, format and tools as this format says them; the format is flat."""
    schema = {"type": "object"}
    body = asked(
        maxTokens=9, reasoningEffort="low", responseFormat=schema, tools=[TOOL], toolChoice="auto", temperature=0.5
    )
    assert body["max_output_tokens"] == 9
    assert body["reasoning"] == {"effort": "low"}
    assert body["temperature"] == 0.5
    assert body["text"] == {"format": {"type": "json_schema", "name": "reply", "schema": schema, "strict": False}}
    assert body["tools"] == [{"type": "function", "strict": False, **TOOL["function"]}]  # type: ignore[dict-item]
    assert body["tool_choice"] == "auto"


def test_a_named_tool_is_named_flatly() -> None:
    """Without the function around it."""
    choice = {"type": "function", "function": {"name": "f"}}
    assert asked(tools=[TOOL], toolChoice=choice)["tool_choice"] == {"type": "function", "name": "f"}


def test_leading_system_messages_are_the_instructions() -> None:
    """Later ones stay where they stand; where there is nothing else they are the input."""
    system = {"role": "system", "content": "be brief"}
    body = asked(messages=[system, {"role": "developer", "content": "in verse"}, HELLO, system])
    assert (body["instructions"], body["input"]) == ("be brief\n\nin verse", [HELLO, system])
    alone = asked(messages=[system])
    assert alone["input"] == [system]
    assert "instructions" not in alone


def test_a_conversation_with_tools_and_images_is_told_in_items() -> None:
    """Calls and their outputs are items of their own; parts have other names."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    body = asked(
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
            {"role": "assistant", "content": [{"type": "text", "text": "I see"}], "tool_calls": [CALL]},
            {"role": "tool", "content": "7", "tool_call_id": "c1"},
        ]
    )
    assert body["input"] == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
            ],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "I see"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "7"},
    ]


@pytest.mark.parametrize(("text", "count"), [("hello", 2), ("answer in JSON please", 1)])
def test_json_is_mentioned_once(text: str, count: int) -> None:
    """json_object is refused where no message of the input says JSON."""
    body = asked(messages=[{"role": "user", "content": text}], responseFormat="json")
    assert body["text"] == {"format": {"type": "json_object"}}
    assert len(body["input"]) == count


def test_stop_cannot_be_said() -> None:
    """bad_request before anything is sent, and what to do instead."""
    with pytest.raises(AttemptFailed, match="api = chat") as failed:
        asked(stop=["x"])
    assert (failed.value.code, failed.value.fate) == ("bad_request", "permanent")


def test_a_reply_is_read_without_its_reasoning() -> None:
    """The text of all messages, usage with its parts, and why it ended."""
    body = orjson.dumps(response({"type": "reasoning", "summary": []}, message("Hel"), message("lo")))
    usage = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2, cache_write_tokens=3)
    assert parse_reply(body) == Parsed("Hello", usage, "stop")


def test_tool_calls_are_read_in_the_one_form() -> None:
    """Their id is the call's, not the item's."""
    call = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": '{"a":1}'}
    parsed = parse_reply(orjson.dumps(response(call)))
    assert (parsed.content, parsed.finish_reason, parsed.tool_calls) == ("", "tool_calls", (CALL,))


@pytest.mark.parametrize(
    ("document", "code", "fate"),
    [
        (response(status="incomplete", incomplete_details={"reason": "max_output_tokens"}), "truncated", "permanent"),
        (response(status="incomplete", incomplete_details={"reason": "content_filter"}), "blocked", "permanent"),
        (
            response({"type": "message", "content": [{"type": "refusal", "refusal": "I will not"}]}),
            "blocked",
            "permanent",
        ),
        (response(), "bad_reply", "permanent"),
        (response(status="failed", error={"code": "server_error", "message": "x"}), "server", "ambiguous"),
        (response(status="failed", error={"code": "rate_limit_exceeded"}), "rate_limited", "ambiguous"),
        (response(status="failed"), "server", "ambiguous"),
        ({"usage": USAGE}, "bad_reply", "permanent"),
    ],
)
def test_a_response_without_text_is_a_failure_with_its_usage(document: Any, code: str, fate: str) -> None:
    """Reasoning that ate the whole budget, refusals, filters and breakdowns: all of it was billed."""
    with pytest.raises(AttemptFailed) as failed:
        parse_reply(orjson.dumps(document))
    assert (failed.value.code, failed.value.fate) == (code, fate)
    assert failed.value.usage is not None
    assert failed.value.usage.output_tokens == 5


def test_an_incomplete_text_is_a_reply_that_says_so() -> None:
    """As in the other formats: text that was cut is text, finish_reason length."""
    document = response(message("half"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    parsed = parse_reply(orjson.dumps(document))
    assert (parsed.content, parsed.finish_reason) == ("half", "length")


def streamed(*events: Any) -> Parsed:
    stream = responses_wire.open_stream()
    for document in events:
        stream.feed(ServerEvent("message", orjson.dumps(document).decode()))
    return stream.close()


def test_a_stream_is_read_from_its_last_event() -> None:
    """It has the whole response; what is said before shows only that it lives."""
    stream = responses_wire.open_stream()
    stream.feed(ServerEvent("response.created", '{"type": "response.created", "response": {}}'))
    assert not stream.began
    stream.feed(ServerEvent("x", '{"type": "response.output_text.delta", "delta": "Hel"}'))
    assert stream.began
    assert not stream.done
    done = {"type": "response.completed", "response": response(message("Hello"))}
    stream.feed(ServerEvent("response.completed", orjson.dumps(done).decode()))
    assert stream.done
    assert stream.close().content == "Hello"


def test_items_stand_in_where_the_last_event_has_no_output() -> None:
    """Some servers leave it empty."""
    item = {"type": "response.output_item.done", "item": message("Hello")}
    assert streamed(item, {"type": "response.completed", "response": response()}).content == "Hello"


@pytest.mark.parametrize("kind", ["response.incomplete", "response.failed"])
def test_a_stream_may_end_badly(kind: str) -> None:
    """Its end says how, and what it cost."""
    document = response(status=kind.removeprefix("response."), incomplete_details={"reason": "max_output_tokens"})
    with pytest.raises(AttemptFailed) as failed:
        streamed({"type": kind, "response": document})
    assert failed.value.usage is not None


def test_an_error_event_ends_the_stream() -> None:
    """After a 200 it is the only way to say it."""
    with pytest.raises(AttemptFailed) as failed:
        streamed({"type": "error", "code": "server_is_overloaded", "message": "sorry"})
    assert failed.value.code == "overloaded"


def test_a_stream_without_its_terminator_is_a_failure() -> None:
    """It may have been worked on."""
    with pytest.raises(AttemptFailed) as failed:
        streamed({"type": "response.output_item.done", "item": message("Hello")})
    assert (failed.value.code, failed.value.fate) == ("disconnected", "ambiguous")


@given(json_values)
def test_no_json_breaks_the_reader(document: Any) -> None:
    """Whatever JSON comes, plain or as an event, it is a reply or an AttemptFailed."""
    for read in (lambda: parse_reply(orjson.dumps(document)), lambda: streamed(document, document)):
        try:
            parsed = read()
        except AttemptFailed:
            continue
        assert parsed.content or parsed.tool_calls
