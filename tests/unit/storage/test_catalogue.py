"""The catalogue: pipelines resolved from the operator's files, kept while those stay the same, never executed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pop_actors.core.pipeline import TaskDefaults
from pop_actors.errors import SeedRejected
from pop_actors.storage.catalogue import Catalogue, file_and_function
from pop_actors.storage.layout import Workspace

RUN = Path("current/job/pipeline.json")


def write(path: Path, content: Any) -> Path:
    """A file that changed ten seconds ago, so that it counts as settled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    before = time.time() - 10
    os.utime(path, (before, before))
    return path


@pytest.fixture
def catalogue(workspace: Workspace) -> Catalogue:
    """One pipeline `p` with tasks a and b; it is the default."""
    folder = workspace.config / "p"
    write(workspace.registry, {"default": "p", "pipelines": {"p": {"name": "P"}}})
    write(folder / "pipeline.json", {"tasks": ["a", "b"]})
    write(folder / "tasks" / "index.py", 'TASKS = {"a": "a.py", "b": "pkg.mod:run"}')
    write(folder / "tasks" / "a.py", "raise SystemExit('executed')")
    write(folder / "tasks" / "pkg" / "mod.py", "")
    return Catalogue(workspace, TaskDefaults(stage_timeout=7.0))


def rejected(catalogue: Catalogue, slug: str | None) -> tuple[str, str]:
    with pytest.raises(SeedRejected) as caught:
        catalogue.pipeline_for(slug)
    return caught.value.reason, caught.value.message


def test_a_pipeline_is_resolved_with_its_files(workspace: Workspace, catalogue: Catalogue) -> None:
    """Bytes as they stand, defaults applied, each task with an absolute file; no name means the default."""
    resolved = catalogue.pipeline_for(None)
    tasks = workspace.config / "p" / "tasks"
    assert resolved == catalogue.pipeline_for("p")
    assert (resolved.slug, resolved.content) == ("p", b'{"tasks": ["a", "b"]}')
    assert resolved.task_modules == {"a": f"{tasks}/a.py", "b": f"{tasks}/pkg/mod.py:run"}
    assert [file_and_function(module)[1] for module in resolved.task_modules.values()] == [None, "run"]
    assert resolved.pipeline.tasks[0].stage_timeout == 7.0


def test_an_answer_is_kept_until_a_file_changes(workspace: Workspace, catalogue: Catalogue) -> None:
    """The same object while nothing changed; a new one for a new pipeline.json or index."""
    first = catalogue.pipeline_for("p")
    assert catalogue.pipeline_for("p") is first
    write(workspace.config / "p" / "pipeline.json", {"tasks": ["b", "a"]})
    second = catalogue.pipeline_for("p")
    assert second.pipeline.task_names == ("b", "a")
    write(workspace.config / "p" / "tasks" / "index.py", 'TASKS = {"a": "a.py", "b": "a.py"}')
    assert catalogue.pipeline_for("p").task_modules["b"].endswith("/a.py")


def test_an_edit_within_the_same_tick_is_seen(workspace: Workspace, catalogue: Catalogue) -> None:
    """A file that is this fresh may change again without looking changed, so it is read again."""
    path = workspace.config / "p" / "pipeline.json"
    path.write_text('{"tasks": ["a"]}')
    facts = path.stat()
    assert catalogue.pipeline_for("p").pipeline.task_names == ("a",)
    path.write_text('{"tasks": ["b"]}')
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert catalogue.pipeline_for("p").pipeline.task_names == ("b",)


def test_a_task_file_that_disappears_is_a_fault_at_once(workspace: Workspace, catalogue: Catalogue) -> None:
    """Also where the answer was kept."""
    catalogue.pipeline_for("p")
    (workspace.config / "p" / "tasks" / "a.py").unlink()
    reason, message = rejected(catalogue, "p")
    assert reason == "invalid_pipeline"
    assert "a: no such file" in message


def test_an_unknown_pipeline_is_told_with_the_known_ones(workspace: Workspace, catalogue: Catalogue) -> None:
    """A typo can be seen from the message; so can a registry without a default, and one that is missing."""
    reason, message = rejected(catalogue, "q")
    assert reason == "unknown_pipeline"
    assert "there are: p" in message
    write(workspace.registry, {"pipelines": {"p": {}}})
    assert rejected(catalogue, None)[0] == "unknown_pipeline"
    workspace.registry.unlink()
    assert rejected(catalogue, "p")[0] == "unknown_pipeline"


def test_faults_of_pipeline_and_registry_are_told_together(workspace: Workspace, catalogue: Catalogue) -> None:
    """A broken index does not hide what pipeline.json has wrong."""
    write(
        workspace.config / "p" / "pipeline.json", {"tasks": [{"name": "a", "maxAttempts": 0}, {"name": "b", "typo": 1}]}
    )
    write(workspace.config / "p" / "tasks" / "index.py", 'TASKS = {"a": "missing.py", "b": 3}')
    reason, message = rejected(catalogue, "p")
    assert reason == "invalid_pipeline"
    assert "/tasks/0/maxAttempts" in message
    assert "/tasks/1/typo" in message
    assert "index.py: b: must be" in message


@pytest.mark.parametrize(
    "registry",
    [
        "{", "[]", {"pipelines": []}, {"pipelines": {}, "default": 3}, {"pipelines": {"p": "x"}},
        {"pipelines": {"p": {"pipelinePath": ""}}}, {"pipelines": {"p": {"taskRegistryPath": 3}}},
        {"pipelines": {"p": {"pipelinePath": "nowhere/pipeline.json"}}},
        {"pipelines": {"p": {"taskRegistryPath": "nowhere/index.py"}}},
        '{"pipelines": {"p": {}, "p": {}}}',
    ],
)  # fmt: skip
def test_a_registry_with_faults_is_an_invalid_pipeline(
    workspace: Workspace, catalogue: Catalogue, registry: Any
) -> None:
    """And the message names the file."""
    write(workspace.registry, registry)
    reason, message = rejected(catalogue, "p")
    assert reason == "invalid_pipeline"
    assert str(workspace.root) in message


def test_paths_are_relative_to_the_root(workspace: Workspace, catalogue: Catalogue) -> None:
    """Both can lie elsewhere, and the registry can be JSON."""
    entry = {"pipelinePath": "flows/one.json", "taskRegistryPath": "flows/code/index.json"}
    write(workspace.registry, {"pipelines": {"p": entry, "x": "broken"}})
    write(workspace.root / "flows" / "one.json", {"tasks": ["t"]})
    write(workspace.root / "flows" / "code" / "index.json", {"t": "../shared.py"})
    shared = write(workspace.root / "flows" / "shared.py", "")
    assert catalogue.pipeline_for("p").task_modules == {"t": str(shared)}


def test_a_run_keeps_its_own_pipeline(catalogue: Catalogue) -> None:
    """A resumed job follows its copy, with the task files as they are now; faults name the copy."""
    resolved = catalogue.for_run("p", b'{"tasks": ["b"]}', RUN)
    assert (resolved.pipeline.task_names, resolved.content) == (("b",), b'{"tasks": ["b"]}')
    with pytest.raises(SeedRejected):
        catalogue.for_run("gone", b'{"tasks": ["b"]}', RUN)
    with pytest.raises(SeedRejected, match="gone"):
        catalogue.for_run("p", b'{"tasks": ["gone"]}', RUN)
    with pytest.raises(SeedRejected, match=f"{RUN}: line 1"):
        catalogue.for_run("p", b'{"tasks":', RUN)


def test_descriptions_show_tasks_or_faults(workspace: Workspace, catalogue: Catalogue) -> None:
    """The API can show a broken pipeline beside a good one."""
    write(workspace.registry, {"default": "p", "pipelines": {"p": {"name": "P"}, "bad": {}}})
    assert catalogue.slugs() == ["bad", "p"]
    good, bad = catalogue.describe("p"), catalogue.describe("bad")
    assert (good["name"], good["default"], [task["name"] for task in good["tasks"]]) == ("P", True, ["a", "b"])
    assert good["tasks"][1]["dependsOn"] == ["a"]
    assert (bad["default"], bad["tasks"]) == (False, [])
    assert any("pipeline.json: no such file" in fault for fault in bad["faults"])
    with pytest.raises(SeedRejected):
        catalogue.describe("none")
