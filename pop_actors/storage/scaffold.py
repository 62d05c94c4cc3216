"""First files for a workspace, a pipeline, a task. Used by popctl; needs no daemon.

No file is overwritten: what is there stays. A new pipeline is entered in registry.json, a new task in its pipeline's
tasks/index.py and pipeline.json, each replaced by itself plus the entry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from pop_actors.core.ids import is_task_name
from pop_actors.core.strict_json import parse
from pop_actors.core.task_index import with_task
from pop_actors.errors import InvalidJson, PipelineInvalid, Refused
from pop_actors.storage.files import readable_json, replace, write_new
from pop_actors.storage.layout import Workspace

EXAMPLE_PIPELINE = "example"
FIRST_TASK = "draft"
_EXAMPLE_SEED = {"name": "hello", "data": {"topic": "What a pipeline of prompts is good for"}}


def init_workspace(root: Path) -> list[Path]:
    """A workspace with an example pipeline and a seed for it; the files made. What is there already stays."""
    workspace = Workspace(root, root / "pipeline-data")
    for folder in workspace.folders:
        folder.mkdir(parents=True, exist_ok=True)
    made = _write_missing(
        {
            root / "pop.toml": _filled("pop.toml"),
            root / ".gitignore": b"pipeline-data/\n",
            root / "seeds" / "hello.json": readable_json(_EXAMPLE_SEED),
        }
    )
    if not workspace.registry.exists():
        made += new_pipeline(root, EXAMPLE_PIPELINE)
    return made


def new_pipeline(root: Path, slug: str) -> list[Path]:
    """A pipeline of one task that runs as it is; the files made. The registry's first pipeline is its default.

    Refused: bad_name, exists, or damaged where the registry cannot be read.
    """
    _check_name(slug, "pipeline")
    workspace = Workspace(root, root / "pipeline-data")
    registry: dict[str, Any] = {"default": slug, "pipelines": {}}
    if workspace.registry.exists():
        registry = _read_object(workspace.registry)
    pipelines = registry.setdefault("pipelines", {})
    folder = workspace.config / slug
    if slug in pipelines or os.path.lexists(folder):
        raise Refused("exists", f"there is a pipeline {slug!r} already: {folder}")
    pipeline = {
        "name": slug,
        "version": "1.0.0",
        "description": "",
        "tasks": [FIRST_TASK],
        "taskConfig": {FIRST_TASK: {}},
    }
    made = _write_missing(
        {
            folder / "pipeline.json": readable_json(pipeline),
            folder / "tasks" / "index.py": _filled("index.py", name=FIRST_TASK),
            folder / "tasks" / f"{FIRST_TASK}.py": _filled("task.py", name=FIRST_TASK),
        }
    )
    pipelines[slug] = {"name": slug, "description": ""}
    if not workspace.registry.exists():
        made.append(workspace.registry)
    replace(workspace.registry, readable_json(registry))
    return made


def new_task(root: Path, slug: str, name: str) -> list[Path]:
    """A task at the end of a pipeline, runnable as it is; the file made.

    Refused: bad_name, not_found, exists, or damaged where the pipeline's files cannot be read.
    """
    _check_name(name, "task")
    folder, index = _places(Workspace(root, root / "pipeline-data"), slug)
    pipeline = _read_object(folder / "pipeline.json")
    tasks = pipeline.get("tasks")
    if not isinstance(tasks, list):
        raise Refused("damaged", f"{folder / 'pipeline.json'}: /tasks: must be a list")
    module = index.parent / f"{name}.py"
    if os.path.lexists(module) or any(name in _names(entry) for entry in tasks):
        raise Refused("exists", f"there is a task {name!r} already: {module}")
    entered = _with_entry(index, name)
    write_new(module, _filled("task.py", name=name))
    replace(index, entered)
    replace(folder / "pipeline.json", readable_json({**pipeline, "tasks": [*tasks, name]}))
    return [module]


def _places(workspace: Workspace, slug: str) -> tuple[Path, Path]:
    """The folder with the pipeline's pipeline.json, and its task registry."""
    known = _read_object(workspace.registry).get("pipelines", {}) if workspace.registry.exists() else {}
    if slug not in known:
        raise Refused(
            "not_found", f"no pipeline {slug!r} in {workspace.registry}; make it with: popctl new-pipeline {slug}"
        )
    folder = workspace.config / slug
    if "pipelinePath" in known[slug]:
        folder = (workspace.root / known[slug]["pipelinePath"]).parent
    index = workspace.config / slug / "tasks" / "index.py"
    if "taskRegistryPath" in known[slug]:
        index = workspace.root / known[slug]["taskRegistryPath"]
    elif not index.exists():
        index = index.with_suffix(".json")
    return folder, index


def _with_entry(index: Path, name: str) -> bytes:
    """The task registry with one more entry, everything else as it was."""
    try:
        return with_task(index.read_bytes(), name, f"{name}.py", is_json=index.suffix == ".json")
    except FileNotFoundError:
        raise Refused("not_found", f"{index}: no such file") from None
    except PipelineInvalid as error:
        raise Refused("damaged", f"{index}: {error}") from None


def _names(entry: Any) -> tuple[Any, ...]:
    return (entry.get("name"), entry.get("id")) if isinstance(entry, dict) else (entry,)


def _check_name(name: str, what: str) -> None:
    if not is_task_name(name):
        raise Refused(
            "bad_name", f"{name!r} cannot name a {what}: a letter or digit, then letters, digits, _ and -, 64 in all"
        )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        document = parse(path.read_bytes())
    except FileNotFoundError:
        raise Refused("not_found", f"{path}: no such file") from None
    except InvalidJson as error:
        raise Refused("damaged", f"{path}: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("pipelines", {}), dict):
        raise Refused("damaged", f"{path}: must be an object")
    return document


def _write_missing(files: dict[Path, bytes]) -> list[Path]:
    return list(_written(files.items()))


def _written(files: Iterable[tuple[Path, bytes]]) -> Iterable[Path]:
    for path, content in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(path):
            write_new(path, content)
            yield path


def _filled(template: str, **values: str) -> bytes:
    text = resources.files("pop_actors.storage").joinpath("templates", f"{template}.tmpl").read_text(encoding="utf-8")
    return Template(text).safe_substitute(values).encode()
