"""Scaffolds run as they are and never overwrite."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pop_actors.core.seed import parse_seed
from pop_actors.errors import Refused
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.layout import Workspace
from pop_actors.storage.scaffold import init_workspace, new_pipeline, new_task


def catalogue(root: Path) -> Catalogue:
    return Catalogue(Workspace(root, root / "pipeline-data"))


def files_below(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_new_workspace_has_a_pipeline_that_resolves_and_a_seed_for_it(tmp_path: Path) -> None:
    """Everything it says it made is there; modules are Python with the stages' names."""
    made = init_workspace(tmp_path / "w")
    assert set(made) == set(files_below(tmp_path / "w"))
    resolved = catalogue(tmp_path / "w").pipeline_for(None)
    (module,) = resolved.task_modules.values()
    functions = {node.name for node in ast.parse(Path(module).read_text()).body if isinstance(node, ast.FunctionDef)}
    assert {"ingestion", "inference", "parsing", "integration"} <= functions
    assert parse_seed((tmp_path / "w" / "seeds" / "hello.json").read_bytes(), "j", 10_000).pipeline is None
    assert (tmp_path / "w" / "pipeline-data" / "pending").is_dir()


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    """Twice is once; a file of the user's stays as it is."""
    (tmp_path / "pop.toml").write_text("# mine\n")
    init_workspace(tmp_path)
    before = files_below(tmp_path)
    assert before[tmp_path / "pop.toml"] == b"# mine\n"
    assert init_workspace(tmp_path) == []
    assert files_below(tmp_path) == before


def test_pipelines_and_tasks_are_added_and_resolve(tmp_path: Path) -> None:
    """A second pipeline leaves the default alone; a new task is last in its pipeline."""
    init_workspace(tmp_path)
    assert new_pipeline(tmp_path, "other")
    (module,) = new_task(tmp_path, "other", "second")
    known = catalogue(tmp_path)
    assert (known.pipeline_for(None).slug, known.slugs()) == ("example", ["example", "other"])
    resolved = known.pipeline_for("other")
    assert resolved.pipeline.task_names == ("draft", "second")
    assert resolved.task_modules["second"] == str(module)


def test_the_first_pipeline_of_a_bare_folder_is_its_default(tmp_path: Path) -> None:
    """new-pipeline needs no init."""
    made = new_pipeline(tmp_path, "first")
    assert tmp_path / "pipeline-config" / "registry.json" in made
    assert catalogue(tmp_path).pipeline_for(None).slug == "first"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda root: new_pipeline(root, "example"), "exists"),
        (lambda root: new_pipeline(root, "../x"), "bad_name"),
        (lambda root: new_task(root, "example", "draft"), "exists"),
        (lambda root: new_task(root, "example", "a b"), "bad_name"),
        (lambda root: new_task(root, "nobody", "x"), "not_found"),
    ],
)
def test_what_cannot_be_made_is_refused_and_changes_nothing(tmp_path: Path, make: object, code: str) -> None:
    """The code says why; every file is as before."""
    init_workspace(tmp_path)
    before = files_below(tmp_path)
    with pytest.raises(Refused) as caught:
        make(tmp_path)  # type: ignore[operator]
    assert caught.value.code == code
    assert files_below(tmp_path) == before


def test_a_registry_the_user_broke_is_not_touched(tmp_path: Path) -> None:
    """Neither repaired nor replaced."""
    init_workspace(tmp_path)
    registry = tmp_path / "pipeline-config" / "registry.json"
    registry.write_text("{ oops")
    with pytest.raises(Refused) as caught:
        new_pipeline(tmp_path, "other")
    assert (caught.value.code, registry.read_text()) == ("damaged", "{ oops")
    assert not (tmp_path / "pipeline-config" / "other").exists()
