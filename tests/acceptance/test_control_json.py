"""control.json: a task that succeeded skips or adds others, or has the run wait; with a fault nothing of it happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from acceptance_world import end_of, output_of, quick_workspace

from pop_actors.core.patch import MOST_ADDED
from support.daemon import NOOP_TASK, Daemon, Workspace, wait_until

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

EXTRA = """
def ingestion(ctx):
    return {"output": {"config": ctx.config, "upstream": sorted(ctx.data["tasks"])}}
"""
LOOP = """
import json, os

def ingestion(ctx):
    number = int(ctx.meta.task_name.partition("-")[2] or 0) + 1
    with open(os.path.join(ctx.io.get_task_dir(), "control.json"), "w") as file:
        json.dump({"patch": {"add": [{"name": f"loop-{number}", "task": "loop"}]}}, file)
    return {"output": number}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    workspace = quick_workspace(tmp_path_factory.mktemp("control"))
    add_pipelines(workspace)
    with Daemon(workspace) as daemon:
        yield daemon


def add_pipelines(workspace: Workspace) -> None:
    tasks = {"plan": PLAN, "draw": NOOP_TASK, "print": NOOP_TASK, "extra": EXTRA, "loop": LOOP}
    workspace.add_pipeline("planned", tasks, ["plan", "draw", "print"])
    workspace.add_pipeline("endless", {"loop": LOOP})


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


ADD = {"add": ["extra", {"name": "again", "task": "extra", "config": {"depth": 2}}]}


def test_a_task_can_add_others(daemon: Daemon) -> None:
    """They run where they were put, with their configuration and the outputs before them; the status shows them."""
    drop(daemon, "adds", {"patch": ADD, "skip": [{"task": "print"}]})
    assert end_of(daemon, "adds") == "done"
    status = daemon.workspace.status("adds") or {}
    assert list(status["tasks"]) == ["plan", "extra", "again", "draw", "print"]
    assert set(states(status).values()) == {"done", "skipped"}
    assert output_of(daemon.workspace, "adds", "again") == {"config": {"depth": 2}, "upstream": ["extra", "plan"]}
    (run,) = [run for run in daemon.workspace.runs() if run["id"] == "adds"]
    assert run["tasks"] == ["plan", "extra", "again", "draw", "print"]


def test_added_tasks_stay_where_a_restart_keeps_who_added_them(daemon: Daemon) -> None:
    """Restarted from one of them, the others keep their results; restarted from the start, the run adds them anew."""
    drop(daemon, "twice", {"patch": ADD})
    assert end_of(daemon, "twice") == "done"
    for start, attempts in (("again", 3), ("plan", 5)):
        daemon.ctl("restart", "twice", "--from", start)
        count = 2 if start == "again" else 3
        wait_until(lambda n=count: len(runs_of(daemon, "twice")) == n, SECONDS, f"the run from {start}", daemon)
        last = runs_of(daemon, "twice")[-1]
        assert last["tasks"] == ["plan", "extra", "again", "draw", "print"]
        wait_until(lambda: daemon.workspace.is_complete("twice"), SECONDS, "it to be complete", daemon)
        assert len(started_in(daemon.workspace, "twice", last["pipelineId"])) == attempts


def runs_of(daemon: Daemon, job_id: str) -> list[dict[str, Any]]:
    return [run for run in daemon.workspace.runs() if run["id"] == job_id]


def started_in(workspace: Workspace, job_id: str, run_id: str) -> list[str]:
    """The tasks that began in that run."""
    events = workspace.lines(workspace.data / "complete" / job_id / "events.jsonl")
    begun = next(at for at, event in enumerate(events) if event.get("runId") == run_id)
    return [event["task"] for event in events[begun:] if event["type"] == "TaskStarted"]


def test_a_task_that_adds_itself_for_ever_is_stopped_at_a_gate(daemon: Daemon) -> None:
    """After so many; the gate says what it looks like, and rejected the job ends."""
    daemon.workspace.drop("loops", {"pipeline": "endless", "data": {}})
    gate = wait_at_gate(daemon, "loops")["gate"]
    assert (gate["task"], gate["reason"]) == (f"loop-{MOST_ADDED}", "control")
    assert "a task that adds itself again and again would never end" in gate["message"]
    daemon.ctl("reject", "loops")
    assert end_of(daemon, "loops") == "error"


FAULTY = {
    "unknown-task": ({"skip": [{"task": "draw"}, {"task": "nobody"}], "pause": 3}, ["/skip/1/task", "/pause"]),
    "no-json": ('{"skip": [', ["line 1"]),
    "patch": (
        {"patch": {"add": ["nobody", {"name": "draw"}], "insertAfter": "plan"}, "skip": [{"task": "draw"}]},
        ["/patch/add/0/name: 'nobody' is not in the task registry", "/patch/add/1/name: 'draw' is taken"],
    ),
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
    add_pipelines(workspace)
    with Daemon(workspace, {"PO_FAULT_POINT": point}) as daemon:
        drop(daemon, "a", {"skip": [{"task": "draw"}], "pause": {"message": "look"}, "patch": ADD})
        log = workspace.data / "current" / "a" / "events.jsonl"
        wait_until(lambda: log.exists() and '"ProcessDown"' in log.read_text(), SECONDS, "the kill", daemon)
        wait_at_gate(daemon, "a")
        daemon.ctl("approve", "a")
        assert end_of(daemon, "a") == "done"
    events = [json.loads(line) for line in (workspace.data / "complete/a/events.jsonl").read_text().splitlines()]
    assert [(line["type"], line["task"]) for line in events if line["type"] in {"TaskDone", "TaskSkipped"}] == [
        ("TaskDone", "plan"), ("TaskSkipped", "draw"), ("TaskDone", "extra"), ("TaskDone", "again"),
        ("TaskDone", "print"),
    ]  # fmt: skip
    assert "CodeChanged" not in {line["type"] for line in events}
