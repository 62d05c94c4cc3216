"""A log that is damaged under a job at work: doctor tells it, and it is repaired once nothing works on the job."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance_world import assert_still_serves, end_of, quick_workspace

from support.daemon import NOOP_TASK, Daemon, wait_until
from support.damage import DAMAGES

SECONDS = 30.0
WAITS = """
import os, time

def ingestion(ctx):
    while not os.path.exists(ctx.data["seed"]["data"]["go"]):
        time.sleep(0.01)
    return {"output": {}}
"""


@pytest.mark.parametrize("damage", ["garbage-inside", pytest.param("missing", marks=pytest.mark.faults)])
def test_a_log_damaged_under_a_job_at_work_is_repaired_once_it_is_stopped(tmp_path: Path, damage: str) -> None:
    """Until then nothing is touched, and it says what to type; then the job is restarted with what it has done."""
    workspace = quick_workspace(tmp_path)
    workspace.add_pipeline("slow", {"first": NOOP_TASK, "second": WAITS})
    go, log = tmp_path / "go", workspace.data / "current" / "a" / "events.jsonl"
    with Daemon(workspace) as daemon:
        workspace.drop("a", {"pipeline": "slow", "data": {"go": str(go)}})
        wait_until(lambda: (workspace.status("a") or {}).get("current") == "second", SECONDS, "its task", daemon)
        wait_until(lambda: '"second"' in log.read_text(), SECONDS, "its start in the log", daemon)
        DAMAGES[damage](log)
        before = log.read_bytes() if log.exists() else None
        refused = daemon.ctl("doctor", "--repair", "a", check=False)
        assert refused.returncode == 1
        assert "popctl stop a" in refused.stderr
        assert "popctl doctor --repair a" in refused.stderr
        assert (log.read_bytes() if log.exists() else None) == before
        examined = daemon.ctl("doctor", "a", check=False)
        assert "popctl stop a, then: popctl doctor --repair a" in examined.stdout
        daemon.ctl("stop", "a")
        repaired = daemon.ctl("doctor", "--repair", "a", check=False)
        assert "the log was put together again" in repaired.stdout, repaired.stderr
        assert workspace.state("a") == "stopped"
        assert daemon.ctl("doctor", "a", check=False).returncode == 0
        go.touch()
        daemon.ctl("restart", "a", "--from", "second")
        assert end_of(daemon, "a") == "done"
        (run,) = workspace.runs()
        assert run["finalArtifacts"] == ["first", "second"]
        assert_still_serves(daemon, "damaged")


def test_a_job_at_work_with_a_sound_log_needs_no_repair(tmp_path: Path) -> None:
    """It is told so, and goes on."""
    workspace = quick_workspace(tmp_path)
    workspace.add_pipeline("slow", {"only": WAITS})
    go = tmp_path / "go"
    with Daemon(workspace) as daemon:
        workspace.drop("a", {"pipeline": "slow", "data": {"go": str(go)}})
        wait_until(lambda: workspace.state("a") == "running", SECONDS, "it to run", daemon)
        refused = daemon.ctl("doctor", "--repair", "a", check=False)
        assert "nothing is wrong with the log of a" in refused.stderr
        go.touch()
        assert end_of(daemon, "a") == "done"
