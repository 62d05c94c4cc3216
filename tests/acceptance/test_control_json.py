"""control.json: a task that succeeded has others skipped, or has the run wait; with a fault nothing of it happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from acceptance_world import end_of, quick_workspace

from support.daemon import NOOP_TASK, Daemon, wait_until

SECONDS = 30.0
PLAN = """
import json, os

def ingestion(ctx):
    wanted = ctx.data["seed"]["data"]["control"]
    if isinstance(wanted, dict) and "fails" in wanted:
        if ctx.meta.attempt == 1:
            write(ctx, wanted["fails"])
            raise ValueError("the first attempt fails")
    elif wanted is not None:
        write(ctx, wanted)
    return {"output": "plan"}

def write(ctx, wanted):
    text = wanted if isinstance(wanted, str) else json.dumps(wanted)
    with open(os.path.join(ctx.io.get_task_dir(), "control.json"), "w") as file:
        file.write(text)
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workspace = quick_workspace(tmp_path_factory.mktemp("control"))
    workspace.add_pipeline("planned", {"plan": PLAN, "draw": NOOP_TASK, "print": NOOP_TASK})
    with Daemon(workspace) as daemon:
        yield daemon


def drop(daemon: Daemon, job_id: str, control: Any) -> None:
    daemon.workspace.drop(job_id, {"pipeline": "planned", "data": {"control": control}})


def states(status: dict[str, Any]) -> dict[str, str]:
    return {name: task["state"] for name, task in status["tasks"].items()}


def wait_at_gate(daemon: Daemon, job_id: str) -> dict[str, Any]:
    wait_until(lambda: daemon.workspace.state(job_id) == "waiting", SECONDS, f"{job_id} to wait", daemon)
    status = daemon.workspace.status(job_id)
    assert status is not None
    return status


def test_a_task_can_have_others_skipped(daemon: Daemon) -> None:
    """With the reason in the status; what waited for the skipped one runs."""
    drop(daemon, "skips", {"skip": [{"task": "draw", "reason": "no pictures wanted"}]})
    assert end_of(daemon, "skips") == "done"
    status = daemon.workspace.status("skips")
    assert status is not None
    assert states(status) == {"plan": "done", "draw": "skipped", "print": "done"}
    assert status["tasks"]["draw"]["skipReason"] == "no pictures wanted"


def test_a_task_can_have_the_run_wait(daemon: Daemon) -> None:
    """At a gate of its own wording; together with a skip, which stands when the run goes on."""
    pause = {"message": "is this the plan?", "artifacts": ["plan.md"]}
    drop(daemon, "pauses", {"pause": pause, "skip": [{"task": "print"}]})
    gate = wait_at_gate(daemon, "pauses")["gate"]
    assert (gate["task"], gate["reason"], gate["message"], gate["artifacts"]) == ("plan", "control", *pause.values())
    daemon.ctl("approve", "pauses")
    assert end_of(daemon, "pauses") == "done"
    assert states(daemon.workspace.status("pauses") or {}) == {"plan": "done", "draw": "done", "print": "skipped"}


FAULTY = {
    "unknown-task": ({"skip": [{"task": "draw"}, {"task": "nobody"}], "pause": 3}, ["/skip/1/task", "/pause"]),
    "no-json": ('{"skip": [', ["line 1"]),
    "patch": ({"patch": {"add": ["more"]}}, ["/patch: is not supported"]),
}


@pytest.mark.parametrize("case", FAULTY)
def test_with_a_fault_nothing_is_applied_and_somebody_is_asked(daemon: Daemon, case: str) -> None:
    """The gate names every fault; approved, the run goes on without it."""
    control, faults = FAULTY[case]
    drop(daemon, case, control)
    status = wait_at_gate(daemon, case)
    assert status["gate"]["reason"] == "control"
    assert all(fault in status["gate"]["message"] for fault in faults)
    assert states(status) == {"plan": "done", "draw": "pending", "print": "pending"}
    daemon.ctl("approve", case)
    assert end_of(daemon, case) == "done"
    assert states(daemon.workspace.status(case) or {}) == {"plan": "done", "draw": "done", "print": "done"}


def test_an_attempt_that_failed_controls_nothing(daemon: Daemon) -> None:
    """Only what the attempt wrote that succeeded counts."""
    drop(daemon, "fails", {"fails": {"skip": [{"task": "draw"}]}})
    assert end_of(daemon, "fails") == "done"
    assert states(daemon.workspace.status("fails") or {})["draw"] == "done"


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("runner.control-taken", marks=pytest.mark.faults),
        "runner.task-confirmed",
        pytest.param("runner.before-end", marks=pytest.mark.faults),
    ],
)
def test_a_kill_while_it_is_applied_applies_it_once(tmp_path_factory: pytest.TempPathFactory, point: str) -> None:
    """Skipped once, asked once, and nothing that ended runs again."""
    workspace = quick_workspace(tmp_path_factory.mktemp("killed"))
    workspace.add_pipeline("planned", {"plan": PLAN, "draw": NOOP_TASK, "print": NOOP_TASK})
    with Daemon(workspace, {"PO_FAULT_POINT": point}) as daemon:
        drop(daemon, "a", {"skip": [{"task": "draw"}], "pause": {"message": "look"}})
        log = workspace.data / "current" / "a" / "events.jsonl"
        wait_until(lambda: log.exists() and '"ProcessDown"' in log.read_text(), SECONDS, "the kill", daemon)
        wait_at_gate(daemon, "a")
        daemon.ctl("approve", "a")
        assert end_of(daemon, "a") == "done"
    events = [json.loads(line) for line in (workspace.data / "complete/a/events.jsonl").read_text().splitlines()]
    assert [(line["type"], line["task"]) for line in events if line["type"] in {"TaskDone", "TaskSkipped"}] == [
        ("TaskDone", "plan"), ("TaskSkipped", "draw"), ("TaskDone", "print"),
    ]  # fmt: skip
