"""The tasks of a run with those that were added to it, from the run's own pipeline.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pop_actors.core.events import Patch
from pop_actors.core.job_spec import JobSpec, TaskEntry
from pop_actors.core.pipeline import TaskDefaults
from pop_actors.errors import ControlInvalid, Damaged
from pop_actors.runner.run_state import RunState
from pop_actors.runner.run_tasks import RunTasks
from pop_actors.storage.layout import JobDirectory

PATCH = Patch(task="a", insert_after="a", add=({"name": "x", "config": {"depth": 2}},))


@pytest.fixture
def job(tmp_path: Path) -> JobDirectory:
    directory = JobDirectory(tmp_path)
    directory.pipeline.write_text(json.dumps({"tasks": ["a", "b"], "taskConfig": {"x": {"tone": "calm"}}}))
    return directory


def tasks_of(job: JobDirectory) -> RunTasks:
    for name in "abx":
        (job.path / f"{name}.py").touch()
    modules = {name: str(job.path / f"{name}.py") for name in "abx"}
    entries = [TaskEntry(name="a", task="a"), TaskEntry(name="b", task="b", depends_on=("a",))]
    texts = dict.fromkeys(("job_id", "run_id", "directory", "root", "pipeline"), "j")
    spec = JobSpec(**texts, task_modules=modules, entries=tuple(entries), defaults=TaskDefaults(max_attempts=7))
    return RunTasks(JobSpec.model_validate(spec.model_dump(mode="json")), job)


def test_what_is_added_gets_everything_a_task_of_the_pipeline_gets(job: JobDirectory) -> None:
    """Its place, its configuration, and the service's defaults; the tasks there were stay where they stand."""
    tasks = tasks_of(job)
    state = RunState(tasks.entries)
    state.begins("a")
    tasks.add(PATCH)
    state.take_over(tasks.entries)
    assert [(entry.name, entry.depends_on) for entry in tasks.entries] == [("a", ()), ("x", ("a",)), ("b", ("x",))]
    assert (tasks.by_name["x"].config, tasks.by_name["x"].max_attempts) == ({"depth": 2, "tone": "calm"}, 7)
    assert state.states == {"a": "running", "x": "pending", "b": "pending"}
    assert not state.is_over


def test_a_file_that_is_gone_by_then_is_a_fault(job: JobDirectory) -> None:
    """Not of the run: of the entry that wants it."""
    tasks = tasks_of(job)
    (job.path / "x.py").unlink()
    with pytest.raises(ControlInvalid, match="/patch/add/0: its file is not there any more"):
        tasks.refuse_missing_files(PATCH)


@pytest.mark.parametrize("content", [None, "{", '{"tasks": ["b"]}'])
def test_a_pipeline_that_is_damaged_under_the_run_is_said_to_be(job: JobDirectory, content: str | None) -> None:
    """Gone, no JSON, or edited so that what was added does not fit: nothing of the plan changes."""
    tasks = tasks_of(job)
    job.pipeline.unlink() if content is None else job.pipeline.write_text(content)
    with pytest.raises(Damaged, match=r"pipeline\.json"):
        tasks.add(PATCH)
    assert list(tasks.by_name) == ["a", "b"]
