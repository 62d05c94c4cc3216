"""Anthropic's messages over a real socket: what is sent, what is booked, what each failure comes to."""

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
from support.anthropic_server import AnthropicServer

both_ways = pytest.mark.parametrize("stream", ["never", "always"])


@pytest.fixture
def server() -> Iterator[AnthropicServer]:
    with AnthropicServer() as made:
        yield made


@both_ways
def test_a_call_is_made_as_the_api_wants_it(server: AnthropicServer, stream: Streaming) -> None:
    """The version and the key are headers, nothing is in the URL, and max_tokens is given although nobody asked."""
    reply = ask("anthropic", server, "ok", stream=stream)
    call = server.calls[0]
    assert reply.content.startswith("reply to ")
    assert reply.finish_reason == "stop"
    assert call.path == "/v1/messages"
    assert call.headers["x-api-key"] == KEY
    assert call.headers["anthropic-version"] == "2026-10-21"
    assert call.body["max_tokens"] == 32_000
    assert call.body.get("stream", False) == (stream == "always")


@both_ways
def test_usage_is_booked_with_what_the_cache_gave_and_took(server: AnthropicServer, stream: Streaming) -> None:
    """Anthropic counts cache reads and writes beside the input; here the input includes them."""
    reply = ask("anthropic", server, "usage_100_20+cached_40+written_7+thinks_5", stream=stream)
    assert reply.usage == Usage(
        input_tokens=147, output_tokens=20, cached_tokens=40, reasoning_tokens=5, cache_write_tokens=7
    )
    assert reply.content.startswith("reply to ")


def test_a_known_model_has_its_price(server: AnthropicServer) -> None:
    """12 tokens in and 34 out at 2 and 10 dollars a million; a model nobody has priced costs nothing anybody knows."""
    assert ask("anthropic", server, "claude-sonnet-5-5").cost_usd == pytest.approx((12 * 2 + 34 * 10) / 1e6)
    assert ask("anthropic", server, "claude-nobody").cost_usd is None


@both_ways
def test_a_tool_call_comes_back_in_the_one_form_and_goes_on(server: AnthropicServer, stream: Streaming) -> None:
    """Its arguments are JSON text; told again with the tool's answer, it goes with the thinking that led to it."""
    asked = {"role": "user", "content": "how is the weather?"}
    first = ask("anthropic", server, "calls+thinks_5", stream=stream, messages=[asked], tools=[WEATHER])
    (call,) = first.tool_calls
    assert first.finish_reason == "tool_calls"
    assert call["function"]["name"] == "weather"
    assert list(json.loads(call["function"]["arguments"])) == ["place"]

    told = [asked, {"role": "assistant", "tool_calls": [call]}]
    told.append({"role": "tool", "tool_call_id": call["id"], "content": "rain"})
    ask("anthropic", server, "calls+thinks_5", stream=stream, messages=told, tools=[WEATHER])
    assistant, answer = server.calls[1].body["messages"][1:]
    assert [block["type"] for block in assistant["content"]] == ["thinking", "tool_use"]
    assert assistant["content"][0]["signature"] == "c2lnbmVk"
    assert answer["content"][0] == {
        "type": "tool_result",
        "tool_use_id": call["id"],
        "content": [{"type": "text", "text": "rain"}],
    }


@both_ways
def test_a_schema_is_sent_as_one(server: AnthropicServer, stream: Streaming) -> None:
    """The reply conforms, and nothing about JSON had to be said to the model."""
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    reply = ask("anthropic", server, "claude-sonnet-5-5", stream=stream, response_format=schema)
    assert list(json.loads(reply.content)) == ["name"]
    assert "system" not in server.calls[0].body


def test_json_without_a_schema_is_instructed(server: AnthropicServer) -> None:
    """The API has no such mode: the model is told."""
    reply = ask("anthropic", server, "ok", response_format="json")
    assert json.loads(reply.content)["answer"]
    assert "JSON" in server.calls[0].body["system"]


def test_temperature_is_never_sent(server: AnthropicServer) -> None:
    """The API refuses it: it is left out, or refused before anything is sent."""
    ask("anthropic", server, "ok", temperature=0.2)
    assert "temperature" not in server.calls[0].body
    failure = failure_of("anthropic", server, "ok", temperature=0.2, drop=False)
    assert (failure.code, failure.fate) == ("bad_request", "permanent")
    assert "temperature" in failure.message
    assert len(server.calls) == 1


@both_ways
@pytest.mark.parametrize(("model", "code"), [("refusal+usage_9_3", "blocked"), ("truncated+usage_9_3", "truncated")])
def test_a_reply_that_is_of_no_use_is_booked(server: AnthropicServer, stream: Streaming, model: str, code: str) -> None:
    """A refusal, or tokens that ran out in thought: a failure that is not retried, with what it cost."""
    failure = failure_of("anthropic", server, model, stream=stream)
    assert (failure.code, failure.fate) == (code, "permanent")
    assert failure.usage is not None
    assert (failure.usage.input_tokens, failure.usage.output_tokens) == (9, 3)


@pytest.mark.parametrize(
    ("model", "code", "fate", "wait"),
    [
        ("fail_400", "bad_request", "permanent", None),
        ("fail_401", "auth", "permanent", None),
        ("fail_402", "quota", "permanent", None),
        ("fail_403", "auth", "permanent", None),
        ("fail_413", "bad_request", "permanent", None),
        ("fail_429+after_7", "rate_limited", "refused", 7.0),
        ("fail_500", "server", "ambiguous", None),
        ("fail_504", "server", "ambiguous", None),
        ("fail_529", "overloaded", "refused", None),
        ("spent", "quota", "permanent", None),
        ("spent400", "quota", "permanent", None),
    ],
)
def test_an_error_says_what_became_of_the_call(
    server: AnthropicServer, model: str, code: str, fate: str, wait: float | None
) -> None:
    """Each kind of error; a limit of spending is not waited for, whether it is told as 429 or as 400."""
    failure = failure_of("anthropic", server, model)
    assert (failure.code, failure.fate, failure.retry_after) == (code, fate, wait)
    assert failure.details["requestId"] == "req_1"
    assert KEY not in failure.message


@pytest.mark.parametrize(
    ("model", "code", "fate"),
    [
        ("overloaded_0", "overloaded", "refused"),
        ("overloaded_4", "overloaded", "ambiguous"),
        ("cut", "disconnected", "ambiguous"),
    ],
)
def test_a_stream_without_its_end_is_a_failure(server: AnthropicServer, model: str, code: str, fate: str) -> None:
    """An error in the middle of it, or an end before message_stop; before the first word, nothing was bought."""
    failure = failure_of("anthropic", server, model, stream="always")
    assert (failure.code, failure.fate) == (code, fate)


def test_what_a_broken_stream_has_told_of_its_bill_is_kept(server: AnthropicServer) -> None:
    """The prompt's tokens were told at its start."""
    failure = failure_of("anthropic", server, "cut+usage_70_20", stream="always")
    assert failure.usage is not None
    assert failure.usage.input_tokens == 70


@both_ways
def test_silence_in_the_middle_is_a_timeout(server: AnthropicServer, stream: Streaming) -> None:
    """The idle time ends it, long before the deadline."""
    assert failure_of("anthropic", server, "stall", stream=stream, idle=0.2).code == "timeout"


def test_a_base_url_may_name_the_version(server: AnthropicServer) -> None:
    """Both forms people know lead to the same place."""

    class Versioned(AnthropicServer):
        @property
        def base_url(self) -> str:
            return f"{super().base_url}/v1"

    with Versioned() as other:
        ask("anthropic", other, "ok")
        assert other.calls[0].path == "/v1/messages"


def test_settings_alone_bring_it_into_the_gateway(tmp_path: Path, server: AnthropicServer) -> None:
    """By the name everybody knows, or under another by its kind; at a server of one's own, without a key."""
    named, mine = (
        ProviderSettings(base_url=server.base_url),
        ProviderSettings(kind="anthropic", base_url=server.base_url),
    )
    with world(tmp_path, providers={"anthropic": named, "mine": mine}) as here:
        for provider in ("anthropic", "mine"):
            assert here.ask("usage_9_3", provider=provider)["usage"]["inputTokens"] == 9
    assert not {"x-api-key", "x-goog-api-key"} & server.calls[0].headers.keys()
