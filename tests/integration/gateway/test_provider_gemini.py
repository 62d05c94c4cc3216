"""Gemini's generateContent over a real socket: what is sent, what is booked, and what each failure comes to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_world import world
from wire_calls import KEY, WEATHER, ask, failure_of

from pop_actors.config import ProviderSettings
from pop_actors.core.chat import Usage
from pop_actors.providers.http_transport import Streaming
from support.gemini_server import GeminiServer

both_ways = pytest.mark.parametrize("stream", ["never", "always"])


@pytest.fixture
def server() -> Iterator[GeminiServer]:
    with GeminiServer() as made:
        yield made


@both_ways
def test_a_call_is_made_as_the_api_wants_it(server: GeminiServer, stream: Streaming) -> None:
    """The model is in the path, the key in a header and nowhere else, and nothing is said that was not asked for."""
    reply = ask("gemini", server, "ok", stream=stream)
    call = server.calls[0]
    verb = "streamGenerateContent?alt=sse" if stream == "always" else "generateContent"
    assert (reply.content[:9], reply.finish_reason) == ("reply to ", "stop")
    assert call.path == f"/v1/models/ok:{verb}"
    assert call.headers["x-goog-api-key"] == KEY
    assert "authorization" not in call.headers
    assert call.body == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


@both_ways
def test_usage_is_booked_with_its_thoughts(server: GeminiServer, stream: Streaming) -> None:
    """Thoughts add to the output; the cached part of the prompt is in it already; what was thought is not the reply."""
    reply = ask("gemini", server, "usage_100_20+cached_40+thinks_5", stream=stream)
    assert reply.usage == Usage(input_tokens=100, output_tokens=25, cached_tokens=40, reasoning_tokens=5)
    assert reply.content.startswith("reply to ")


def test_a_known_model_has_its_price(server: GeminiServer) -> None:
    """12 tokens in and 34 out at 0.30 and 2.50 dollars a million."""
    assert ask("gemini", server, "gemini-2.5-flash").cost_usd == pytest.approx((12 * 0.3 + 34 * 2.5) / 1e6)
    assert ask("gemini", server, "gemini-nobody").cost_usd is None


@both_ways
def test_a_tool_call_comes_back_in_the_one_form_and_goes_on(server: GeminiServer, stream: Streaming) -> None:
    """Its arguments are JSON text; told again with the tool's answer, it goes with its signature."""
    asked = {"role": "user", "content": "how is the weather?"}
    first = ask("gemini", server, "calls", stream=stream, messages=[asked], tools=[WEATHER])
    (call,) = first.tool_calls
    assert first.finish_reason == "tool_calls"
    assert call["function"]["name"] == "weather"
    assert list(json.loads(call["function"]["arguments"])) == ["place"]

    told = [asked, {"role": "assistant", "tool_calls": [call]}]
    told.append({"role": "tool", "tool_call_id": call["id"], "content": '{"sky": "grey"}'})
    ask("gemini", server, "calls", stream=stream, messages=told, tools=[WEATHER])
    made, answer = server.calls[1].body["contents"][1:]
    assert made["parts"][0]["thoughtSignature"] == "c2lnbmVk"
    assert answer["parts"][0]["functionResponse"] == {"id": "fc_1", "name": "weather", "response": {"sky": "grey"}}


@both_ways
def test_json_is_native_with_and_without_a_schema(server: GeminiServer, stream: Streaming) -> None:
    """The reply conforms, and nothing about JSON had to be said to the model."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    assert list(json.loads(ask("gemini", server, "ok", stream=stream, response_format=schema).content)) == ["name"]
    assert json.loads(ask("gemini", server, "ok", stream=stream, response_format="json").content)["answer"]
    assert all("systemInstruction" not in call.body for call in server.calls)


@both_ways
@pytest.mark.parametrize(
    ("model", "code"),
    [("blocked+usage_9_0", "blocked"), ("unsafe+usage_9_0", "blocked"), ("truncated+usage_9_0+thinks_4", "truncated")],
)
def test_a_reply_that_is_of_no_use_is_booked(server: GeminiServer, stream: Streaming, model: str, code: str) -> None:
    """A blocked prompt is a 200 without candidates: a failure that is not retried, with what it cost."""
    failure = failure_of("gemini", server, model, stream=stream)
    assert (failure.code, failure.fate) == (code, "permanent")
    assert failure.usage is not None
    assert failure.usage.input_tokens == 9


@pytest.mark.parametrize(
    ("model", "code", "fate", "wait"),
    [
        ("fail_400", "bad_request", "permanent", None),
        ("fail_403", "auth", "permanent", None),
        ("fail_402", "quota", "permanent", None),
        ("fail_429", "rate_limited", "refused", None),
        ("fail_500", "server", "ambiguous", None),
        ("fail_503", "overloaded", "refused", None),
        ("fail_504", "server", "ambiguous", None),
        ("badkey", "auth", "permanent", None),
        ("minute", "rate_limited", "refused", 46.0),
        ("daily", "quota", "permanent", None),
        ("nothing", "quota", "permanent", None),
    ],
)
def test_an_error_says_what_became_of_the_call(
    server: GeminiServer, model: str, code: str, fate: str, wait: float | None
) -> None:
    """Each kind of error; RetryInfo is heeded for the minute's quota, and not believed for the day's."""
    failure = failure_of("gemini", server, model)
    assert (failure.code, failure.fate, failure.retry_after) == (code, fate, wait)
    assert KEY not in failure.message


@pytest.mark.parametrize(
    ("model", "code"), [("broken_0", "overloaded"), ("broken_1", "overloaded"), ("cut", "disconnected")]
)
def test_a_stream_without_its_end_is_a_failure(server: GeminiServer, model: str, code: str) -> None:
    """An error in the middle of it, or an end before any finishReason: it may have been billed."""
    failure = failure_of("gemini", server, model, stream="always")
    assert (failure.code, failure.fate) == (code, "ambiguous")


@both_ways
def test_silence_in_the_middle_is_a_timeout(server: GeminiServer, stream: Streaming) -> None:
    """The idle time ends it, long before the deadline."""
    assert failure_of("gemini", server, "stall", stream=stream, idle=0.2).code == "timeout"


def test_settings_alone_bring_it_into_the_gateway(tmp_path: Path, server: GeminiServer) -> None:
    """By the name everybody knows, or under another by its kind; at a server of one's own, without a key."""
    named, mine = ProviderSettings(base_url=server.base_url), ProviderSettings(kind="gemini", base_url=server.base_url)
    with world(tmp_path, providers={"gemini": named, "mine": mine}) as here:
        for provider in ("gemini", "mine"):
            assert here.ask("usage_9_3", provider=provider)["usage"]["inputTokens"] == 9
    assert not {"x-api-key", "x-goog-api-key"} & server.calls[0].headers.keys()
