"""Loads a task's code from its file, as it is on disk now, and finds its stages.

A module's folder is put on the import path behind the standard library, so that siblings can be imported and none of
them can take a standard module's place. No byte code is read or written: an edit within the same second counts.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from pop_actors.core.stages import PYTHON_NAMES
from pop_actors.runner.clockwork import StageTimeout

Handler = Callable[[Any], Any]
LOAD = "load"
FUNCTION_STAGE = "ingestion"
_THIRD_PARTY = ("site-packages", "dist-packages")


class LoadFailed(Exception):
    """A task's module could not be loaded; the message names the file and the fault, the cause is chained."""


class _FreshSource(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002  (the loader's protocol)
        return self.source_to_code(self.get_data(self.path), self.path)


def load_stages(target: str, task: str) -> dict[str, Handler]:
    """The stages a task defines, by disk name.

    `target` is `/abs/file.py`, whose functions named as stages are the stages; or `/abs/file.py:function`, where that
    function is the whole task: it is called once, as the stage `ingestion`. LoadFailed where it cannot be.
    """
    path, function = split_target(target)
    module = _load(path, task)
    if function is None:
        found = {stage: getattr(module, name, None) for stage, name in PYTHON_NAMES.items()}
        return {stage: handler for stage, handler in found.items() if callable(handler)}
    handler = getattr(module, function, None)
    if not callable(handler):
        raise LoadFailed(f"{path} defines no function {function!r}")
    return {FUNCTION_STAGE: handler}


def target_of(modules: Mapping[str, str], task: str) -> str:
    """The file of a registry key. LoadFailed where there is none."""
    try:
        return modules[task]
    except KeyError:
        raise LoadFailed(f"the task registry has no {task!r}; it has: {', '.join(sorted(modules))}") from None


def split_target(target: str) -> tuple[Path, str | None]:
    """The file of a target, and the function where it names one."""
    path, mark, function = target.rpartition(":")
    if mark and function.isidentifier():
        return Path(path), function
    return Path(target), None


def _load(path: Path, task: str) -> ModuleType:
    name = f"pop_task_{task}"
    _allow_siblings(str(path.parent))
    is_package = path.name == "__init__.py"
    spec = importlib.util.spec_from_file_location(
        name,
        path,
        loader=_FreshSource(name, str(path)),
        submodule_search_locations=[str(path.parent)] if is_package else None,
    )
    if spec is None or spec.loader is None:
        raise LoadFailed(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except StageTimeout:
        raise
    except BaseException as error:  # SystemExit too: a module must not end the run while it is loaded
        raise LoadFailed(f"{path} could not be loaded") from error
    return module


def _allow_siblings(folder: str) -> None:
    if folder in sys.path:
        return
    place = next((i for i, entry in enumerate(sys.path) if entry.endswith(_THIRD_PARTY)), len(sys.path))
    sys.path.insert(place, folder)
