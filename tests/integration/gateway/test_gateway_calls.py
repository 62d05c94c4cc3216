"""What a call comes to over a real socket: replies, bad replies, retries, deadlines, keys."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from gateway_world import KEY, SECONDS, World, world

from pop_actors.config import ProviderSettings
from pop_actors.core.observations import CallAdmitted, CallEnded, CallQueued, CallRetried, ModelKnown
from pop_actors.errors import CallFailed, Unavailable
from support import provider_server


@pytest.fixture
def here(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def failure_of(here: World, model: str, **fields: object) -> CallFailed:
    with pytest.raises(CallFailed) as failed:
        here.ask(model, **fields)
    return failed.value


def test_a_reply_is_delivered_with_what_it_used(here: World) -> None:
    """Content, usage, finish reason, and a price that is unknown and not zero."""
    reply = here.ask("usage-100-20+cached-40")
    assert reply["content"].startswith("reply to ")
    usage = {"inputTokens": 100, "outputTokens": 20, "cachedTokens": 40, "reasoningTokens": 0, "cacheWriteTokens": 0}
    assert reply["usage"] == usage
    assert (reply["finishReason"], reply["costUsd"], reply["replayed"]) == ("stop", None, False)
    assert (reply["provider"], reply["model"]) == ("fake", "usage-100-20+cached-40")


def test_the_request_goes_where_it_should_with_its_key(here: World) -> None:
    """POST {base_url}/chat/completions with the bearer's key, as plain JSON."""
    here.ask("ok", maxTokens=7)
    call = here.server.calls[0]
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == f"Bearer {KEY}"
    assert call.body == {"model": "ok", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 7}


def test_a_known_model_has_a_price(here: World) -> None:
    """A model genai-prices knows is booked in dollars, here, and with the status-writer."""
    reply = here.ask("gpt-5-nano", provider="openai")
    assert 0 < reply["costUsd"] < 0.001
    assert here.paid[0][1].cost_usd == reply["costUsd"]
    assert here.view()["openai", "gpt-5-nano"]["costUsd"] == reply["costUsd"]


def test_a_reply_to_a_schema_conforms_through_the_whole_way(here: World) -> None:
    """json_schema reaches the provider, and what it answers comes back whole."""
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3}}, "required": ["n"]}
    assert json.loads(here.ask("ok", responseFormat=schema)["content"])["n"] >= 3


@pytest.mark.parametrize("model", ["empty", "garbage", "notjson", "nochoices", "wrongtypes", "deep", "redirect"])
def test_a_bad_reply_fails_the_call_and_is_not_bought_again(here: World, model: str) -> None:
    """Every kind of nonsense is one clean bad_reply after one request."""
    assert failure_of(here, model).code == "bad_reply"
    assert len(here.server.calls) == 1
    assert here.types() == ["sent", "failed"]


def test_a_reply_of_ten_megabytes_is_taken(here: World) -> None:
    """Big, but within what is allowed; and it is in the journal."""
    assert len(here.ask("big-10mb")["content"]) == 10_000_000
    assert len(here.journal()[1]["reply"]["content"]) == 10_000_000


def test_a_reply_without_measure_is_refused_on_the_way(here: World) -> None:
    """Over 16 MiB the rest is not even read."""
    failure = failure_of(here, "big-20mb")
    assert failure.code == "bad_reply"
    assert "16777216" in failure.message


@pytest.mark.parametrize(
    ("model", "code"),
    [("fail-400", "bad_request"), ("fail-401", "auth"), ("fail-402", "quota"), ("fail-403", "auth"),
     ("fail-404", "bad_request"), ("fail-422", "bad_request"), ("quota", "quota")],
)  # fmt: skip
def test_what_would_fail_again_is_not_retried(here: World, model: str, code: str) -> None:
    """Wrong requests, wrong keys and empty accounts cost one request."""
    assert failure_of(here, model).code == code
    assert len(here.server.calls) == 1


@pytest.mark.parametrize(
    "model",
    [
        "fail-429-2",
        "fail-500-2",
        "fail-502-2",
        "fail-503-2",
        "fail-504-2",
        "fail-529-2",
        "reset-2",
        "hangup-2",
        "cut-2",
    ],
)
def test_what_may_pass_is_retried_until_it_does(here: World, model: str) -> None:
    """Two failures, then a reply: three requests, three `sent`, one `paid`, two retries told."""
    assert here.ask(model)["content"].startswith("reply")
    assert len(here.server.calls) == 3
    assert here.types() == ["sent", "sent", "sent", "paid"]
    assert [record["try"] for record in here.journal()[:3]] == [1, 2, 3]
    assert len(here.of_kind(CallRetried)) == 2
    assert len(here.paid) == 1


@pytest.mark.parametrize(
    ("model", "code"),
    [("fail-429", "rate_limited"), ("fail-500", "server"), ("fail-503", "overloaded"), ("reset", "disconnected")],
)
def test_retries_end(here: World, model: str, code: str) -> None:
    """max_retries beyond the first, then the failure, with its code."""
    failure = failure_of(here, model)
    assert (failure.code, failure.details["retries"]) == (code, 3)
    assert len(here.server.calls) == 4
    assert here.types() == ["sent"] * 4 + ["failed"]
    assert here.paid == []


@pytest.mark.parametrize(("model", "least"), [("fail-429-1+after-0.3s", 0.3), ("fail-503-1+after-200ms", 0.2)])
def test_retry_after_is_waited_for(here: World, model: str, least: float) -> None:
    """In seconds or milliseconds, the second request comes no sooner than the provider asked."""
    here.ask(model)
    first, second = here.server.calls
    assert second.since - first.since >= least


def test_a_retry_that_cannot_end_in_time_is_not_waited_for(here: World) -> None:
    """Retry-After of a minute and a deadline of two seconds: the call fails now."""
    begun = time.monotonic()
    failure = failure_of(here, "fail-429+after-60s", timeout=2.0)
    assert failure.code == "rate_limited"
    assert "deadline" in failure.details["gaveUp"]
    assert time.monotonic() - begun < 1.5


@pytest.mark.parametrize("model", ["slow-30s", "stall", "endless"])
def test_the_deadline_ends_everything(here: World, model: str) -> None:
    """No first byte, no last byte, or drops for ever: at the deadline it is a timeout."""
    begun = time.monotonic()
    assert failure_of(here, model, timeout=0.4).code == "timeout"
    assert 0.35 < time.monotonic() - begun < 2.0
    assert here.types() == ["sent", "failed"]


def test_a_silent_body_is_given_up_before_the_deadline(tmp_path: Path) -> None:
    """A reply that stops in the middle is tried again after the idle time."""
    with world(tmp_path, idle_timeout_seconds=0.2) as here:
        assert here.ask("stall-1")["content"].startswith("reply")
        assert here.of_kind(CallRetried)[0].reason == "timeout"


def test_thinking_long_before_the_first_byte_is_not_silence(tmp_path: Path) -> None:
    """The idle time counts from the reply's head on: models think longer than connections may stall."""
    with world(tmp_path, idle_timeout_seconds=0.2) as here:
        here.ask("slow-500ms")
        assert len(here.server.calls) == 1


def test_nobody_listening_is_a_connection_failure(here: World, tmp_path: Path) -> None:
    """Never sent, so retried without regret, and then told as what it is."""
    with world(
        tmp_path, providers={"nowhere": ProviderSettings(kind="openai", base_url="http://127.0.0.1:9/v1")}
    ) as made:
        failure = failure_of(made, "m", provider="nowhere")
        assert failure.code == "connect"
        assert failure.details["retries"] == 3
        assert "127.0.0.1:9" in failure.message


@pytest.mark.parametrize(
    ("model", "code"), [("truncated", "truncated"), ("blocked", "blocked"), ("emptytext", "bad_reply")]
)
def test_a_reply_without_text_is_booked_and_settled(here: World, model: str, code: str) -> None:
    """It was paid: tokens are booked once, and the same call asked again fails again without a request."""
    assert failure_of(here, f"{model}+usage-7-9").code == code
    assert [(event.input_tokens, event.output_tokens) for _, event in here.paid] == [(7, 9)]
    here.restart()
    assert failure_of(here, f"{model}+usage-7-9").code == code
    assert len(here.server.calls) == 1
    assert len(here.paid) == 1


def test_what_is_watched_adds_up(here: World) -> None:
    """Queued, admitted and ended once per call, whatever its retries; the outcome is a code."""
    here.ask("fail-503-1")
    failure_of(here, "fail-400")
    assert [len(here.of_kind(kind)) for kind in (CallQueued, CallAdmitted, CallEnded)] == [2, 2, 2]
    assert [ended.outcome for ended in here.of_kind(CallEnded)] == ["ok", "bad_request"]
    row = here.view()["fake", "fail-400"]
    assert (row["requests"], row["failed"], row["lastError"]["code"]) == (1, 1, "bad_request")
    assert here.view()["fake", "fail-503-1"]["tokens"]["output"] == 34


def test_every_configured_provider_is_known_from_the_start(here: World) -> None:
    """With the model that answers where none is named; another when it is asked for."""
    assert {(known.provider, known.model) for known in here.of_kind(ModelKnown)} == {
        ("fake", ""), ("offline", "offline-1"), ("openai", "gpt-5-nano"), ("deepseek", "deepseek-v4-flash"),
    }  # fmt: skip
    here.ask("ok")
    here.ask("ok", ordinal=2)
    assert [known.model for known in here.of_kind(ModelKnown)].count("ok") == 1


def test_a_provider_without_its_key_names_the_variable(tmp_path: Path) -> None:
    """No request is made; the message says what to set."""
    with world(
        tmp_path, providers={"mine": ProviderSettings(kind="openai", base_url="http://x", api_key_env="MY_KEY")}
    ) as here:
        for provider, variable in (("mine", "MY_KEY"), ("moonshot", "MOONSHOT_API_KEY")):
            failure = failure_of(here, "m", provider=provider)
            assert failure.code == "no_key"
            assert variable in failure.message


def test_a_server_of_ones_own_needs_no_key(here: World) -> None:
    """A base_url without api_key_env is asked without an authorization header."""
    here.ask("ok", provider="deepseek")
    assert "authorization" not in here.server.calls[0].headers


def test_a_provider_that_is_not_there_is_refused_by_name(here: World) -> None:
    """An unknown name: unknown_provider, and what there is."""
    failure = failure_of(here, "m", provider="nobody")
    assert failure.code == "unknown_provider"
    assert "nobody" in failure.message
    assert "claude-code" in failure.message


@pytest.mark.parametrize(
    "request_part", [{"messages": []}, {"maxTokens": 0}, {"surprise": 1}, {"messages": [{"role": "x", "content": ""}]}]
)
def test_a_malformed_request_is_refused(here: World, request_part: dict[str, object]) -> None:
    """bad_request, naming the place, and nothing is sent."""
    failure = failure_of(here, "ok", **request_part)
    assert failure.code == "bad_request"
    assert next(iter(request_part)) in failure.message
    assert here.server.calls == []


def test_the_key_is_never_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not in errors, logs, reprs, the view or the journal."""
    with caplog.at_level(logging.DEBUG), world(tmp_path) as here:
        failure = failure_of(here, "fail-401")
        here.ask("ok", ordinal=2)
        provider = here.gateway._desks.at("fake").provider()
        said = [str(failure), repr(failure.details), repr(here.gateway), repr(provider), str(here.view()), caplog.text]
        said += [repr([vars(one) for one in provider._providers]), here.workspace.job("job-1").calls.read_text()]
    assert not any(KEY in text for text in said)


def test_calls_under_way_hear_that_the_gateway_is_closing(tmp_path: Path) -> None:
    """They may be asked again at the next one; what was sent stands in the journal as sent."""
    with world(tmp_path) as here:
        asked = here.begin("slow-30s")
        here.server.wait_for_calls(1)
        here.restart()
        with pytest.raises(Unavailable):
            asked.result(SECONDS)
        assert here.types() == ["sent"]


def test_the_scripted_provider_runs_as_a_process_of_its_own(tmp_path: Path) -> None:
    """Port file, log line before the reply, stats: what the fault suite relies on."""
    port_file, log = tmp_path / "port", tmp_path / "calls.jsonl"
    command = [sys.executable, provider_server.__file__, "--port-file", str(port_file), "--log", str(log)]
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + SECONDS
        while not port_file.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
        base = f"http://127.0.0.1:{port_file.read_text()}"
        body = json.dumps({"model": "ok", "messages": []}).encode()
        with urllib.request.urlopen(urllib.request.Request(f"{base}/v1/chat/completions", body), timeout=5) as answer:
            assert json.load(answer)["choices"][0]["finish_reason"] == "stop"
        assert json.loads(log.read_text())["model"] == "ok"
        with urllib.request.urlopen(f"{base}/stats", timeout=5) as answer:
            assert json.load(answer)["calls"] == 1
    finally:
        process.kill()
        process.wait()
