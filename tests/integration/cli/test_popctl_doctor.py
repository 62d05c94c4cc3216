"""popctl doctor as a person runs it without a daemon: it explains each thing, says what to type, and puts right what it
can. (Beside a daemon: tests/acceptance/test_damaged_state.py.)"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pop_actors.core.events import FORMAT
from pop_actors.process_table import WORKSPACE
from pop_actors.storage.layout import Workspace
from pop_actors.storage.left_behind import mark_of
from pop_actors.storage.runner_pid import write_runner_pid
from pop_actors.storage.workspace_lock import WorkspaceLock
from support.damage import DAMAGES, FORMAT_1, job_in_the_middle, use_format_1
from support.popctl import Popctl, Ran


@pytest.fixture
def workspace(alone: Popctl) -> Workspace:
    use_format_1(alone.root)
    made = Workspace(alone.root, alone.root / "pipeline-data")
    for folder in made.folders:
        folder.mkdir(parents=True)
    made.marker.write_text(json.dumps({"format": FORMAT, "writtenBy": "0"}))
    return made


def findings(ran: Ran) -> dict[str, dict[str, Any]]:
    """By the last part of where they are."""
    return {Path(finding["where"]).name: finding for finding in ran.document["findings"]}


def test_a_healthy_workspace_is_said_to_be(alone: Popctl, workspace: Workspace) -> None:
    """Exit 0, also where popd has never run; nothing is made by looking."""
    ran = alone("doctor")
    assert (ran.code, "healthy" in ran.out) == (0, True)
    shutil.rmtree(workspace.data)
    assert alone("doctor").code == 0
    assert not workspace.data.exists()


def test_each_thing_is_found_with_what_to_type(alone: Popctl, workspace: Workspace) -> None:
    """Damaged jobs, jobs in error, seeds and why they wait, files of no seed, half moves, pipelines with faults."""
    for job_id in ("broken", "no-seed", "fine"):
        job_in_the_middle(workspace.current, job_id)
    DAMAGES["garbage-inside"](workspace.job("broken").events)
    workspace.job("no-seed").seed.unlink()
    shutil.copytree(FORMAT_1 / "pipeline-data" / "current" / "failed-1", workspace.current / "failed-1")
    for name, seed in {
        "ready": {"data": {}},
        "after-failed": {"data": {}, "dependsOn": ["failed-1"]},
        "after-nobody": {"data": {}, "dependsOn": ["nobody"]},
        "wrong": {"no": "data"},
    }.items():
        workspace.seed(name).write_text(json.dumps(seed))
    (workspace.pending / "README.txt").write_text("hello")
    (workspace.pending / "folder-seed.json").mkdir()
    (workspace.staging / "gone").mkdir()
    workspace.claiming("half").mkdir()
    registry = json.loads(workspace.registry.read_bytes())
    registry["pipelines"]["faulty"] = {"taskRegistryPath": "pipeline-config/nowhere.py"}
    workspace.registry.write_text(json.dumps(registry))
    ran = alone("doctor", "--json")
    found = findings(ran)
    assert (ran.code, ran.document["healthy"]) == (1, False)
    assert (found["events.jsonl"]["severity"], found["events.jsonl"]["do"]) == (
        "error",
        "popctl doctor --repair broken",
    )
    assert (found["seed.json"]["job"], found["seed.json"]["severity"]) == ("no-seed", "error")
    assert any("popctl restart failed-1" in finding["do"] for finding in ran.document["findings"])
    assert "failed-1, which is error" in found["after-failed-seed.json"]["what"]
    assert (found["after-nobody-seed.json"]["severity"], found["ready-seed.json"]["severity"]) == ("warning", "note")
    assert "invalid_seed" in found["wrong-seed.json"]["what"]
    assert found["folder-seed.json"]["severity"] == "warning"
    assert {"README.txt", "gone", ".claiming-half"} <= found.keys()
    faults = [finding["what"] for finding in ran.document["findings"] if finding["where"] == "pipeline faulty"]
    assert any("faulty/pipeline.json: no such file" in fault for fault in faults)
    assert [finding["severity"] for finding in ran.document["findings"]] == sorted(
        (finding["severity"] for finding in ran.document["findings"]), key=("error", "warning", "note").index
    )


def test_settings_folders_and_the_lock_are_looked_at(alone: Popctl, workspace: Workspace) -> None:
    """Each says what is wrong; a lock somebody holds while nobody answers is a popd that starts, or hangs."""
    (alone.root / "pop.toml").write_text("[jobs]\nmax_running = 0\n")
    workspace.rejected.rmdir()
    workspace.rejected.write_text("a file")
    with WorkspaceLock(workspace):
        found = findings(alone("doctor", "--json"))
        assert alone("doctor", "--repair").code == 1
    assert "max_running" in found["pop.toml"]["what"]
    assert found["rejected"]["severity"] == "error"
    assert found["popd"]["severity"] == "warning"


@pytest.fixture
def sleeper(workspace: Workspace) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, WORKSPACE: mark_of(workspace)}
    process = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, env=environment)
    yield process
    process.kill()
    process.wait()


def test_a_process_left_behind_is_found_and_ended_by_a_repair(
    alone: Popctl, workspace: Workspace, sleeper: subprocess.Popen[bytes]
) -> None:
    """Not by looking."""
    job_in_the_middle(workspace.current, "j")
    write_runner_pid(workspace.job("j").runner_pid, sleeper.pid)
    ran = alone("doctor", "j")
    assert sleeper.poll() is None
    found = findings(alone("doctor", "--json"))
    assert str(sleeper.pid) in found["runner.pid"]["what"]
    repaired = alone("doctor", "--repair")
    assert (ran.code, repaired.code) == (0, 0)
    assert sleeper.wait(10) != 0


def test_one_job_is_repaired_and_the_others_left(alone: Popctl, workspace: Workspace) -> None:
    """Exit 0 and healthy after it; a job that needs none, or that is not there, is said so."""
    for job_id in ("one", "two"):
        job_in_the_middle(workspace.current, job_id)
        DAMAGES["garbage-inside"](workspace.job(job_id).events)
    before = workspace.job("two").events.read_bytes()
    ran = alone("doctor", "--repair", "one", "--json")
    assert (ran.code, ran.document["repaired"][0]["state"]) == (0, "pending")
    assert ran.document["repaired"][0]["copies"] == ["events.jsonl.damaged-1"]
    assert workspace.job("two").events.read_bytes() == before
    assert "nothing is wrong" in alone("doctor", "--repair", "one").out
    assert alone("doctor", "two").code == 1
    assert alone("doctor", "nobody").code == 4


def test_a_newer_workspace_is_only_said_to_be_one(alone: Popctl, workspace: Workspace) -> None:
    """Nothing else is looked at, and no repair touches it."""
    job_in_the_middle(workspace.current, "j")
    DAMAGES["garbage-inside"](workspace.job("j").events)
    workspace.marker.write_text(json.dumps({"format": FORMAT + 1, "writtenBy": "9"}))
    before = sorted(os.listdir(workspace.job("j").path))
    ran = alone("doctor", "--json")
    assert (ran.code, len(ran.document["findings"])) == (1, 1)
    refused = alone("doctor", "--repair")
    assert (refused.code, f"format {FORMAT + 1}" in refused.err) == (1, True)
    assert sorted(os.listdir(workspace.job("j").path)) == before


def test_calls_that_were_in_flight_when_the_daemon_died_are_counted(alone: Popctl, workspace: Workspace) -> None:
    """Nobody can save them; what has an end, billed or not, is not among them."""
    job_in_the_middle(workspace.current, "asking")
    lines = [
        ("a", "sent"),
        ("a", "paid"),
        ("b", "sent"),
        ("b#1", "failed"),
        ("c", "sent"),
        ("c", "failed"),
        ("d", "sent"),
    ]
    lines += [("e", "sent"), ("e", "failed"), ("e", "sent")]
    records = [json.dumps({"type": kind, "key": key, "try": 1}) + "\n" for key, kind in lines]
    workspace.job("asking").calls.write_text("".join(records))
    found = findings(alone("doctor", "asking", "--json"))
    assert found["llm-calls.jsonl"]["what"].endswith("without a reply: 2")
    assert found["llm-calls.jsonl"]["severity"] == "note"


def test_a_call_in_flight_that_was_made_again_by_the_next_daemon_is_counted_too(
    alone: Popctl, workspace: Workspace
) -> None:
    """Its job went on and has its reply; the first request was perhaps billed all the same. A retry is no such call."""
    job_in_the_middle(workspace.current, "asking")
    lines = [("a", "sent", 1), ("a", "sent", 1), ("a", "paid", 0)]
    lines += [("b", "sent", 1), ("b", "sent", 2), ("b", "paid", 0)]
    lines += [("c", "sent", 1), ("c", "sent", 2), ("c", "sent", 1), ("c", "sent", 2)]
    records = [json.dumps({"type": kind, "key": key, "try": number}) + "\n" for key, kind, number in lines]
    workspace.job("asking").calls.write_text("".join(records))
    found = findings(alone("doctor", "asking", "--json"))
    assert found["llm-calls.jsonl"]["what"].endswith("without a reply: 3")
