"""The response cache for development, and the log of prompts: only where they are wanted."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from gateway_world import KEY, world

from pop_actors.config import CacheSettings, PriceSettings
from pop_actors.core.observations import CallReplayed
from pop_actors.system.gateway import PromptLog

NOON = 1_795_262_400.0
PRICES = {"fake:*": PriceSettings(input=0, output=10_000)}
ON = CacheSettings(enabled=True, ttl_seconds=60)


def cached(root: Path, **settings: Any) -> Any:
    return world(root, cache=settings.pop("cache", ON), prices=PRICES, now=NOON, **settings)


def test_the_same_request_of_another_job_is_answered_from_the_cache(tmp_path: Path) -> None:
    """No request, no cost, marked; and journaled, so that it is the same reply after a crash."""
    with cached(tmp_path) as here:
        bought = here.ask("usage-0-100")
        found = here.ask("usage-0-100", job="job-2", run_id="pl-9")
        assert found == {**bought, "costUsd": 0.0, "replayed": True, "cached": True}
        assert len(here.server.calls) == 1
        assert [seen.cached for seen in here.of_kind(CallReplayed)] == [True]
        assert [(event.cost_usd, event.output_tokens) for _, event in here.paid] == [(1.0, 100), (0.0, 0)]
        here.settings = here.settings.model_copy(update={"cache": CacheSettings()})
        here.restart()
        assert here.ask("usage-0-100", job="job-2", run_id="pl-9")["content"] == bought["content"]
        assert len(here.server.calls) == 1


def test_it_survives_a_restart_and_ends_with_its_time(tmp_path: Path) -> None:
    """That is what it is for in development; a stale reply is bought anew."""
    with cached(tmp_path) as here:
        here.ask()
        here.restart()
        assert here.ask(job="job-2")["cached"]
        here.now = NOON + 61
        assert "cached" not in here.ask(job="job-3")
        assert len(here.server.calls) == 2


@pytest.mark.parametrize(
    "other", [{"model": "usage-1-1"}, {"text": "other"}, {"maxTokens": 5}, {"provider": "openai"}], ids=str
)
def test_only_exactly_the_same_request_is(tmp_path: Path, other: dict[str, Any]) -> None:
    """Another model, prompt, parameter or provider is another request."""
    with cached(tmp_path) as here:
        here.ask()
        here.ask(**{"model": "ok", "job": "job-2", **other})
        assert len(here.server.calls) == 2


def test_an_alias_and_its_model_share_an_entry(tmp_path: Path) -> None:
    """What the provider would be told is the same."""
    with cached(tmp_path, aliases={"fake:quick": "fake:ok"}) as here:
        here.ask("quick")
        assert here.ask("ok", job="job-2")["cached"]


def test_it_is_off_unless_it_is_wanted(tmp_path: Path) -> None:
    """Nothing is kept, nothing is found."""
    with world(tmp_path) as here:
        here.ask()
        here.ask(job="job-2")
        assert len(here.server.calls) == 2
        assert not (here.workspace.state / "response-cache").exists()


def test_it_keeps_no_more_than_it_may(tmp_path: Path) -> None:
    """The oldest go."""
    with cached(tmp_path, cache=CacheSettings(enabled=True, max_entries=5)) as here:
        for number in range(20):
            here.ask(text=f"prompt {number}", ordinal=number)
        assert 1 <= len(list((here.workspace.state / "response-cache").iterdir())) <= 5


def test_a_damaged_entry_is_no_reply(tmp_path: Path) -> None:
    """It is bought anew, and kept again."""
    with cached(tmp_path) as here:
        here.ask()
        (entry,) = (here.workspace.state / "response-cache").iterdir()
        entry.write_text("{")
        assert "cached" not in here.ask(job="job-2")
        assert here.ask(job="job-3")["cached"]


# The log of prompts


def logged(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "pop_actors.prompts"]


def test_prompts_are_in_no_log_unless_they_are_wanted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not at debug either."""
    with caplog.at_level(logging.DEBUG), world(tmp_path) as here:
        reply = here.ask(text="a very private question")
    assert "very private" not in caplog.text
    assert reply["content"] not in caplog.text


def test_prompts_and_replies_are_logged_with_secrets_blacked_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What looks like a key, what the settings say, and the providers' own keys are not."""
    log = PromptLog((r"\b\d{3}-\d{2}-\d{4}\b",), (KEY, "odd secret"))
    with caplog.at_level(logging.INFO), world(tmp_path, prompts=log) as here:
        said = f"number 123-45-6789 {KEY} odd secret sk-ant-api03-abcdefghijklmnop Bearer abcdefghijklmnop1234 end"
        reply = here.ask(text=said)
        here.ask(text=said)
    prompt, answer = logged(caplog)
    assert prompt.__dict__["messages"] == [
        {"role": "user", "text": "number [redacted] [redacted] [redacted] [redacted] [redacted] end"}
    ]
    assert answer.__dict__["text"] == reply["content"]
    assert (prompt.__dict__["job_id"], prompt.__dict__["provider"], prompt.__dict__["stage"]) == (
        "job-1", "fake", "inference",
    )  # fmt: skip


def test_a_long_text_is_cut() -> None:
    """A log line stays a line."""
    log = PromptLog()
    assert len(log.clean("x" * 100_000)) < 21_000


def test_images_are_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Only that there was one."""
    parts = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]
    with caplog.at_level(logging.INFO), world(tmp_path, prompts=PromptLog()) as here:
        here.ask(text=parts)
    assert logged(caplog)[0].__dict__["messages"][0]["text"] == "what is this?\n[image_url]"
    assert "AAAA" not in json.dumps([str(record.__dict__) for record in logged(caplog)])
