"""A repair keeps what was there, and puts back what the other files prove; an output comes back from its checkpoint."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

import pytest

from pop_actors.core.events import JobRepaired
from pop_actors.errors import Damaged, FormatRefused
from pop_actors.storage import recovery
from pop_actors.storage.files import TEMPORARY
from pop_actors.storage.history_inspection import inspect_history, record_missing
from pop_actors.storage.job_inspection import inspect_job
from pop_actors.storage.layout import JobDirectory, Workspace
from pop_actors.storage.offline_repair import repair_offline
from pop_actors.storage.repair import repair_inputs, repair_job
from pop_actors.storage.task_outputs import read_output
from support.damage import DAMAGES, FORMAT_1, job_in_the_middle, use_format_1

NOW = 1_800_000_000.0


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.fixture
def job(workspace: Workspace) -> JobDirectory:
    use_format_1(workspace.root)
    job_in_the_middle(workspace.current, "j")
    return workspace.job("j")


def document(workspace: Workspace) -> dict[str, Any]:
    return recovery.read_job(workspace, "j").document


def states(workspace: Workspace) -> list[str]:
    return [task["state"] for task in document(workspace)["tasks"].values()]


def test_without_log_and_status_a_job_comes_back_from_its_letters_and_outputs(
    workspace: Workspace, job: JobDirectory
) -> None:
    """The run stays the run, so that its journal replays; the finished task stays finished, with its files."""
    run = document(workspace)["pipelineId"]
    for path in (job.events, job.status):
        path.unlink()
    repaired = repair_job(workspace, "j", NOW)
    assert (repaired.state, repaired.copies) == ("pending", ())
    assert (document(workspace)["pipelineId"], document(workspace)["pipeline"]) == (run, "steps")
    assert states(workspace)[0] == "done"
    assert document(workspace)["files"]["artifacts"] == ["reply.txt"]


def test_with_nothing_left_a_repair_says_so_and_changes_nothing(workspace: Workspace, job: JobDirectory) -> None:
    """And the folder stays as it is."""
    for path in (job.events, job.status, job.seed):
        DAMAGES["zero-filled"](path)
    before = sorted(os.listdir(job.path))
    with pytest.raises(Damaged, match="how the job began"):
        repair_job(workspace, "j", NOW)
    assert sorted(os.listdir(job.path)) == before


def test_a_repair_cut_short_is_done_again_with_one_copy(workspace: Workspace, job: JobDirectory) -> None:
    """The copy that was kept the first time counts."""
    DAMAGES["garbage-inside"](job.events)
    damaged = job.events.read_bytes()
    repair_job(workspace, "j", NOW)
    job.events.write_bytes(damaged)
    repaired = repair_job(workspace, "j", NOW)
    assert repaired.copies == ("events.jsonl.damaged-1",)
    assert [name for name in os.listdir(job.path) if "damaged" in name] == ["events.jsonl.damaged-1"]
    last = recovery.read_job(workspace, "j").events[-1]
    assert isinstance(last, JobRepaired)
    assert (last.lost > 0, last.ended) == (True, 1)


def test_a_job_of_a_newer_format_is_not_repaired(workspace: Workspace, job: JobDirectory) -> None:
    """Its lines mean something that is not known here."""
    job.events.write_bytes(b'{"type":"JobCreated","format":99,"id":"j"}\ngarbage\n')
    with pytest.raises(FormatRefused, match="format 99"):
        repair_job(workspace, "j", NOW)
    assert [name for name in os.listdir(job.path) if "damaged" in name] == []


def test_a_job_without_its_seed_ends_in_error_with_what_to_put_where(workspace: Workspace, job: JobDirectory) -> None:
    """Only a person knows what was wanted."""
    DAMAGES["garbage-inside"](job.events)
    job.seed.unlink()
    repaired = repair_job(workspace, "j", NOW)
    assert repaired.state == "error"
    assert str(job.seed) in document(workspace)["error"]["message"]
    assert "popctl restart j" in document(workspace)["error"]["message"]


def test_a_pipeline_is_the_registrys_again_where_its_tasks_are_the_runs(
    workspace: Workspace, job: JobDirectory
) -> None:
    """Otherwise it is for a person; where nothing is wrong, that is said."""
    with pytest.raises(Damaged, match="nothing is wrong"):
        repair_inputs(workspace, "j")
    job.pipeline.write_bytes(b"{")
    assert repair_inputs(workspace, "j").copies == ("pipeline.json.damaged-1",)
    registered = workspace.config / "steps" / "pipeline.json"
    assert job.pipeline.read_bytes() == registered.read_bytes()
    registered.write_text(json.dumps({"name": "steps", "version": "2", "tasks": ["research"]}))
    job.pipeline.write_bytes(b"{")
    with pytest.raises(Damaged, match="not this run's any more"):
        repair_inputs(workspace, "j")


@pytest.mark.parametrize("harm", ["missing", "torn", "zero-filled", "garbage", "a-folder"])
def test_an_output_is_written_anew_from_its_checkpoint(workspace: Workspace, job: JobDirectory, harm: str) -> None:
    """The very same content; what was there is kept, a second reading finds it whole."""
    content = read_output(job, "research")
    DAMAGES[harm](job.task("research").output)
    assert read_output(job, "research") == content
    again = json.loads(job.task("research").output.read_bytes())["research"]
    assert (again["content"], again["metadata"]["rebuilt"]) == (content, True)
    kept = [name for name in os.listdir(job.task("research").path) if "damaged" in name]
    assert len(kept) == (harm != "missing")


@pytest.mark.parametrize("harm", ["torn", "garbage-inside", "missing", "a line less"])
def test_an_output_is_never_guessed(workspace: Workspace, job: JobDirectory, harm: str) -> None:
    """Where the checkpoint does not have every stage, also when its lines are whole, the task has to run again."""
    checkpoint = job.task("research").checkpoint
    if harm == "a line less":
        checkpoint.write_bytes(checkpoint.read_bytes().splitlines(keepends=True)[0])
    else:
        DAMAGES[harm](checkpoint)
    job.task("research").output.unlink()
    with pytest.raises(Damaged, match="popctl restart j --from research"):
        read_output(job, "research")
    assert any("--from research" in finding.todo for finding in inspect_job(workspace, "j", live=False))


def test_history_finds_finished_jobs_without_a_line_and_records_each_once(workspace: Workspace) -> None:
    """A line that is there, even far back, is never written twice."""
    for job_id in ("done-1", "done-2"):
        job_files = FORMAT_1 / "pipeline-data" / "complete" / job_id / "tasks-status.json"
        (workspace.complete / job_id).mkdir()
        workspace.finished(job_id).status.write_bytes(job_files.read_bytes())
    lines = (FORMAT_1 / "pipeline-data" / "complete" / "runs.jsonl").read_bytes().splitlines(keepends=True)
    workspace.runs.write_bytes(lines[0] + b"broken\n")
    missing = next(name for name in ("done-1", "done-2") if f'"{name}"'.encode() not in lines[0])
    found = {finding.what.split(",")[0]: finding.job_id for finding in inspect_history(workspace, everything=False)}
    assert found["is done and has no line in runs.jsonl"] == missing
    assert record_missing(workspace, everything=False) == [missing]
    assert record_missing(workspace, everything=True) == []
    assert [finding.severity for finding in inspect_history(workspace, everything=True)] == ["note"]


def test_offline_a_repair_does_what_a_start_would_and_more(workspace: Workspace, job: JobDirectory) -> None:
    """Half claims are undone, statuses written, left temporary files removed, damaged jobs put together again."""
    DAMAGES["garbage-inside"](job.events)
    half = workspace.claiming("half")
    half.mkdir()
    (half / "seed.json").write_bytes(b'{"data": {}}')
    (job.path / f"seed.json{TEMPORARY}999999999").write_bytes(b"{")
    (job.path / f"seed.json{TEMPORARY}{os.getpid()}").write_bytes(b"{")
    outcome = repair_offline(workspace, None, NOW, everything=True)
    assert [one["id"] for one in outcome.repaired] == ["j"]
    assert outcome.failed == []
    assert workspace.seed("half").exists()
    assert [name for name in os.listdir(job.path) if TEMPORARY in name] == [f"seed.json{TEMPORARY}{os.getpid()}"]
    assert json.loads(job.status.read_bytes())["state"] == "pending"
    assert repair_offline(workspace, None, NOW, everything=True).repaired == []
