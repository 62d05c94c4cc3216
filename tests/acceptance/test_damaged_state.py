"""Whatever is damaged, the service starts, the others run on, nothing is lost, and doctor says what to type.

Each job is a copy of one that was killed in its second task, after its first had bought a reply.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from acceptance_world import get_socket

from support.daemon import Daemon, Workspace, wait_until
from support.damage import DAMAGES, GARBAGE, JOB_FILES, job_in_the_middle, use_format_1

SECONDS = 60.0
# What only a person can answer for: what was wanted, or what happened in the middle of a run.
INPUTS = {"seed.json", "pipeline.json"}
BEYOND_THE_END = {"torn", "truncated", "zeros-behind", "garbage-behind"}


def workspace_of_format_1(root: Path) -> Workspace:
    workspace = Workspace(root)
    use_format_1(root)
    (workspace.data / "current").mkdir(parents=True)
    return workspace


def place_of(workspace: Workspace, job_id: str) -> Path:
    complete = workspace.data / "complete" / job_id
    return complete if complete.is_dir() else workspace.data / "current" / job_id


def expected(file: str, damage: str) -> str:
    """`done`, `load` for a job that ended because what it was started with is gone, or `damaged` where it is set
    aside."""
    if file == "events.jsonl":
        return "done" if damage in BEYOND_THE_END else "damaged"
    return "load" if file in INPUTS else "done"


def ask(daemon: Daemon, path: str) -> Any:
    """The `data` of a GET."""
    status, body = get_socket(daemon, path)
    assert status == 200, body
    return json.loads(body)["data"]


def states(daemon: Daemon) -> dict[str, str]:
    """What `popctl list --all` says, by job."""
    return {job["id"]: job["state"] for job in ask(daemon, "/api/jobs?all=true")}


def ended(daemon: Daemon, jobs: list[str]) -> bool:
    found = states(daemon)
    return all(found.get(job) in {"done", "error"} for job in jobs)


def outcome_of(daemon: Daemon, job_id: str) -> str:
    status = ask(daemon, f"/api/jobs/{job_id}")
    if status["state"] != "error":
        return str(status["state"])
    return "damaged" if status.get("damaged") else str(status["error"]["reason"])


def lines_about(path: Path, word: bytes) -> int:
    return path.read_bytes().count(word) if path.is_file() else 0


def test_every_file_in_every_way(tmp_path: Path) -> None:
    """Done where the log allows it; in error, saying why, where what was wanted is gone; set aside where the log is
    broken inside, and done after doctor has repaired it. No call is bought again and no finished task runs again."""
    workspace = workspace_of_format_1(tmp_path)
    cases = {
        f"{file}-{damage}".replace("/", "_").replace(".", "_"): (file, damage)
        for file in JOB_FILES
        for damage in DAMAGES
    }
    for job_id, (file, damage) in cases.items():
        DAMAGES[damage](job_in_the_middle(workspace.data / "current", job_id) / file)
    with Daemon(workspace) as daemon:
        wait_until(lambda: ended(daemon, list(cases)), SECONDS, "all to end", daemon)
        found = {job_id: outcome_of(daemon, job_id) for job_id in cases if not workspace.is_complete(job_id)}
        assert found == {job: expected(*case) for job, case in cases.items() if expected(*case) != "done"}
        broken = [job for job, outcome in found.items() if outcome == "damaged"]
        examined = daemon.ctl("doctor", check=False)
        assert examined.returncode == 1
        assert all(f"popctl doctor --repair {job}" in examined.stdout for job in broken)
        daemon.ctl("doctor", "--repair", check=False)
        wait_until(lambda: all(map(workspace.is_complete, broken)), SECONDS, "the repaired to be done", daemon)
        without_pipeline = [job for job, (file, _) in cases.items() if file == "pipeline.json"]
        for job in without_pipeline[:3]:
            daemon.ctl("doctor", "--repair", job, check=False)
            daemon.ctl("restart", job)
        wait_until(lambda: all(map(workspace.is_complete, without_pipeline[:3])), SECONDS, "the restarted", daemon)
    for job_id, (file, _) in cases.items():
        if file == "llm-calls.jsonl" or job_id in without_pipeline[:3]:
            continue
        place = place_of(workspace, job_id)
        assert lines_about(place / "llm-calls.jsonl", b'"type":"paid"') == 1, job_id
        if file != "tasks/research/checkpoint.jsonl":
            assert lines_about(place / "tasks/research/checkpoint.jsonl", b"\n") == 2, job_id
    recorded = [run["id"] for run in workspace.runs()]
    assert sorted(recorded) == sorted(set(recorded))


def test_two_damaged_among_a_hundred(tmp_path: Path) -> None:
    """The ninety-eight are done as if nothing were; the two appear in error everywhere, untouched, hold no slot, keep
    their ids, and go on once they are repaired."""
    workspace = workspace_of_format_1(tmp_path)
    current = workspace.data / "current"
    jobs = [f"job-{number:03d}" for number in range(100)]
    for job_id in jobs:
        job_in_the_middle(current, job_id)
    broken = ["job-017", "job-051"]
    DAMAGES["garbage-inside"](current / broken[0] / "events.jsonl")
    DAMAGES["missing"](current / broken[1] / "events.jsonl")
    DAMAGES["garbage"](current / broken[1] / "tasks-status.json")
    before = {path: path.read_bytes() for job in broken for path in (current / job).rglob("*.json*")}
    with Daemon(workspace) as daemon:
        well = [job for job in jobs if job not in broken]
        wait_until(lambda: all(map(workspace.is_complete, well)), SECONDS, "the ninety-eight", daemon)
        listed = json.loads(daemon.ctl("--json", "list").stdout)
        assert {job["id"]: job["state"] for job in listed} == dict.fromkeys(broken, "error")
        for job in broken:
            status = json.loads(daemon.ctl("--json", "status", job).stdout)
            assert (status["error"]["reason"], status["error"]["name"]) == ("crashed", "Damaged")
            assert "events.jsonl" in status["error"]["message"]
            assert f"popctl doctor --repair {job}" in status["error"]["message"]
            refused = daemon.ctl("restart", job, check=False)
            assert (refused.returncode, f"doctor --repair {job}" in refused.stderr) == (1, True)
            workspace.drop(job, {"data": {}})
        wait_until(lambda: all(map(workspace.rejection, broken)), SECONDS, "their ids to be taken", daemon)
        assert {path: path.read_bytes() for path in before} == before
        done = daemon.ctl("doctor", "--repair", check=False)
        assert "kept as events.jsonl.damaged-1" in done.stdout
        wait_until(lambda: all(map(workspace.is_complete, broken)), SECONDS, "the two", daemon)
    assert sorted(run["id"] for run in workspace.runs()) == jobs
    copy = workspace.data / "complete" / broken[0] / "events.jsonl.damaged-1"
    assert copy.read_bytes() == before[current / broken[0] / "events.jsonl"]
    for job in jobs:
        assert lines_about(workspace.data / "complete" / job / "llm-calls.jsonl", b'"type":"paid"') == 1


EVERY_DAY = {"garbage"}


@pytest.mark.parametrize(
    "damage",
    [pytest.param(damage, marks=() if damage in EVERY_DAY else pytest.mark.faults) for damage in sorted(DAMAGES)],
)
def test_the_services_own_files_stop_no_start(tmp_path: Path, damage: str) -> None:
    """The marker, the lock's text, the note of the socket and runs.jsonl: the service starts, a job that was finishing
    has one line, and what could be read of the past is still told."""
    workspace = workspace_of_format_1(tmp_path)
    job_in_the_middle(workspace.data / "current", "goes-on")
    state, complete = workspace.data / "state", workspace.data / "complete"
    for folder in (state, complete):
        folder.mkdir()
    (state / "workspace.json").write_text('{"format": 2, "writtenBy": "0.1"}')
    (state / "popd.sock.path").write_text("/nowhere/at/all/popd.sock\n")
    (complete / "runs.jsonl").write_text('{"id":"before","pipelineId":"pl-1","createdAt":"x","finishedAt":"y"}\n' * 2)
    files = [state / "workspace.json", state / "popd.sock.path", complete / "runs.jsonl"]
    if damage != "a-folder":
        (state / "popd.lock").write_bytes(GARBAGE)
        files.append(state / "popd.lock")
    for path in files:
        if damage != "a-folder" or path.name != "popd.sock.path":
            DAMAGES[damage](path)
    with Daemon(workspace) as daemon:
        wait_until(lambda: workspace.is_complete("goes-on"), SECONDS, "the job", daemon)
        listed = json.loads(daemon.ctl("--json", "runs").stdout)
        assert [run["id"] for run in listed].count("goes-on") == 1
        assert daemon.ctl("list", "--all").returncode == 0


@pytest.mark.faults
def test_a_stopped_job_whose_log_lost_that_stays_stopped(tmp_path: Path) -> None:
    """A log that is merely shorter looks sound; the status knows that somebody stopped the job, or that it failed."""
    workspace = workspace_of_format_1(tmp_path)
    for job_id, state in (("was-stopped", "stopped"), ("had-failed", "error")):
        path = job_in_the_middle(workspace.data / "current", job_id) / "tasks-status.json"
        status = json.loads(path.read_bytes())
        error = {"task": "writing", "stage": "parsing", "reason": "timeout", "name": "T", "message": "m"}
        status |= {"state": state, "lastUpdated": "2027-01-01T00:00:00.000Z"}
        status |= {"error": error} if state == "error" else {}
        path.write_text(json.dumps(status, indent=2))
    with Daemon(workspace) as daemon:
        assert states(daemon) == {"was-stopped": "stopped", "had-failed": "error"}
        assert outcome_of(daemon, "had-failed") == "timeout"
        daemon.ctl("restart", "was-stopped")
        wait_until(lambda: workspace.is_complete("was-stopped"), SECONDS, "a new run", daemon)


@pytest.mark.faults
def test_a_folder_copied_by_hand_is_no_second_job(tmp_path: Path) -> None:
    """It is set aside, and no repair makes one of it; the original is done."""
    workspace = workspace_of_format_1(tmp_path)
    original = job_in_the_middle(workspace.data / "current", "original")
    (original.parent / "backup").mkdir()
    for name in ("events.jsonl", "seed.json", "pipeline.json", "tasks-status.json"):
        (original.parent / "backup" / name).write_bytes((original / name).read_bytes())
    with Daemon(workspace) as daemon:
        wait_until(lambda: workspace.is_complete("original"), SECONDS, "the original", daemon)
        assert outcome_of(daemon, "backup") == "damaged"
        done = daemon.ctl("doctor", "--repair", "backup", check=False)
        assert (done.returncode, "copy" in done.stderr) == (1, True)
    assert [run["id"] for run in workspace.runs()] == ["original"]


@pytest.mark.faults
def test_a_task_whose_output_is_gone_for_good_runs_again_on_a_persons_word(tmp_path: Path) -> None:
    """The job that builds on it ends at once, in error, naming the file and what to type; no crash after crash."""
    workspace = workspace_of_format_1(tmp_path)
    research = job_in_the_middle(workspace.data / "current", "poor") / "tasks" / "research"
    (research / "output.json").unlink()
    (research / "checkpoint.jsonl").unlink()
    with Daemon(workspace) as daemon:
        wait_until(lambda: states(daemon)["poor"] == "error", SECONDS, "its end", daemon)
        status = ask(daemon, "/api/jobs/poor")
        assert (status["error"]["task"], status["error"]["reason"]) == ("writing", "load")
        assert "popctl restart poor --from research" in status["error"]["message"]
        assert status["restarts"] <= 1
        daemon.ctl("restart", "poor", "--from", "research")
        wait_until(lambda: workspace.is_complete("poor"), SECONDS, "the new run", daemon)


@pytest.mark.faults
def test_a_finished_job_with_a_damaged_log_is_refused_a_new_run_until_it_is_repaired(tmp_path: Path) -> None:
    """A repair brings it back to where it was, with the one line it has; then it can be run again."""
    workspace = workspace_of_format_1(tmp_path)
    job_in_the_middle(workspace.data / "current", "past")
    with Daemon(workspace) as daemon:
        wait_until(lambda: workspace.is_complete("past"), SECONDS, "it", daemon)
        DAMAGES["garbage-inside"](workspace.data / "complete" / "past" / "events.jsonl")
        refused = daemon.ctl("restart", "past", check=False)
        assert (refused.returncode, "doctor --repair past" in refused.stderr) == (1, True)
        assert states(daemon)["past"] == "error"
        daemon.ctl("doctor", "--repair", "past", check=False)
        wait_until(lambda: workspace.is_complete("past"), SECONDS, "it to be back", daemon)
        assert [run["id"] for run in workspace.runs()] == ["past"]
        daemon.ctl("restart", "past")
        wait_until(lambda: len(workspace.runs()) == 2, SECONDS, "the second run", daemon)
