"""The OpenAI wire format: what is asked, what is read, and that nothing a server says breaks the reader."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import ChatRequest, Message, Usage
from pop_actors.providers import openai_wire
from pop_actors.providers.catalogue import VENDORS
from pop_actors.providers.openai_wire import parse_reply
from pop_actors.providers.types import AttemptFailed, Parsed, ServerEvent

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "message", "content", "usage", "prompt_tokens", "finish_reason", "text", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def asked(vendor: str, model: str = "some-model", *, stream: bool = False, **request: Any) -> dict[str, Any]:
    messages = request.pop("messages", [Message(role="user", content="hello")])
    sent = openai_wire.request(ChatRequest(messages=messages, **request), model, VENDORS[vendor], stream=stream)
    assert sent.path == "/chat/completions"
    body: dict[str, Any] = orjson.loads(sent.body)
    return body


def reply(content: Any = "hi", finish: Any = "stop", **document: Any) -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish}], **document})


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    """A bare request has a model and messages: no temperature, no limits, no format."""
    assert asked("openai") == {"model": "some-model", "messages": [{"role": "user", "content": "hello"}]}


def test_the_token_limit_goes_by_the_vendors_name_for_it() -> None:
    """OpenAI and Moonshot call it max_completion_tokens, DeepSeek and Zhipu max_tokens."""
    vendors = [name for name, vendor in VENDORS.items() if vendor.kind == "openai"]
    names = {vendor: set(asked(vendor, max_tokens=5)) - {"model", "messages"} for vendor in vendors}
    assert names == {
        "openai": {"max_completion_tokens"},
        "moonshot": {"max_completion_tokens"},
        "deepseek": {"max_tokens"},
        "zhipu": {"max_tokens"},
    }


def test_a_byte_order_mark_is_no_part_of_a_reply() -> None:
    """Some servers of one's own put one there."""
    assert parse_reply(b"\xef\xbb\xbf" + reply("hi")).content == "hi"


def test_more_tokens_than_a_model_writes_are_refused_before_they_are_asked_for() -> None:
    """Z.ai answers such a request with a 400; where nothing is known of a model, its vendor decides."""
    assert asked("zhipu", "glm-5.3", max_tokens=131_072)["max_tokens"] == 131_072
    with pytest.raises(AttemptFailed, match="131072") as refused:
        asked("zhipu", "glm-5.3", max_tokens=131_073)
    assert (refused.value.code, refused.value.fate) == ("bad_request", "permanent")
    assert asked("deepseek", max_tokens=10**6)["max_tokens"] == 10**6


def test_a_schema_goes_natively_where_the_vendor_takes_one_and_is_shown_where_not() -> None:
    """OpenAI gets json_schema, not strict; DeepSeek gets json_object and the schema in a system message."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    native = asked("openai", response_format=schema)
    shown = asked("deepseek", response_format=schema)
    assert native["response_format"]["json_schema"] == {"name": "reply", "schema": schema, "strict": False}
    assert len(native["messages"]) == 1
    assert shown["response_format"] == {"type": "json_object"}
    assert '"properties":{"a"' in shown["messages"][0]["content"]


@pytest.mark.parametrize(("text", "count"), [("hello", 2), ("answer in JSON please", 1)])
def test_json_is_mentioned_once(text: str, count: int) -> None:
    """Vendors refuse json_object where no message says JSON; one that does is left alone."""
    body = asked("openai", messages=[Message(role="user", content=text)], response_format="json")
    assert len(body["messages"]) == count


def test_a_plain_reply_is_read() -> None:
    """Text, usage with its parts, and the finish reason."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    expected = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2, cache_write_tokens=3)
    assert parse_reply(reply("hi", "length", usage=usage)) == Parsed("hi", expected, "length")


@pytest.mark.parametrize("where", ["prompt_cache_hit_tokens", "cached_tokens"])
def test_cached_tokens_are_found_where_deepseek_and_kimi_put_them(where: str) -> None:
    """Beside the totals instead of in the details."""
    parsed = parse_reply(reply(usage={"prompt_tokens": 10, "completion_tokens": 1, where: 7}))
    assert parsed.usage.cached_tokens == 7


def test_text_in_parts_is_joined() -> None:
    """Content as a list of parts reads as one text."""
    assert parse_reply(reply([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, 7])).content == "ab"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_reply"),
        (b"  \n", "bad_reply"),
        (b"<html>", "bad_reply"),
        (b"[1]", "bad_reply"),
        (b"{}", "bad_reply"),
        (b'{"choices": []}', "bad_reply"),
        (b'{"choices": [7]}', "bad_reply"),
        (reply(7), "bad_reply"),
        (reply(None, "tool_calls"), "bad_reply"),
        (reply("", "stop"), "bad_reply"),
        (reply("", "length"), "truncated"),
        (reply(None, "content_filter"), "blocked"),
        (b'{"choices": [{"message": {"content": null, "refusal": "I will not"}}]}', "blocked"),
    ],
)
def test_a_reply_without_text_is_a_failure_that_is_not_retried(body: bytes, code: str) -> None:
    """Each kind has its code, and none is sent again here: it was paid."""
    with pytest.raises(AttemptFailed) as failed:
        parse_reply(body)
    assert (failed.value.code, failed.value.fate) == (code, "permanent")


def test_a_failure_carries_the_usage_that_was_billed() -> None:
    """Reasoning that ate the whole budget is paid, and says so."""
    with pytest.raises(AttemptFailed) as failed:
        parse_reply(reply("", "length", usage={"prompt_tokens": 3, "completion_tokens": 100}))
    assert failed.value.usage == Usage(input_tokens=3, output_tokens=100)


@given(json_values)
def test_no_json_breaks_the_reader(document: Any) -> None:
    """Whatever JSON comes, it is a reply with text or tool calls, or an AttemptFailed."""
    try:
        parsed = parse_reply(orjson.dumps(document))
    except AttemptFailed:
        return
    assert parsed.content or parsed.tool_calls
    assert parsed.usage.input_tokens >= 0


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    """Whatever bytes come as a reply, they are judged and not tripped over."""
    with pytest.raises(AttemptFailed):
        parse_reply(b"\xff" + body)


@pytest.mark.parametrize(
    ("vendor", "model", "level", "said"),
    [
        ("openai", "gpt-5-nano", "low", {"reasoning_effort": "low"}),
        ("openai", "gpt-5.2", "none", {"reasoning_effort": "none"}),
        ("deepseek", "deepseek-v4-pro", "max", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
        ("deepseek", "deepseek-v4-pro", "none", {"thinking": {"type": "disabled"}}),
        ("moonshot", "kimi-k3", "high", {"reasoning_effort": "high"}),
        ("moonshot", "kimi-k2.6", "none", {"thinking": {"type": "disabled"}}),
        ("moonshot", "kimi-k2.6", "high", {"thinking": {"type": "enabled"}}),
        ("zhipu", "glm-5.3", "max", {"reasoning_effort": "max"}),
        ("zhipu", "glm-4.6", "none", {"thinking": {"type": "disabled"}}),
    ],
)
def test_an_effort_is_said_as_the_model_understands_it(
    vendor: str, model: str, level: Any, said: dict[str, Any]
) -> None:
    """As a level, as a switch, or as both."""
    body = asked(vendor, model, reasoning_effort=level)
    assert {key: value for key, value in body.items() if key not in {"model", "messages"}} == said


def test_the_developers_role_is_the_systems_where_it_is_not_known() -> None:
    """OpenAI takes it; the others would refuse it."""
    said = [Message(role="developer", content="be brief"), Message(role="user", content="hi")]
    assert asked("openai", messages=said)["messages"][0]["role"] == "developer"
    assert asked("zhipu", messages=said)["messages"][0]["role"] == "system"


def test_an_image_goes_as_it_is() -> None:
    """It has this format's form already."""
    parts = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    assert asked("openai", messages=[Message(role="user", content=parts)])["messages"][0]["content"] == parts


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def test_tools_and_their_calls_go_as_they_are_without_what_is_ours() -> None:
    """Tools, choice, calls and answers; what the provider wanted back with a call stands where it wants it."""
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "tool_calls": [CALL | {"extra_content": {"reasoning_content": "I thought"}}]},
        {"role": "tool", "content": "7", "tool_call_id": "c1"},
    ]
    body = asked("deepseek", messages=messages, tools=[TOOL], tool_choice="required")
    assert (body["tools"], body["tool_choice"]) == ([TOOL], "required")
    assert body["messages"][1:] == [
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "I thought"},
        {"role": "tool", "content": "7", "tool_call_id": "c1"},
    ]


@pytest.mark.parametrize(
    ("vendor", "effort", "known", "unknown"),
    [
        ("deepseek", None, "I thought", ""),
        ("deepseek", "none", "I thought", None),
        ("moonshot", None, "I thought", None),
        ("openai", None, None, None),
    ],
)
def test_thoughts_go_back_to_those_who_know_the_word(
    vendor: str, effort: Any, known: str | None, unknown: str | None
) -> None:
    """A conversation another provider began may have none: DeepSeek wants the word all the same while it thinks."""
    for extra, told in (({"extra_content": {"reasoning_content": "I thought"}}, known), ({}, unknown)):
        messages = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "tool_calls": [CALL | extra]},
            {"role": "tool", "content": "7", "tool_call_id": "c1"},
        ]
        body = asked(vendor, vendor, messages=messages, tools=[TOOL], reasoning_effort=effort)
        assert [message.get("reasoning_content") for message in body["messages"]] == [None, told, None]


def test_tool_calls_are_read_with_what_was_thought_before_them() -> None:
    """No text, but calls: a reply. Some providers want their reasoning back with the answers."""
    message = {"content": None, "reasoning_content": "hm", "tool_calls": [CALL, {"function": {}}, 7]}
    parsed = parse_reply(orjson.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}))
    assert (parsed.content, parsed.finish_reason) == ("", "tool_calls")
    assert parsed.tool_calls == (CALL | {"extra_content": {"reasoning_content": "hm"}},)


def test_tool_calls_that_were_cut_off_are_none() -> None:
    """Their arguments are no JSON: the reply is truncated."""
    message = {"content": "", "tool_calls": [CALL]}
    with pytest.raises(AttemptFailed) as failed:
        parse_reply(orjson.dumps({"choices": [{"message": message, "finish_reason": "length"}]}))
    assert failed.value.code == "truncated"


@pytest.mark.parametrize(
    ("document", "code", "fate"),
    [
        ({"error": {"code": 429, "message": "later"}}, "rate_limited", "ambiguous"),
        ({"error": {"type": "insufficient_quota"}}, "quota", "permanent"),
        ({"error": "no idea"}, "server", "ambiguous"),
        ({"choices": [{"message": {"content": "half"}, "finish_reason": "network_error"}]}, "server", "ambiguous"),
        (
            {"choices": [{"message": {}, "finish_reason": "insufficient_system_resource"}]},
            "server",
            "ambiguous",
        ),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "sensitive"}]}, "blocked", "permanent"),
    ],
)
def test_an_error_told_with_status_200_is_an_error(document: Any, code: str, fate: str) -> None:
    """Some servers say OK first; what was begun may have been billed, so a retry is never free."""
    with pytest.raises(AttemptFailed) as failed:
        parse_reply(orjson.dumps(document))
    assert (failed.value.code, failed.value.fate) == (code, fate)


def streamed(*chunks: Any) -> Parsed:
    stream = openai_wire.open_stream()
    for chunk in chunks:
        stream.feed(ServerEvent("message", chunk if isinstance(chunk, str) else orjson.dumps(chunk).decode()))
    return stream.close()


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def test_a_stream_asks_for_its_usage() -> None:
    """Without that a stream says nothing of what it cost."""
    body = asked("openai", stream=True)
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_a_stream_is_read_like_the_reply_it_stands_for() -> None:
    """Text in pieces, usage in the last chunk, and [DONE]."""
    usage = {"prompt_tokens": 5, "completion_tokens": 2}
    parsed = streamed(
        delta(role="assistant", content=""),
        delta(reasoning_content="hm"),
        delta(content="Hel"),
        delta(content="lo"),
        delta("stop"),
        {"choices": [], "usage": usage},
        "[DONE]",
    )
    assert parsed == Parsed("Hello", Usage(input_tokens=5, output_tokens=2), "stop")


def test_tool_calls_are_put_together_from_their_pieces() -> None:
    """By index: the name comes first, the arguments bit by bit."""
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    second = {"index": 1, "id": "c2", "function": {"name": "g", "arguments": "{}"}}
    parsed = streamed(
        delta(tool_calls=[first]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
        delta(tool_calls=[second, {"index": 0, "function": {"arguments": ":1}"}}]),
        delta("tool_calls"),
        "[DONE]",
    )
    assert parsed.tool_calls == (CALL, openai_wire.tool_call("c2", "g", "{}"))


@pytest.mark.parametrize("chunks", [[], [delta(content="half")], [delta("stop", content="all but the end")]])
def test_a_stream_without_its_terminator_is_a_failure(chunks: list[Any]) -> None:
    """Also one that looks complete: it may have been worked on, so a retry is counted as such."""
    with pytest.raises(AttemptFailed) as failed:
        streamed(*chunks)
    assert (failed.value.code, failed.value.fate) == ("disconnected", "ambiguous")


def test_a_stream_that_broke_off_after_its_usage_is_billed() -> None:
    """What was said of the bill is kept with the failure; Kimi says it within the choice."""
    last = delta("stop", content="x")
    last["choices"][0]["usage"] = {"prompt_tokens": 3, "completion_tokens": 4}
    with pytest.raises(AttemptFailed) as failed:
        streamed(last)
    assert failed.value.usage == Usage(input_tokens=3, output_tokens=4)


def test_an_error_in_a_stream_ends_it() -> None:
    """After a 200 it is the only way to say it."""
    with pytest.raises(AttemptFailed) as failed:
        streamed(delta(content="half"), {"error": {"code": "server_is_overloaded", "message": "sorry"}})
    assert (failed.value.code, failed.value.fate) == ("overloaded", "ambiguous")


@pytest.mark.parametrize("ending", [["[DONE]"], [{"choices": []}, "[DONE]"], [delta("stop"), "[DONE]"]])
def test_a_stream_that_says_nothing_is_a_bad_reply(ending: list[Any]) -> None:
    """As a plain reply without text would be."""
    with pytest.raises(AttemptFailed) as failed:
        streamed(*ending)
    assert failed.value.code == "bad_reply"


@given(st.lists(json_values | st.text(max_size=20), max_size=5))
def test_no_events_break_the_stream_reader(chunks: list[Any]) -> None:
    """Whatever events come, they end in a reply or an AttemptFailed."""
    try:
        parsed = streamed(*chunks, "[DONE]")
    except AttemptFailed:
        return
    assert parsed.content or parsed.tool_calls


@given(st.text(max_size=60), st.data())
def test_a_stream_and_a_plain_reply_say_the_same(content: str, data: st.DataObject) -> None:
    """However the text is cut into deltas, it comes to what one reply with the whole text comes to."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=4)))
    pieces = [content[start:end] for start, end in zip([0, *cuts], [*cuts, len(content)], strict=True)]

    def outcome(read: Any) -> Any:
        try:
            return read()
        except AttemptFailed as failure:
            return failure.code

    plain = outcome(lambda: parse_reply(reply(content)))
    assert outcome(lambda: streamed(*(delta(content=piece) for piece in pieces), delta("stop"), "[DONE]")) == plain
