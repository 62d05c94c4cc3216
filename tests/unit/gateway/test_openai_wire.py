"""The OpenAI wire format: what is asked, what is read, and that nothing a server says breaks the reader."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.chat import ChatRequest, Message, Usage
from pop_actors.providers import failures
from pop_actors.providers.catalogue import VENDORS
from pop_actors.providers.openai_wire import parse_reply, request_body
from pop_actors.providers.types import AttemptFailed

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


def asked(vendor: str, **request: Any) -> dict[str, Any]:
    messages = request.pop("messages", [Message(role="user", content="hello")])
    body: dict[str, Any] = orjson.loads(
        request_body(ChatRequest(messages=messages, **request), "some-model", VENDORS[vendor])
    )
    return body


def reply(content: Any = "hi", finish: Any = "stop", **document: Any) -> bytes:
    return orjson.dumps({"choices": [{"message": {"content": content}, "finish_reason": finish}], **document})


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    """A bare request has a model and messages: no temperature, no limits, no format."""
    assert asked("openai") == {"model": "some-model", "messages": [{"role": "user", "content": "hello"}]}


def test_the_token_limit_goes_by_the_vendors_name_for_it() -> None:
    """OpenAI and Moonshot call it max_completion_tokens, DeepSeek and Zhipu max_tokens."""
    names = {vendor: set(asked(vendor, max_tokens=5)) - {"model", "messages"} for vendor in VENDORS}
    assert names == {
        "openai": {"max_completion_tokens"},
        "moonshot": {"max_completion_tokens"},
        "deepseek": {"max_tokens"},
        "zhipu": {"max_tokens"},
    }


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
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    expected = Usage(input_tokens=10, output_tokens=5, cached_tokens=4, reasoning_tokens=2)
    assert parse_reply(reply("hi", "length", usage=usage)) == ("hi", expected, "length")


@pytest.mark.parametrize("where", ["prompt_cache_hit_tokens", "cached_tokens"])
def test_cached_tokens_are_found_where_deepseek_and_kimi_put_them(where: str) -> None:
    """Beside the totals instead of in the details."""
    _, usage, _ = parse_reply(reply(usage={"prompt_tokens": 10, "completion_tokens": 1, where: 7}))
    assert usage.cached_tokens == 7


def test_text_in_parts_is_joined() -> None:
    """Content as a list of parts reads as one text."""
    assert parse_reply(reply([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, 7]))[0] == "ab"


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
    """Whatever JSON comes, it is a reply with text or an AttemptFailed."""
    try:
        content, usage, _ = parse_reply(orjson.dumps(document))
    except AttemptFailed:
        return
    assert content
    assert usage.input_tokens >= 0


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    """Whatever bytes come, as a reply or as an error, they are judged and not tripped over."""
    with pytest.raises(AttemptFailed):
        parse_reply(b"\xff" + body)
    assert failures.from_status(500, {}, body, 0.0).code == "server"


@pytest.mark.parametrize(
    ("status", "words", "code", "fate"),
    [
        (400, {}, "bad_request", "permanent"),
        (401, {}, "auth", "permanent"),
        (402, {}, "quota", "permanent"),
        (403, {}, "auth", "permanent"),
        (403, {"type": "exceeded_current_quota_error"}, "quota", "permanent"),
        (404, {}, "bad_request", "permanent"),
        (408, {}, "timeout", "ambiguous"),
        (422, {}, "bad_request", "permanent"),
        (429, {}, "rate_limited", "refused"),
        (429, {"code": "insufficient_quota"}, "quota", "permanent"),
        (429, {"code": "1113"}, "quota", "permanent"),
        (429, {"code": "1302"}, "rate_limited", "refused"),
        (500, {}, "server", "ambiguous"),
        (502, {}, "server", "ambiguous"),
        (503, {}, "overloaded", "refused"),
        (504, {}, "server", "ambiguous"),
        (529, {}, "overloaded", "refused"),
        (599, {}, "server", "ambiguous"),
        (307, {}, "bad_reply", "permanent"),
    ],
)
def test_a_status_says_what_became_of_the_request(status: int, words: dict[str, str], code: str, fate: str) -> None:
    """Code and fate of each status, and of the 429s and 403s that waiting does not cure."""
    failure = failures.from_status(status, {}, orjson.dumps({"error": {"message": "no", **words}}), 0.0)
    assert (failure.code, failure.fate) == (code, fate)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:01 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_each_of_its_forms(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds, an HTTP date; nonsense is as if nothing was said."""
    assert failures.retry_after(headers, 10.0) == seconds


def test_a_provider_may_forbid_the_retry() -> None:
    """x-should-retry: false wins over a status that would be retried."""
    assert failures.from_status(503, {"x-should-retry": "false", "retry-after": "1"}, b"", 0.0).fate == "permanent"
