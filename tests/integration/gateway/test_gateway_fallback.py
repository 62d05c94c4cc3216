"""Fallback chains, aliases and the classes of retries, over real sockets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from gateway_world import SECONDS, World, world

from pop_actors.config import ProviderSettings
from pop_actors.core.observations import CallEnded, CallFellBack, CallRetried
from pop_actors.errors import CallFailed


def failure_of(here: World, model: str, **fields: object) -> CallFailed:
    with pytest.raises(CallFailed) as failed:
        here.ask(model, **fields)
    return failed.value


@pytest.mark.parametrize("model", ["fail-500", "fail-429", "fail-401", "fail-404", "quota", "garbage", "reset"])
def test_who_gives_no_reply_is_followed_by_the_next(tmp_path: Path, model: str) -> None:
    """Whatever was wrong with the first, the second's reply is delivered, under its own name, and booked once."""
    with world(tmp_path, max_retries=1) as here:
        reply = here.ask(model, fallback=("openai:ok",))
        assert (reply["provider"], reply["model"]) == ("openai", "ok")
        (fell,) = here.of_kind(CallFellBack)
        assert (fell.provider, fell.model, fell.to_provider, fell.to_model) == ("fake", model, "openai", "ok")
        assert [(ended.provider, ended.outcome == "ok") for ended in here.of_kind(CallEnded)] == [
            ("fake", False),
            ("openai", True),
        ]
        assert [event.provider for _, event in here.paid] == ["openai"]


def test_the_journal_tells_the_whole_story(tmp_path: Path) -> None:
    """What was sent to whom, what failed, what was paid; all under one key, tries counted through."""
    with world(tmp_path, max_retries=1) as here:
        here.ask("fail-503", fallback=("openai:ok",))
        records = here.journal()
        told = [(record["type"], record["provider"], record.get("try")) for record in records]
        assert told == [
            ("sent", "fake", 1), ("sent", "fake", 2), ("failed", "fake", None), ("sent", "openai", 3),
            ("paid", "openai", None),
        ]  # fmt: skip
        assert len({record["key"] for record in records}) == 1


def test_a_reply_of_a_fallback_is_replayed_with_or_without_it(tmp_path: Path) -> None:
    """The call is what the task asked; who answered, and what stands in the pipeline now, makes it no other."""
    with world(tmp_path, max_retries=0) as here:
        bought = here.ask("fail-500", fallback=("openai:ok",))
        here.restart()
        assert here.ask("fail-500", fallback=("openai:ok",)) == {**bought, "replayed": True}
        assert here.ask("fail-500") == {**bought, "replayed": True}
        assert len(here.server.calls) == 2


def test_the_last_failure_is_told_where_nobody_replies(tmp_path: Path) -> None:
    """Every choice was asked once, in order."""
    with world(tmp_path, max_retries=0) as here:
        failure = failure_of(here, "fail-500", fallback=("openai:fail-503", "moonshot:ok", "fake:fail-404"))
        assert failure.code == "bad_request"
        assert [one["code"] for one in failure.details["before"]] == ["server", "overloaded", "no_key"]
        for asked in ("fake, fail-500", "openai, fail-503", "moonshot", "fake, fail-404"):
            assert asked in str(failure)
        assert [call.model for call in here.server.calls] == ["fail-500", "fail-503", "fail-404"]
        # moonshot has no key here: it is passed over without a request
        assert [fell.reason for fell in here.of_kind(CallFellBack)] == ["server", "overloaded", "no_key"]


def test_who_does_not_take_what_the_call_asks_for_is_passed_over(tmp_path: Path) -> None:
    """Without a request, and with its reason; where nobody takes it, each says so."""
    with world(tmp_path) as here:
        reply = here.ask("gpt-5-nano", provider="openai", temperature=0.3, fallback=("fake:ok",))
        assert (reply["provider"], reply["model"]) == ("fake", "ok")
        assert here.server.calls[0].body["temperature"] == 0.3
        assert [fell.reason for fell in here.of_kind(CallFellBack)] == ["bad_request"]
        chain = {"provider": "openai", "fallback": ("openai:o3", "openai:gpt-5-mini")}
        failure = failure_of(here, "gpt-5-nano", temperature=0.3, ordinal=2, **chain)
        assert failure.code == "bad_request"
        for model in ("gpt-5-nano", "o3", "gpt-5-mini"):
            assert f"{model} does not take temperature" in failure.message
        assert len(here.server.calls) == 1


@pytest.mark.parametrize("model", ["truncated", "blocked", "emptytext"])
def test_a_failure_that_was_billed_ends_the_call(tmp_path: Path, model: str) -> None:
    """Another provider would be paid for the same a second time."""
    with world(tmp_path) as here:
        failure_of(here, f"{model}+usage-7-9", fallback=("openai:ok",))
        assert len(here.server.calls) == 1
        assert len(here.paid) == 1


def test_silence_leaves_time_for_the_next(tmp_path: Path) -> None:
    """A provider that never answers has its share of the deadline and no more."""
    with world(tmp_path, max_retries=0) as here:
        begun = time.monotonic()
        reply = here.ask("slow-30s", fallback=("openai:ok",), timeout=4.0)
        assert reply["provider"] == "openai"
        assert time.monotonic() - begun < 4.0


def test_a_malformed_fallback_is_refused_by_name(tmp_path: Path) -> None:
    """Before anything is sent."""
    with world(tmp_path) as here:
        assert "':x'" in failure_of(here, "ok", fallback=(":x",)).message
        assert here.server.calls == []


def test_a_job_that_has_gone_needs_no_fallback(tmp_path: Path) -> None:
    """What is on its way comes to its end; nobody else is asked."""
    with world(tmp_path, max_retries=0) as here:
        asked = here.begin("slow-300ms+fail-500", fallback=("openai:ok",))
        here.server.wait_for_calls(1)
        here.job_gone("job-1")
        with pytest.raises(CallFailed):
            asked.result(SECONDS)
        assert len(here.server.calls) == 1


def test_an_alias_stands_for_a_model_and_the_real_name_is_told(tmp_path: Path) -> None:
    """In the request, the reply and the journal; in fallbacks too."""
    aliases = {"fake:quick": "openai:usage-1-2", "openai:broken": "fake:fail-404"}
    with world(tmp_path, aliases=aliases, max_retries=0) as here:
        reply = here.ask("quick")
        assert (reply["provider"], reply["model"]) == ("openai", "usage-1-2")
        assert here.server.calls[0].model == "usage-1-2"
        assert {record["model"] for record in here.journal()} == {"usage-1-2"}
        reply = here.ask("broken", provider="openai", fallback=("fake:quick",), ordinal=2)
        assert reply["model"] == "usage-1-2"


@pytest.mark.parametrize(
    ("provider", "model", "asked"),
    [
        (None, "openai:ok", ("openai", "ok")),
        (None, "openai:quick", ("openai", "usage-1-2")),
        (None, "fake:ok", ("fake", "ok")),
        (None, "llama3:8b", ("fake", "llama3:8b")),
        ("openai", "openai:ok", ("openai", "ok")),
        ("openai", "fake:ok", ("openai", "fake:ok")),
    ],
)
def test_a_model_may_be_named_with_its_provider(
    tmp_path: Path, provider: str | None, model: str, asked: tuple[str, str]
) -> None:
    """Never is it asked of the default provider then; one that is named beside it is asked for what was said."""
    with world(tmp_path, aliases={"openai:quick": "openai:usage-1-2"}, max_retries=0) as here:
        here.begin(model, provider=provider).exception(SECONDS)
        assert {(record["provider"], record["model"]) for record in here.journal()} == {asked}


def test_another_alias_makes_no_other_call(tmp_path: Path) -> None:
    """A paid call is replayed although its alias leads elsewhere by now."""
    with world(tmp_path, aliases={"fake:quick": "fake:ok"}) as here:
        bought = here.ask("quick")
    with world(tmp_path, aliases={"fake:quick": "fake:usage-5-5"}) as here:
        assert here.ask("quick") == {**bought, "replayed": True}
        assert here.server.calls == []


def test_what_may_pay_twice_is_bounded_apart(tmp_path: Path) -> None:
    """After an ambiguous failure one more try is made, not three; a refusal gets all its retries."""
    with world(tmp_path, max_ambiguous_retries=1) as here:
        failure = failure_of(here, "hangup")
        assert failure.details["retries"] == 1
        assert "paid already" in failure.details["gaveUp"]
        assert [retried.ambiguous for retried in here.of_kind(CallRetried)] == [True]
        failure_of(here, "fail-429", ordinal=2)
        assert [retried.ambiguous for retried in here.of_kind(CallRetried)] == [True, False, False, False]
        rows = here.view()
        assert rows["fake", "hangup"]["ambiguousRetries"] == 1
        assert rows["fake", "fail-429"]["ambiguousRetries"] == 0


def test_what_was_never_sent_is_not_counted_as_ambiguous(tmp_path: Path) -> None:
    """A connection that was refused cannot have cost anything."""
    nowhere = ProviderSettings(kind="openai", base_url="http://127.0.0.1:9/v1")
    with world(tmp_path, providers={"nowhere": nowhere}, max_ambiguous_retries=0) as here:
        assert failure_of(here, "m", provider="nowhere").details["retries"] == 3
        assert not any(retried.ambiguous for retried in here.of_kind(CallRetried))
