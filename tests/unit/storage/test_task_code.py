"""Digests of a run's code: what counts as code, what is a change, and what a file imports by its own words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pop_actors.storage import task_code
from pop_actors.storage.task_code import CodeReader

PIPELINE = b"{}"


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in ("one", "two"):
        write(folder / f"{name}.py", "x = 1\n")
    return folder


def write(path: Path, source: str) -> None:
    """Old enough to be kept in memory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source, encoding="utf-8")
    os.utime(path, ns=(10**18, 10**18))


def modules(folder: Path) -> dict[str, str]:
    return {"one": str(folder / "one.py"), "two": str(folder / "two.py")}


def test_code_is_what_tasks_are_in_and_can_import(tasks: Path) -> None:
    """Named from the root on: the tasks' files, those beside them and in packages; no byte code, no data, no folder
    that is no package."""
    for name in ("beside.py", "package/__init__.py", "package/deep/__init__.py", "package/deep/part.py"):
        write(tasks / name, "")
    for name in ("data.json", "__pycache__/one.cpython-311.pyc", "elsewhere/thing.py"):
        write(tasks / name, "")
    code = CodeReader(tasks.parent).read(modules(tasks), PIPELINE)
    beside = {"beside.py", "package/__init__.py", "package/deep/__init__.py", "package/deep/part.py"}
    assert set(code.files) == {"pipeline.json", *(f"tasks/{name}" for name in {"one.py", "two.py", *beside})}
    assert code.modules == {"one": "tasks/one.py", "two": "tasks/two.py"}


def test_an_edit_changes_one_digest(tasks: Path) -> None:
    """Another reader, as in another process, sees the same; the pipeline counts by its content, from file or memory."""
    reader = CodeReader(tasks.parent)
    before = reader.read(modules(tasks), PIPELINE)
    assert reader.read(modules(tasks), PIPELINE) == before
    write(tasks.parent / "pipeline.json", PIPELINE.decode())
    assert CodeReader(tasks.parent).read(modules(tasks), tasks.parent / "pipeline.json") == before
    (tasks / "two.py").write_text("x = 2\n", encoding="utf-8")
    after = reader.read(modules(tasks), PIPELINE)
    assert {name for name in after.files if after.files[name] != before.files[name]} == {"tasks/two.py"}


def test_two_edits_within_a_tick_are_both_seen(tasks: Path) -> None:
    """The same size and the same time: what is that fresh is read again."""
    reader = CodeReader(tasks.parent)
    file = tasks / "one.py"
    file.write_text("x = 2\n", encoding="utf-8")
    seen = file.stat().st_mtime_ns
    before = reader.read(modules(tasks), PIPELINE)
    file.write_text("x = 3\n", encoding="utf-8")
    os.utime(file, ns=(seen, seen))
    assert reader.read(modules(tasks), PIPELINE) != before


def test_a_file_that_is_gone_or_unreadable_has_no_digest(tasks: Path) -> None:
    """It shows as a change; nobody stumbles over it."""
    (tasks / "one.py").unlink()
    (tasks / "two.py").unlink()
    (tasks / "two.py").mkdir()
    code = CodeReader(tasks.parent).read(modules(tasks), tasks.parent / "no-pipeline.json")
    assert code.files == {}
    assert set(code.modules) == {"one", "two"}


def test_a_folder_too_large_to_look_through_counts_by_its_tasks(tasks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task registry that lies in the middle of something big does not slow every start."""
    monkeypatch.setattr(task_code, "MOST_ENTRIES", 5)
    for number in range(10):
        write(tasks / f"extra{number}.py", "")
    code = CodeReader(tasks.parent).read(modules(tasks), PIPELINE)
    assert set(code.files) == {"pipeline.json", "tasks/one.py", "tasks/two.py"}


IMPORTS = {
    "import shared": {"tasks/shared.py"},
    "from shared import x": {"tasks/shared.py"},
    "import package.part": {"tasks/package/__init__.py", "tasks/package/part.py", "tasks/shared.py"},
    "from package import part": {"tasks/package/__init__.py", "tasks/package/part.py", "tasks/shared.py"},
    "from package.part import y": {"tasks/package/__init__.py", "tasks/package/part.py", "tasks/shared.py"},
    "def ingestion(ctx):\n    import shared": {"tasks/shared.py"},
    "import json, os.path": set(),
    "import round": {"tasks/round.py", "tasks/trip.py"},
    "import nothing_there": set(),
    "def broken(": set(),
}


@pytest.mark.parametrize("source", IMPORTS)
def test_what_a_file_reaches_is_what_its_source_imports(tasks: Path, source: str) -> None:
    """Directly or over others, in circles too; whatever is not beside it is no code of the run."""
    write(tasks / "shared.py", "")
    write(tasks / "package" / "__init__.py", "")
    write(tasks / "package" / "part.py", "from . import sibling\nimport shared\n")
    write(tasks / "round.py", "import trip")
    write(tasks / "trip.py", "import round")
    write(tasks / "one.py", source)
    assert CodeReader(tasks.parent).reach("tasks/one.py") == IMPORTS[source]
