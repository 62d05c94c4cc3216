"""The OpenAI family over a real socket: both APIs, plain and as streams, and what goes wrong on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from pop_actors.core.chat import ChatRequest, Usage
from pop_actors.providers import exchange
from pop_actors.providers.catalogue import COMPATIBLE, VENDORS
from pop_actors.providers.http_transport import Endpoint, HttpProvider, PriceList
from pop_actors.providers.prices import Prices
from pop_actors.providers.registry import WIRES, Api
from pop_actors.providers.types import AttemptFailed, ProviderReply
from support.provider_server import ProviderServer

KEY = "sk-very-secret-1234567890"
SECONDS = 30.0
T = TypeVar("T")
FORMS = [(api, stream) for api in ("chat", "responses") for stream in ("never", "always")]
each_form = pytest.mark.parametrize(("api", "stream"), FORMS, ids=["-".join(form) for form in FORMS])
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as made:
        yield made


def using(
    server: ProviderServer,
    use: Callable[[HttpProvider], Awaitable[T]],
    *,
    vendor: str | None = None,
    api: Api = "chat",
    idle: float = 10.0,
    prices: PriceList | None = None,
    **how: Any,
) -> T:
    """What `use` comes to with a provider that asks the server; `vendor` None: an endpoint nobody knows."""
    known = VENDORS[vendor] if vendor else COMPATIBLE["openai"]
    endpoint = Endpoint(vendor or "mine", server.base_url, SecretStr(KEY), known, idle, **how)

    async def run() -> T:
        provider = HttpProvider(endpoint, WIRES["openai", api], prices or Prices(known.prices))
        try:
            return await use(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def ask(
    server: ProviderServer, model: str, request: dict[str, Any] | None = None, *, seconds: float = SECONDS, **how: Any
) -> ProviderReply:
    async def call(provider: HttpProvider) -> ProviderReply:
        return await provider.chat(chat_request(**request or {}), model, asyncio.get_running_loop().time() + seconds)

    return using(server, call, **how)


def chat_request(**asked: Any) -> ChatRequest:
    return ChatRequest.model_validate({"messages": [{"role": "user", "content": "hello"}], **asked})


def failure_of(server: ProviderServer, model: str, request: dict[str, Any] | None = None, **how: Any) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as failed:
        ask(server, model, request, **how)
    return failed.value


@each_form
def test_a_reply_is_the_same_in_each_form(server: ProviderServer, api: Api, stream: Any) -> None:
    """Text, usage with its parts and the finish reason, at the path of the API, with the key."""
    reply = ask(server, "usage-100-20+cached-40+reasoning-7", api=api, stream=stream)
    assert reply.content.startswith("reply to ")
    assert reply.usage == Usage(input_tokens=100, output_tokens=20, cached_tokens=40, reasoning_tokens=7)
    assert (reply.finish_reason, reply.cost_usd, reply.tool_calls) == ("stop", None, ())
    call = server.calls[0]
    assert call.path == {"chat": "/v1/chat/completions", "responses": "/v1/responses"}[api]
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.headers["content-type"] == "application/json"
    assert ("stream" in call.body) == (stream == "always")


@each_form
def test_a_call_of_a_tool_is_the_same_in_each_form(server: ProviderServer, api: Api, stream: Any) -> None:
    """Name, arguments and the id its answer goes by."""
    reply = ask(server, "tool-look_up", {"tools": [TOOL]}, api=api, stream=stream)
    assert (reply.content, reply.finish_reason) == ("", "tool_calls")
    (call,) = reply.tool_calls
    assert call["id"] == "call_1"
    assert call["function"] == {"name": "look_up", "arguments": '{"query": "x"}'}


@each_form
def test_a_schema_is_answered_in_each_form(server: ProviderServer, api: Api, stream: Any) -> None:
    """The server answers what it was natively asked for."""
    schema = {"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]}
    assert ask(server, "ok", {"response_format": schema}, api=api, stream=stream).content == '{"n": 7}'


@each_form
@pytest.mark.parametrize(
    ("model", "code"), [("truncated", "truncated"), ("blocked", "blocked"), ("emptytext", "bad_reply")]
)
def test_a_reply_without_text_is_billed_in_each_form(
    server: ProviderServer, api: Api, stream: Any, model: str, code: str
) -> None:
    """The failure has the usage; it is for good."""
    failure = failure_of(server, f"{model}+usage-7-9", api=api, stream=stream)
    assert (failure.code, failure.fate) == (code, "permanent")
    assert failure.usage is not None
    assert (failure.usage.input_tokens, failure.usage.output_tokens) == (7, 9)


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_billed_failure_has_its_price(server: ProviderServer, api: Api) -> None:
    """Where the model's price is known: what ate the budget is in the bill."""
    failure = failure_of(server, "gpt-5-nano+truncated", vendor="openai", api=api)
    assert failure.usage is not None
    assert failure.cost_usd is None  # the scripted name is no model anybody sells
    assert ask(server, "gpt-5-nano", vendor="openai", api=api).cost_usd


@each_form
@pytest.mark.parametrize("model", ["empty", "garbage", "notjson", "nochoices", "wrongtypes", "deep", "redirect"])
def test_nonsense_is_a_bad_reply_in_each_form(server: ProviderServer, api: Api, stream: Any, model: str) -> None:
    """One code, and never a second request."""
    failure = failure_of(server, model, api=api, stream=stream)
    assert (failure.code, failure.fate) == ("bad_reply", "permanent")


@each_form
@pytest.mark.parametrize(
    ("model", "code", "fate"),
    [
        ("fail-400", "bad_request", "permanent"),
        ("fail-429+after-250ms", "rate_limited", "refused"),
        ("quota", "quota", "permanent"),
        ("fail-500", "server", "ambiguous"),
        ("fail-503", "overloaded", "refused"),
        ("reset", "disconnected", "ambiguous"),
        ("hangup", "disconnected", "ambiguous"),
    ],
)
def test_errors_are_the_same_in_each_form(
    server: ProviderServer, api: Api, stream: Any, model: str, code: str, fate: str
) -> None:
    """An error comes before the stream begins, and is read as the error it is."""
    failure = failure_of(server, model, api=api, stream=stream)
    assert (failure.code, failure.fate) == (code, fate)
    assert failure.retry_after == (0.25 if "after" in model else None)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("model", ["unfinished", "streamerror"])
def test_a_stream_that_does_not_end_as_it_should_is_a_failure(server: ProviderServer, api: Api, model: str) -> None:
    """Without its terminator, or with an error in the middle: it may have been worked on."""
    failure = failure_of(server, model, api=api, stream="always")
    assert failure.code == {"unfinished": "disconnected", "streamerror": "server"}[model]
    assert failure.fate == "ambiguous"


def test_a_stream_that_stops_in_the_middle_is_given_up_after_the_idle_time(server: ProviderServer) -> None:
    """Long before the deadline, and with what it had said of its usage."""
    failure = failure_of(server, "streamstall+usage-3-4", stream="always", idle=0.2)
    assert (failure.code, failure.fate) == ("timeout", "ambiguous")
    assert "0.2 s" in failure.message
    assert failure.usage == Usage(input_tokens=3, output_tokens=4)


def test_a_model_may_think_in_silence_before_its_stream_begins(server: ProviderServer) -> None:
    """The idle time counts from the first word on; the deadline ends it all the same."""
    assert ask(server, "silent-1s", stream="always", idle=0.5).content.startswith("reply")
    assert failure_of(server, "silent-30s", stream="always", idle=0.1, seconds=0.4).code == "timeout"


def test_a_vendor_that_keeps_its_streams_alive_is_held_to_it(server: ProviderServer) -> None:
    """DeepSeek sends comments while it thinks: those are life, and silence is death."""
    assert ask(server, "pings-1200ms", vendor="deepseek", stream="always", idle=0.8).content.startswith("reply")
    assert failure_of(server, "silent-30s", vendor="deepseek", stream="always", idle=0.3).code == "timeout"


def test_a_reply_is_there_when_its_terminator_is(server: ProviderServer) -> None:
    """A server that leaves the connection open after it keeps nobody waiting."""
    assert ask(server, "hold", stream="always", idle=5.0).content.startswith("reply")


def test_a_connection_serves_one_stream_after_the_other(server: ProviderServer) -> None:
    """The end of the body is read, so that it can be used again."""

    async def thrice(provider: HttpProvider) -> None:
        for _ in range(3):
            await provider.chat(chat_request(), "ok", asyncio.get_running_loop().time() + SECONDS)

    using(server, thrice, stream="always")
    assert (len(server.calls), server.connections) == (3, 1)


def test_a_server_that_does_not_stream_is_understood(server: ProviderServer) -> None:
    """It was asked to, and answers with a plain reply."""
    assert ask(server, "nostream", stream="always").content.startswith("reply")
    assert server.calls[0].body["stream"] is True


@pytest.mark.parametrize("stream", ["never", "always"])
def test_ten_megabytes_are_taken_in_each_form(server: ProviderServer, stream: Any) -> None:
    """Big, but within what is allowed."""
    assert len(ask(server, "big-10mb", stream=stream).content) == 10_000_000


@pytest.mark.parametrize("stream", ["never", "always"])
def test_what_is_without_measure_is_not_read_to_its_end(server: ProviderServer, stream: Any) -> None:
    """Over the limit it is a bad reply."""
    failure = failure_of(server, "big-40mb", stream=stream)
    assert (failure.code, failure.fate) == ("bad_reply", "permanent")


def test_a_stream_as_a_whole_has_a_limit_too(server: ProviderServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many small events are not a way around it."""
    monkeypatch.setattr(exchange, "MAX_STREAM_BYTES", 200)
    assert "200 bytes" in failure_of(server, "ok", stream="always").message


@pytest.mark.parametrize(
    ("vendor", "model", "max_tokens", "streams"),
    [
        (None, "ok", None, False),
        (None, "ok", 4096, False),
        (None, "ok", 4097, True),
        ("openai", "gpt-5-nano", None, True),
        ("openai", "gpt-5-nano", 100, False),
        ("openai", "gpt-4.1", None, False),
        ("deepseek", "deepseek-v4-flash", None, True),
    ],
)
def test_replies_that_may_be_long_come_as_streams(
    server: ProviderServer, vendor: str | None, model: str, max_tokens: int | None, streams: bool
) -> None:
    """Where many tokens are allowed, or a model that thinks has no limit."""
    ask(server, model, {"max_tokens": max_tokens}, vendor=vendor)
    assert ("stream" in server.calls[0].body) == streams


def test_what_a_model_refuses_is_left_out_with_one_warning(
    server: ProviderServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The pipeline goes on; who reads the log hears it once, not with every call."""

    async def twice(provider: HttpProvider) -> None:
        for _ in range(2):
            request = chat_request(temperature=0.5)
            await provider.chat(request, "gpt-5-nano", asyncio.get_running_loop().time() + SECONDS)

    with caplog.at_level(logging.WARNING):
        using(server, twice, vendor="openai")
    assert all("temperature" not in call.body for call in server.calls)
    assert [record.getMessage() for record in caplog.records if "temperature" in record.getMessage()] == [
        "openai, gpt-5-nano: not sent, since the model does not take it: temperature (its own is fixed)"
    ]


def test_what_a_model_refuses_can_fail_before_it_is_sent(server: ProviderServer) -> None:
    """With drop_unsupported = false."""
    failure = failure_of(server, "gpt-5-nano", {"temperature": 0.5}, vendor="openai", drop_unsupported=False)
    assert (failure.code, failure.fate) == ("bad_request", "permanent")
    assert server.calls == []


def test_a_server_whose_certificate_does_not_hold_was_sent_nothing(server: ProviderServer) -> None:
    """TLS comes before the request: it can be asked again without regret."""
    endpoint = Endpoint("mine", f"https://127.0.0.1:{server.port}/v1", None, COMPATIBLE["openai"], 1.0)

    async def call() -> None:
        provider = HttpProvider(endpoint, WIRES["openai", "chat"], Prices(None))
        try:
            await provider.chat(chat_request(), "ok", asyncio.get_running_loop().time() + SECONDS)
        finally:
            await provider.close()

    with pytest.raises(AttemptFailed) as failed:
        asyncio.run(call())
    assert (failed.value.code, failed.value.fate) == ("connect", "never_sent")
    assert server.calls == []


def test_the_deadline_ends_a_stream_that_never_ends(server: ProviderServer) -> None:
    """Whatever comes in the meantime."""
    failure = failure_of(server, "endless", seconds=0.4)
    assert (failure.code, failure.fate) == ("timeout", "ambiguous")


def test_news_of_limits_comes_with_replies_and_refusals(server: ProviderServer) -> None:
    """Whatever the outcome, what the headers say of limits is handed on."""
    reply = ask(server, "left-3-of-10")
    assert reply.rate_news is not None
    assert reply.rate_news.quotas["requests"].remaining == 3
    failure = failure_of(server, "fail-429+left-0-of-10")
    assert failure.rate_news is not None
    assert failure.rate_news.quotas["requests"].limit == 10


class OneDollar:
    """Every call costs a dollar."""

    def load(self) -> None:
        """There is nothing to load."""

    def cost(self, model: str, usage: Usage) -> float | None:
        return 1.0


@pytest.mark.parametrize(("model", "cost"), [("usage-0-0", None), ("usage-0-1", 1.0)])
def test_a_reply_that_counts_no_tokens_has_no_known_price(
    server: ProviderServer, model: str, cost: float | None
) -> None:
    """Unknown, and not free."""
    assert ask(server, model, prices=OneDollar()).cost_usd == cost


def test_headers_of_ones_own_go_with_every_request(server: ProviderServer) -> None:
    """For endpoints that want more than a key; they win, and are never shown."""
    headers = {"x-title": SecretStr("my pipelines"), "authorization": SecretStr("Basic very-secret")}
    ask(server, "ok", headers=headers)
    assert server.calls[0].headers["x-title"] == "my pipelines"
    assert server.calls[0].headers["authorization"] == "Basic very-secret"
    assert "very-secret" not in repr(Endpoint("mine", "http://x", None, COMPATIBLE["openai"], 1.0, headers=headers))


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_key_that_a_server_repeats_is_not_passed_on(server: ProviderServer, api: Api) -> None:
    """Not even where the complaint comes in the middle of a stream."""
    failure = failure_of(server, "streamerror", api=api, stream="always")
    assert "***" in failure.message
    assert KEY not in f"{failure!r} {failure} {failure.message} {failure.details}"


def test_the_key_is_in_no_repr(server: ProviderServer) -> None:
    """Of the provider, its endpoint and what is sent."""

    async def look(provider: HttpProvider) -> str:
        return repr(provider) + repr(vars(provider))

    assert KEY not in using(server, look)
