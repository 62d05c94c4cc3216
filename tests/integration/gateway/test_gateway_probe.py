"""Probes, and limits set live, of a provider and of one of its models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gateway_world import SECONDS, World, world

from pop_actors.config import PriceSettings
from pop_actors.errors import CallFailed, Refused

PRICES = {"fake:*": PriceSettings(input=0, output=10_000)}


def probe(here: World, provider: str | None = None) -> dict[str, dict[str, Any]]:
    rows = here.loop.submit(here.gateway.probe(provider, SECONDS)).result(SECONDS)
    return {row["provider"]: row for row in rows}


def test_a_probe_is_one_cheap_call_to_each_configured_provider(tmp_path: Path) -> None:
    """It says who answers, in what time, at what cost; one without a key is told so without a request."""
    with world(tmp_path, default_model="usage-0-2", prices=PRICES) as here:
        rows = probe(here)
        assert set(rows) == {"fake", "openai", "deepseek"}
        assert (rows["fake"]["ok"], rows["fake"]["model"], rows["fake"]["costUsd"]) == (True, "usage-0-2", 0.02)
        assert rows["fake"]["ms"] > 0
        assert {call.model for call in here.server.calls} >= {"usage-0-2", "gpt-5-nano"}
        assert here.view()["fake", "usage-0-2"]["spentTodayUsd"] == 0.02


def test_what_a_probe_cost_is_in_the_ledger_when_it_is_told(tmp_path: Path) -> None:
    """No journal has it: a service that is killed now has not forgotten it."""
    with world(tmp_path, default_model="usage-0-2", prices=PRICES) as here:
        probe(here, "fake")
        (day,) = (here.workspace.state / "spend").iterdir()
        (line,) = day.read_text().splitlines()
        assert json.loads(line)["cost_usd"] == 0.02


@pytest.mark.parametrize(("model", "code"), [("fail-401", "auth"), ("fail-500", "server"), ("reset", "disconnected")])
def test_a_probe_that_fails_says_why_and_is_not_made_again(tmp_path: Path, model: str, code: str) -> None:
    """It is there to see what is, not to get through."""
    with world(tmp_path, default_model=model) as here:
        row = probe(here, "fake")["fake"]
        assert (row["ok"], row["code"]) == (False, code)
        assert row["message"]
        assert len(here.server.calls) == 1


def test_a_model_that_only_thinks_has_answered(tmp_path: Path) -> None:
    """So few tokens are no reason to call a provider down."""
    with world(tmp_path, default_model="truncated+usage-1-2", prices=PRICES) as here:
        row = probe(here, "fake")["fake"]
        assert (row["ok"], row["code"], row["costUsd"]) == (True, None, 0.02)


def test_who_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    """With those that are."""
    with world(tmp_path) as here, pytest.raises(CallFailed, match="nobody"):
        probe(here, "nobody")


def test_a_budget_is_changed_live(tmp_path: Path) -> None:
    """From the next call on, and taken away again."""
    with world(tmp_path, prices=PRICES) as here:
        here.ask("usage-0-100")
        assert here.set_limits("fake", daily_budget_usd=0.5)["dailyBudgetUsd"] == 0.5
        with pytest.raises(CallFailed, match="daily budget of provider fake"):
            here.ask("usage-0-100", ordinal=2)
        assert here.view()["fake", "usage-0-100"]["dailyBudgetUsd"] == 0.5
        assert here.set_limits("fake", daily_budget_usd=None)["dailyBudgetUsd"] is None
        here.ask("usage-0-100", ordinal=2)


def test_a_model_has_limits_of_its_own(tmp_path: Path) -> None:
    """`provider:model` names it; the provider's stay."""
    with world(tmp_path) as here:
        assert here.set_limits("fake:ok", max_concurrency=2)["maxConcurrency"] == 2
        assert here.set_limits("fake")["maxConcurrency"] != 2


@pytest.mark.parametrize(
    ("provider", "limits"),
    [("fake", {"daily_budget_usd": -1}), ("fake", {"daily_budget_usd": True}), ("fake:ok", {"daily_budget_usd": 1}),
     ("fake", {"rpm": 3}), ("fake", {"max_concurrency": 0}), ("fake", {"max_concurrency": 1, "nonsense": 1})],
)  # fmt: skip
def test_a_wrong_limit_changes_nothing(tmp_path: Path, provider: str, limits: dict[str, Any]) -> None:
    """It is refused by name, with what is allowed."""
    with world(tmp_path) as here:
        before = here.set_limits("fake")
        with pytest.raises(Refused) as refused:
            here.set_limits(provider, **limits)
        assert refused.value.code == "bad_limit"
        assert here.set_limits("fake") == before
