"""Gates: a job waits for a person, its slot is free meanwhile, and what the person decides is done, whatever dies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance_world import GOOD, end_of, output_of, quick_workspace

from support.daemon import NOOP_TASK, Daemon, Workspace, wait_until

SECONDS = 30.0
GATE = {"message": "read the draft", "artifacts": ["draft.md"]}
JOIN = "def ingestion(ctx):\n    return {'output': sorted(ctx.data['tasks'])}\n"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One slot, and pipelines with a gate in the middle, at the end, and in two of three branches."""
    workspace = quick_workspace(tmp_path)
    workspace.settings((tmp_path / "pop.toml").read_text().replace("[jobs]", "[jobs]\nmax_running = 1"))
    middle: list[Any] = [{"name": "draft", "gate": GATE}, "publish"]
    workspace.add_pipeline("middle", {"draft": NOOP_TASK, "publish": JOIN}, middle)
    workspace.add_pipeline("last", {"only": NOOP_TASK}, [{"name": "only", "gate": True}])
    branches: list[Any] = [
        {"name": "left", "dependsOn": [], "gate": True},
        {"name": "right", "dependsOn": [], "gate": {"message": "look right"}},
        {"name": "free", "dependsOn": []},
        {"name": "after", "dependsOn": ["free"]},
        {"name": "join", "dependsOn": ["left", "right", "after"]},
    ]
    names = ("left", "right", "free", "after")
    workspace.add_pipeline("branches", {**dict.fromkeys(names, NOOP_TASK), "join": JOIN}, branches)
    return workspace


@pytest.fixture
def daemon(workspace: Workspace) -> Iterator[Daemon]:
    with Daemon(workspace) as daemon:
        yield daemon


def wait_at_gate(daemon: Daemon, job_id: str, task: str | None) -> dict[str, Any]:
    """Its status, once it waits there."""

    def waits() -> bool:
        status = daemon.workspace.status(job_id) or {}
        return status.get("state") == "waiting" and status["gate"]["task"] == task

    wait_until(waits, SECONDS, f"{job_id} to wait at the gate of {task}", daemon)
    status = daemon.workspace.status(job_id)
    assert status is not None
    return status


def event_types(workspace: Workspace, job_id: str) -> list[str]:
    place = next(path for name in ("current", "complete") if (path := workspace.data / name / job_id).is_dir())
    return [line["type"] for line in workspace.lines(place / "events.jsonl")]


def test_a_job_waits_at_its_gate_and_others_run(daemon: Daemon) -> None:
    """The status says what it waits for; its process and its slot are gone; list and status show it."""
    daemon.workspace.drop("a", {"pipeline": "middle", "data": {}})
    status = wait_at_gate(daemon, "a", "draft")
    gate = status["gate"]
    assert (gate["message"], gate["artifacts"], gate["since"]) == (*GATE.values(), status["lastUpdated"])
    assert (status["tasks"]["draft"]["state"], status["tasks"]["publish"]["state"]) == ("done", "pending")
    assert not (daemon.workspace.data / "current" / "a" / "runner.pid").exists()
    daemon.workspace.drop("b", {"pipeline": GOOD, "data": {}})
    assert end_of(daemon, "b") == "done"
    (listed,) = json.loads(daemon.ctl("--json", "list", "--state", "waiting").stdout)
    assert (listed["id"], listed["current"]) == ("a", "draft")
    shown = daemon.ctl("status", "a").stdout
    assert "read the draft" in shown
    assert "draft.md" in shown
    assert "popctl approve a" in shown


def test_an_approved_job_goes_on(daemon: Daemon) -> None:
    """With the same run; the approval and its note are in the log; a second one is refused."""
    workspace = daemon.workspace
    workspace.drop("a", {"pipeline": "middle", "data": {}})
    run_id = wait_at_gate(daemon, "a", "draft")["pipelineId"]
    daemon.ctl("approve", "a", "--note", "well done")
    assert end_of(daemon, "a") == "done"
    status = workspace.status("a")
    assert status is not None
    assert (status["pipelineId"], status["gate"], status["restarts"]) == (run_id, None, 0)
    assert output_of(workspace, "a", "publish") == ["draft"]
    events = workspace.lines(workspace.data / "complete" / "a" / "events.jsonl")
    assert [line["note"] for line in events if line["type"] == "GateApproved"] == ["well done"]
    assert sum(line["type"] == "TaskStarted" and line["task"] == "draft" for line in events) == 1
    assert daemon.ctl("approve", "a", check=False).returncode == 4


def test_a_gate_behind_the_last_task_holds_the_end(daemon: Daemon) -> None:
    """The job is not done before somebody has looked."""
    daemon.workspace.drop("a", {"pipeline": "last", "data": {}})
    assert wait_at_gate(daemon, "a", "only")["progress"] == 100
    assert daemon.workspace.runs() == []
    daemon.ctl("approve", "a")
    assert end_of(daemon, "a") == "done"
    assert len(daemon.workspace.runs()) == 1


def test_a_rejected_job_is_in_error_and_can_be_restarted(daemon: Daemon) -> None:
    """The note is its error; a new run comes to the gate again."""
    daemon.workspace.drop("a", {"pipeline": "middle", "data": {}})
    first = wait_at_gate(daemon, "a", "draft")["pipelineId"]
    answer = json.loads(daemon.ctl("--json", "reject", "a", "--note", "too long").stdout)
    assert answer["data"] == {"id": "a", "state": "error"}
    status = daemon.workspace.status("a")
    assert status is not None
    assert (status["state"], status["gate"]) == ("error", None)
    assert (status["error"]["task"], status["error"]["reason"]) == ("draft", "control")
    assert "too long" in status["error"]["message"]
    daemon.ctl("restart", "a")
    assert wait_at_gate(daemon, "a", "draft")["pipelineId"] != first
    daemon.ctl("approve", "a")
    assert end_of(daemon, "a") == "done"


@pytest.mark.faults
def test_other_branches_run_on_and_gates_open_one_by_one(daemon: Daemon) -> None:
    """It waits when nothing else is left to do, at the first gate in the pipeline's order, then at the next."""
    daemon.workspace.drop("a", {"pipeline": "branches", "data": {}})
    status = wait_at_gate(daemon, "a", "left")
    states = {name: task["state"] for name, task in status["tasks"].items()}
    assert states == {"left": "done", "right": "done", "free": "done", "after": "done", "join": "pending"}
    refused = daemon.ctl("approve", "a", "--task", "right", check=False)
    assert refused.returncode == 1
    assert "left" in refused.stderr
    daemon.ctl("approve", "a", "--task", "left")
    assert wait_at_gate(daemon, "a", "right")["gate"]["message"] == "look right"
    daemon.ctl("approve", "a")
    assert end_of(daemon, "a") == "done"
    assert output_of(daemon.workspace, "a", "join") == ["after", "free", "left", "right"]


def test_a_job_at_a_gate_outlives_the_service(workspace: Workspace) -> None:
    """Killed or stopped and started again, it waits as before; then it can be approved."""
    with Daemon(workspace) as daemon:
        workspace.drop("a", {"pipeline": "middle", "data": {}})
        before = wait_at_gate(daemon, "a", "draft")
        daemon.kill()
    with Daemon(workspace) as daemon:
        assert json.loads(daemon.ctl("--json", "status", "a").stdout) == before
        assert daemon.stop() == 0
    with Daemon(workspace) as daemon:
        assert workspace.status("a") == before
        daemon.ctl("approve", "a")
        assert end_of(daemon, "a") == "done"
    assert event_types(workspace, "a").count("JobStarted") == 2


@pytest.mark.faults
def test_what_waits_at_no_gate_is_not_decided_on(daemon: Daemon) -> None:
    """Each with the exit code that fits; a waiting job can be stopped, and is not restarted unseen."""
    daemon.workspace.drop("a", {"pipeline": "middle", "data": {}})
    wait_at_gate(daemon, "a", "draft")
    assert daemon.ctl("approve", "nobody", check=False).returncode == 4
    restarted = daemon.ctl("restart", "a", check=False)
    assert (restarted.returncode, "popctl reject a" in restarted.stderr) == (1, True)
    daemon.ctl("stop", "a")
    assert daemon.workspace.state("a") == "stopped"
    rejected = daemon.ctl("reject", "a", check=False)
    assert (rejected.returncode, "stopped" in rejected.stderr) == (1, True)


KILLED_AT = {
    "runner.gate-reached": "draft",
    "runner.before-end": "draft",
    "runner.ended": "draft",
    "scheduler.gate-deciding": "approve",
    "scheduler.gate-approved": "approve",
}
EVERY_DAY = {"runner.gate-reached", "scheduler.gate-approved"}


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=[] if point in EVERY_DAY else pytest.mark.faults) for point in KILLED_AT]
)
def test_whoever_dies_at_a_gate_the_decision_is_asked_once(workspace: Workspace, point: str) -> None:
    """No task runs twice; an approval that was not on disk is asked again, one that was is not."""
    armed = Daemon(workspace, {"PO_FAULT_POINT": point})
    armed.start()
    try:
        come_to_the_point(armed, point)
    finally:
        armed.kill()
    with Daemon(workspace) as daemon:
        if point != "scheduler.gate-approved":
            wait_at_gate(daemon, "a", "draft")
            daemon.ctl("approve", "a")
        assert end_of(daemon, "a") == "done"
    events = workspace.lines(workspace.data / "complete" / "a" / "events.jsonl")
    assert [line["type"] for line in events].count("GateApproved") == 1
    assert [line["task"] for line in events if line["type"] == "TaskDone"] == ["draft", "publish"]
    assert [line["task"] for line in events if line["type"] == "TaskStarted"] == ["draft", "publish"]


def come_to_the_point(armed: Daemon, point: str) -> None:
    """The daemon is dead there, or its job's process has died there and the job waits at its gate again."""
    armed.workspace.drop("a", {"pipeline": "middle", "data": {}})
    if KILLED_AT[point] == "approve":
        wait_at_gate(armed, "a", "draft")
        armed.ctl("approve", "a", check=False)
        assert armed.process is not None
        armed.process.wait(SECONDS)
    else:
        wait_until(lambda: "(epoch 1) ended: signal" in armed.text_of_log(), SECONDS, "the process to be killed", armed)
        wait_at_gate(armed, "a", "draft")
        assert starts(armed.workspace) == (1 if point == "runner.ended" else 2)


def starts(workspace: Workspace) -> int:
    """How often the log says that a process took the job up."""
    log = workspace.data / "current" / "a" / "events.jsonl"
    return log.read_text(encoding="utf-8").count('"JobStarted"') if log.exists() else 0
