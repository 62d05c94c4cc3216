"""Money from end to end: budgets of seeds and days, fallback chains and overrides of pipelines, popctl's view of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance_world import assert_still_serves, end_of, output_of, quick_workspace, run

from support.daemon import Daemon, wait_until

SERVER = Path(__file__).parents[1] / "support" / "provider_server.py"
CALLS = """
def inference(ctx):
    replies = [ctx.llm.chat(f"hello {n}") for n in range(ctx.config.get("calls", 1))]
    return {"output": {"models": [f"{reply.provider}:{reply.model}" for reply in replies],
                       "replayed": [reply.replayed for reply in replies]}}
"""
DOLLAR = {"provider": "scripted", "model": "usage-0-100"}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("money")
    port_file = root / "port"
    server = subprocess.Popen([sys.executable, str(SERVER), "--port-file", str(port_file)])
    try:
        wait_until(port_file.exists, 20, "the provider's port")
        address = f"http://127.0.0.1:{port_file.read_text(encoding='utf-8')}/v1"
        table = f'kind = "openai"\nbase_url = "{address}"\n'
        settings = f"""
[gateway]
max_retries = 1
[gateway.pipeline_daily_budget_usd]
thrifty = 1.0
[gateway.aliases]
"scripted:dollar" = "scripted:usage-0-100"
[gateway.prices."scripted:*"]
input = 0
output = 10000
[gateway.providers.scripted]
{table}
[gateway.providers.second]
{table}
"""
        with Daemon(quick_workspace(root, settings)) as daemon:
            yield daemon
    finally:
        server.terminate()
        server.wait(10)


def piped(daemon: Daemon, job_id: str, config: dict[str, Any], pipeline: dict[str, Any], **seed: Any) -> dict[str, Any]:
    """The status of a job of a pipeline of that name with one task."""
    entries = [{"name": "asks", "maxAttempts": 2, "config": config}]
    daemon.workspace.add_pipeline(job_id, {"asks": CALLS}, entries, **pipeline)
    return run(daemon, job_id, job_id, **seed)


def test_a_seeds_budget_ends_its_job_with_reason_budget(daemon: Daemon) -> None:
    """Two calls were paid, the third refused; no attempt is made again, and the message says what to do."""
    status = piped(daemon, "poor", {"calls": 3}, {"llm": DOLLAR}, budgetUsd=2.0)
    assert (status["state"], status["error"]["reason"], status["costUsd"]) == ("error", "budget", 2.0)
    assert "budgetUsd" in status["error"]["message"]
    assert status["tasks"]["asks"]["attempts"] == 1
    assert_still_serves(daemon, "poor")


def test_a_job_with_a_larger_budget_goes_on_where_it_stood(daemon: Daemon) -> None:
    """Raised in its own seed.json and restarted, it has the money again."""
    piped(daemon, "raised", {"calls": 2}, {"llm": DOLLAR}, budgetUsd=1.0)
    seed = daemon.workspace.data / "current" / "raised" / "seed.json"
    seed.write_text(json.dumps({**json.loads(seed.read_text()), "budgetUsd": 9.0}))
    daemon.ctl("restart", "raised")
    assert end_of(daemon, "raised") == "done"


def test_a_pipelines_day_ends_with_its_budget(daemon: Daemon) -> None:
    """The next job of that pipeline is refused its first call; `popctl gateway budgets` says why."""
    assert piped(daemon, "thrifty", {}, {"llm": DOLLAR})["state"] == "done"
    status = run(daemon, "thrifty-2", "thrifty")
    assert (status["state"], status["error"]["reason"]) == ("error", "budget")
    (budget,) = json.loads(daemon.ctl("--json", "gateway", "budgets").stdout)
    assert (budget["scope"], budget["name"], budget["spentUsd"], budget["state"]) == (
        "pipeline",
        "thrifty",
        1.0,
        "spent",
    )


def test_a_job_that_is_stopped_has_no_call_under_way(daemon: Daemon) -> None:
    """Its connection is cut, its place is free, and its journal says cancelled."""
    daemon.workspace.add_pipeline("hangs", {"asks": CALLS}, llm={"provider": "second", "model": "hole"})
    daemon.workspace.drop("hangs-1", {"pipeline": "hangs", "data": {}})

    def in_flight() -> int:
        rows = json.loads(daemon.ctl("--json", "gateway").stdout)
        return sum(row["inFlight"] for row in rows if row["model"] == "hole")

    wait_until(lambda: in_flight() == 1, 20, "the call to be under way", daemon)
    daemon.ctl("stop", "hangs-1")
    wait_until(lambda: in_flight() == 0, 20, "the call to be cut", daemon)
    journal = daemon.workspace.data / "current" / "hangs-1" / "llm-calls.jsonl"
    records = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert [record["type"] for record in records] == ["sent", "failed"]
    assert records[1]["error"]["code"] == "cancelled"


@pytest.mark.parametrize("where", ["pipeline", "task"])
def test_a_fallback_of_pipeline_or_task_takes_over(daemon: Daemon, where: str) -> None:
    """The job is done by the second provider, and its status says so."""
    llm = {"provider": "scripted", "model": "fail-503"}
    chain = {"fallback": ["second:usage-0-1"]}
    config = {"llm": chain} if where == "task" else {}
    status = piped(daemon, f"falls-{where}", config, {"llm": llm if where == "task" else {**llm, **chain}})
    assert status["state"] == "done"
    assert [usage[0] for usage in status["tasks"]["asks"]["tokenUsage"]] == ["second:usage-0-1"]


def test_a_tasks_override_beats_the_pipelines(daemon: Daemon) -> None:
    """The task that has one asks whom it names."""
    config = {"llmOverride": {"provider": "scripted", "model": "dollar"}}
    override = {"provider": "scripted", "model": "fail-500"}
    piped(daemon, "overridden", config, {"llmOverride": override})
    assert output_of(daemon.workspace, "overridden", "asks")["models"] == ["scripted:usage-0-100"]


def test_popctl_shows_sets_and_probes(daemon: Daemon) -> None:
    """The table has a row per provider and model; a limit set is a limit shown; a probe says who answers."""
    piped(daemon, "seen", {}, {"llm": DOLLAR})
    rows = json.loads(daemon.ctl("--json", "gateway").stdout)
    row = next(row for row in rows if (row["provider"], row["model"]) == ("scripted", "usage-0-100"))
    assert row["spentTodayUsd"] >= 1.0
    assert row["costUsd"] >= 1.0
    assert "scripted" in daemon.ctl("gateway").stdout
    found = json.loads(daemon.ctl("--json", "gateway", "set", "second", "requests_per_minute=60").stdout)
    assert found["requestsPerMinute"] == 60
    rows = json.loads(daemon.ctl("--json", "gateway").stdout)
    assert {row["limits"]["requestsPerMinute"] for row in rows if row["provider"] == "second"} == {60}
    (probed,) = json.loads(daemon.ctl("--json", "gateway", "probe", "offline").stdout)
    assert (probed["provider"], probed["ok"]) == ("offline", True)
    refused = daemon.ctl("gateway", "set", "second", "rpm=60", check=False)
    assert refused.returncode == 1
    assert "requests_per_minute" in refused.stderr


def test_nothing_spent_is_forgotten_by_a_killed_daemon(daemon: Daemon) -> None:
    """kill -9, and the next one knows what the day has cost so far."""
    piped(daemon, "before", {}, {"llm": DOLLAR})

    def spent() -> float:
        rows = json.loads(daemon.ctl("--json", "gateway").stdout)
        return float(sum(row["spentTodayUsd"] for row in rows))

    known = spent()
    assert known >= 1.0
    daemon.kill()
    daemon.start()
    daemon.wait_until_ready()
    assert spent() == pytest.approx(known)
    assert daemon.ctl("doctor", check=False).stdout.count("spend") == 0  # it knows what that folder is
