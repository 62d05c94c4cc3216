"""Budgets: what is refused, what waits, what is told, and that no restart forgets a dollar."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
from gateway_world import SECONDS, World, eventually, world

from pop_actors.config import PriceSettings, ProviderSettings
from pop_actors.core.budgets import day_of
from pop_actors.core.ids import timestamp
from pop_actors.core.observations import BudgetReached, CallFellBack
from pop_actors.errors import CallFailed

DAY = 86_400.0
NOON = (time.time() // DAY - 0.5) * DAY  # of yesterday: files are written after what the clock says here
TODAY, TOMORROW = day_of(NOON), day_of(NOON + DAY)
DOLLAR = "usage-0-100"  # a hundred tokens, at a cent each
PRICES = {"fake:*": PriceSettings(input=0, output=10_000), "openai:*": PriceSettings(input=0, output=10_000)}


def rich(root: Path, **settings: Any) -> Any:
    return world(root, prices=PRICES, now=NOON, **settings)


@pytest.fixture
def two_dollars(tmp_path: Path) -> Iterator[World]:
    with rich(tmp_path, daily_budget_usd=2.0) as made:
        yield made


def refusal_of(here: World, **fields: Any) -> CallFailed:
    with pytest.raises(CallFailed) as failed:
        here.ask(DOLLAR, **fields)
    return failed.value


def budgets_of(here: World) -> list[dict[str, Any]]:
    async def budgets() -> list[dict[str, Any]]:
        return here.gateway.budgets()

    return here.loop.submit(budgets()).result(SECONDS)


def ledger_of(here: World) -> Path:
    return here.workspace.state / "spend" / f"{TODAY}.jsonl"


def ledger(here: World) -> list[dict[str, Any]]:
    path = ledger_of(here)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_budget_is_spent_to_its_end_and_not_beyond(two_dollars: World) -> None:
    """Two dollars buy two calls; the third is refused before it is sent, with what to do."""
    here = two_dollars
    for number in (1, 2):
        assert here.ask(DOLLAR, ordinal=number)["costUsd"] == 1.0
    refused = refusal_of(here, ordinal=3)
    assert refused.code == "budget"
    assert "$2.00 of $2.00" in refused.message
    assert refused.details["scope"] == "global"
    assert len(here.server.calls) == 2
    assert here.ask(DOLLAR, ordinal=1)["replayed"]


def test_warnings_come_at_four_fifths_and_at_the_end(tmp_path: Path) -> None:
    """Once each."""
    with rich(tmp_path, daily_budget_usd=5.0) as here:
        for number in range(5):
            here.ask(DOLLAR, ordinal=number)
        told = [(seen.scope, seen.share, seen.spent, seen.limit) for seen in here.of_kind(BudgetReached)]
        assert told == [("global", 0.8, 4.0, 5.0), ("global", 1.0, 5.0, 5.0)]


@pytest.mark.parametrize(
    ("settings", "own", "other"),
    [
        ({"pipeline_daily_budget_usd": {"news": 1.0}}, {"pipeline": "news"}, {"pipeline": "mail"}),
        (
            {"providers": {"openai": ProviderSettings(kind="openai", daily_budget_usd=1.0)}},
            {"provider": "openai"},
            {"provider": "fake"},
        ),
        ({}, {"job": "a", "budget_usd": 1.0}, {"job": "b", "budget_usd": 1.0}),
    ],
    ids=["pipeline", "provider", "job"],
)
def test_each_budget_is_its_owners(tmp_path: Path, settings: Any, own: Any, other: Any) -> None:
    """Who has spent it is refused; the others go on."""
    with rich(tmp_path, **settings) as here:
        if "providers" in settings:  # it has to lead to the server, which has its address only now
            here.settings.providers["openai"] = ProviderSettings(
                kind="openai", base_url=here.server.base_url, daily_budget_usd=1.0
            )
            here.restart()
        here.ask(DOLLAR, **own)
        assert refusal_of(here, ordinal=2, **own).code == "budget"
        here.ask(DOLLAR, ordinal=3, **other)


def test_a_provider_without_money_is_followed_by_its_fallback(tmp_path: Path) -> None:
    """Its own budget is no reason for the job to fail where another provider may be asked."""
    with rich(tmp_path) as here:
        here.set_limits("fake", daily_budget_usd=0.5)
        here.ask(DOLLAR)
        assert here.ask(DOLLAR, ordinal=2, fallback=("openai:ok",))["provider"] == "openai"
        assert [fell.reason for fell in here.of_kind(CallFellBack)] == ["budget"]


def test_a_restart_forgets_nothing(two_dollars: World) -> None:
    """What was spent stands in the ledger, and is read again."""
    here = two_dollars
    here.ask(DOLLAR)
    here.ask(DOLLAR, ordinal=2)
    here.restart()
    assert here.view()["fake", DOLLAR]["spentTodayUsd"] == 2.0
    assert refusal_of(here, ordinal=3).code == "budget"
    assert [line["cost_usd"] for line in ledger(here)] == [1.0, 1.0]


def test_what_a_crash_kept_out_of_the_ledger_is_found_in_the_journals(two_dollars: World) -> None:
    """Killed between the journal's fsync and the ledger's line: the journal decides, and nothing counts twice."""
    here = two_dollars
    here.ask(DOLLAR)
    here.ask(DOLLAR, ordinal=2)
    eventually(lambda: len(ledger(here)) == 2)
    path = ledger_of(here)
    first, _ = path.read_text().splitlines(keepends=True)
    path.write_text(first + '{"torn')
    here.restart()
    assert refusal_of(here, ordinal=3).code == "budget"
    path.unlink()
    here.restart()
    assert refusal_of(here, ordinal=4).code == "budget"


def test_runs_that_completed_just_before_the_power_went_are_found_too(two_dollars: World) -> None:
    """Their journals lie in complete/, where their line in runs.jsonl leads."""
    here = two_dollars
    here.ask(DOLLAR)
    here.ask(DOLLAR, ordinal=2)
    here.loop.submit(here.gateway.close()).result(SECONDS)
    ledger_of(here).unlink()
    here.workspace.complete.mkdir(parents=True)
    here.workspace.job("job-1").path.rename(here.workspace.finished("job-1").path)
    old = {"id": "long-ago", "pipeline": "p", "finishedAt": timestamp(NOON - DAY), "costUsd": 9.0}
    line = {"id": "job-1", "pipeline": "p", "finishedAt": timestamp(NOON), "costUsd": 2.0}
    here.workspace.runs.write_text(json.dumps(old) + "\n" + json.dumps(line) + "\n")
    here.restart()
    assert refusal_of(here, ordinal=3).code == "budget"


def test_a_new_day_is_a_new_budget(two_dollars: World) -> None:
    """At midnight UTC, in a running gateway and over a restart; each day has its own file."""
    here = two_dollars
    here.ask(DOLLAR)
    here.ask(DOLLAR, ordinal=2)
    here.now = NOON + DAY / 2
    here.ask(DOLLAR, ordinal=3)
    here.restart()
    here.ask(DOLLAR, ordinal=4)
    assert refusal_of(here, ordinal=5).code == "budget"
    days = sorted(path.name for path in (here.workspace.state / "spend").iterdir())
    assert days == [f"{TODAY}.jsonl", f"{TOMORROW}.jsonl"]


def test_a_jobs_budget_survives_restarts_and_runs(tmp_path: Path) -> None:
    """It is for the job with all its runs: what its journal says it has cost."""
    with rich(tmp_path) as here:
        here.ask(DOLLAR, budget_usd=2.0)
        here.ask(DOLLAR, budget_usd=2.0, run_id="pl-2")
        here.job_gone("job-1")
        refused = refusal_of(here, budget_usd=2.0, run_id="pl-3")
        assert "budgetUsd" in refused.message
        here.restart()
        assert refusal_of(here, budget_usd=2.0, run_id="pl-4").code == "budget"


def test_calls_at_once_do_not_overdraw_it(tmp_path: Path) -> None:
    """Twenty at the same time, money for three: three are bought, whoever they are, and the rest hear so."""
    with rich(tmp_path, daily_budget_usd=3.0) as here:
        asked = [here.begin(f"slow-50ms+{DOLLAR}", ordinal=n, job=f"job-{n % 4}", maxTokens=100) for n in range(20)]
        done, _ = wait(asked, SECONDS)
        failures = [one.exception() for one in done if one.exception() is not None]
        assert len(done) == 20
        assert len(failures) == 17
        assert {failure.code for failure in failures if isinstance(failure, CallFailed)} == {"budget"}
        assert len(here.server.calls) == 3


def test_who_stops_waiting_for_money_holds_none_of_it(tmp_path: Path) -> None:
    """A job that goes while its call waits for another's end leaves the rest to others."""
    with rich(tmp_path, daily_budget_usd=1.5) as here:
        first = here.begin(f"slow-500ms+{DOLLAR}", maxTokens=100)
        here.server.wait_for_calls(1)
        waiting = here.begin(DOLLAR, job="job-2", maxTokens=100)
        eventually(lambda: here.view().get(("fake", DOLLAR), {}).get("waiting") == 1)
        here.job_gone("job-2")
        assert first.result(SECONDS)["costUsd"] == 1.0
        with pytest.raises(CallFailed):
            waiting.result(SECONDS)
        assert here.ask(DOLLAR, job="job-3", maxTokens=100)["costUsd"] == 1.0


def test_waiting_for_money_is_waiting(tmp_path: Path) -> None:
    """It is bounded as the queues are."""
    with rich(tmp_path, daily_budget_usd=1.5, max_waiting_per_job=2) as here:
        asked = [here.begin(f"slow-500ms+{DOLLAR}", ordinal=n, maxTokens=100) for n in range(5)]
        codes = [getattr(one.exception(SECONDS), "code", "bought") for one in asked]
        assert sorted(codes) == ["bought", "bought", "budget", "queue_full", "queue_full"]


def test_where_it_may_wait_it_is_told_so(tmp_path: Path) -> None:
    """With on_budget = wait a day's budget is asked for again later, and says who does it; a job's own is never
    refilled."""
    with rich(tmp_path, daily_budget_usd=1.0, on_budget="wait") as here:
        here.ask(DOLLAR)
        assert refusal_of(here, ordinal=2).code == "budget_paused"
        assert [row["waiting"] for row in budgets_of(here)] == [["job-1"]]
        here.now = NOON + DAY / 2
        assert [row["waiting"] for row in budgets_of(here)] == [[]]
        assert here.ask(DOLLAR, ordinal=2)["costUsd"] == 1.0
        assert refusal_of(here, ordinal=3, job="poor", budget_usd=0.0).code == "budget"


def test_a_price_nobody_knows_is_counted_and_is_not_zero(tmp_path: Path) -> None:
    """It cannot be held against a budget; the ledger says null."""
    with world(tmp_path, now=NOON, daily_budget_usd=1.0) as here:
        assert here.ask(DOLLAR)["costUsd"] is None
        eventually(lambda: [line["cost_usd"] for line in ledger(here)] == [None])
        assert here.view()["fake", DOLLAR]["unpricedCalls"] == 1


def test_free_calls_need_no_money(tmp_path: Path) -> None:
    """A budget of nothing still allows the offline provider, and leaves no ledger."""
    with rich(tmp_path, daily_budget_usd=0.0) as here:
        assert here.ask("offline-1", provider="offline", budget_usd=0.0)["costUsd"] == 0.0
        assert refusal_of(here, ordinal=2).code == "budget"
        assert ledger(here) == []


def test_a_failure_that_was_billed_counts(tmp_path: Path) -> None:
    """Money is money."""
    with rich(tmp_path, daily_budget_usd=1.0) as here:
        with pytest.raises(CallFailed):
            here.ask(f"truncated+{DOLLAR}")
        assert refusal_of(here, ordinal=2).code == "budget"


def test_the_view_shows_what_was_spent_today(two_dollars: World) -> None:
    """Per model, and per budget."""
    here = two_dollars
    here.ask(DOLLAR)
    assert here.view()["fake", DOLLAR]["spentTodayUsd"] == 1.0

    assert budgets_of(here) == [
        {"scope": "global", "name": "", "limitUsd": 2.0, "spentUsd": 1.0, "state": "ok",
         "resetsAt": f"{TOMORROW}T00:00:00.000Z", "waiting": []}
    ]  # fmt: skip


def test_a_disk_that_refuses_the_ledger_fails_no_call(two_dollars: World) -> None:
    """The journal has it; the line follows when the disk takes it again."""
    here = two_dollars
    here.workspace.state.mkdir(parents=True)
    obstacle = here.workspace.state / "spend"
    obstacle.write_text("in the way")
    assert here.ask(DOLLAR)["costUsd"] == 1.0
    obstacle.unlink()
    here.ask(DOLLAR, ordinal=2)
    eventually(lambda: len(ledger(here)) == 2)
    assert refusal_of(here, ordinal=3).code == "budget"
