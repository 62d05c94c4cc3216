"""Which pipelines there are, each resolved from the operator's files and kept while those files stay the same.

Asked by the scheduler for every seed and by the API. Reads pipeline-config/; never executes what it reads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pop_actors.core.events import Patch
from pop_actors.core.patch import patched
from pop_actors.core.pipeline import Pipeline, TaskDefaults, parse_pipeline
from pop_actors.core.strict_json import parse
from pop_actors.core.task_index import TaskTarget, parse_task_index
from pop_actors.errors import InvalidJson, PipelineInvalid, SeedRejected
from pop_actors.storage.layout import Workspace

REGISTRY_KEYS = ("name", "description", "pipelinePath", "taskRegistryPath")
# A file changed twice within one tick of the kernel's clock may look unchanged: what is this fresh is not kept.
FRESH_NS = 50_000_000

Signature = tuple[int, int, int] | None
Signatures = dict[str, Signature]


@dataclass(frozen=True, slots=True)
class ResolvedPipeline:
    """A pipeline ready to run. `content` are the bytes of its pipeline.json; `task_modules` says for each key of the
    task registry where its code is: `/abs/file.py`, or `/abs/file.py:function`."""

    slug: str
    pipeline: Pipeline
    content: bytes
    task_modules: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Places:
    """Where a pipeline's own files may be: pipeline.json, and the candidates for its task registry."""

    pipeline: Path
    indexes: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer, what the files behind it looked like just before they were read, and files that must be there."""

    signatures: Signatures
    answer: Any
    files: tuple[str, ...] = ()

    def still_holds(self) -> bool:
        return all(_signature(path) == known for path, known in self.signatures.items()) and all(
            os.path.isfile(file) for file in self.files
        )


class Catalogue:
    """The registry of one workspace. An answer that is kept costs a stat of each file it stands on."""

    def __init__(self, workspace: Workspace, defaults: TaskDefaults | None = None) -> None:
        self._workspace = workspace
        self.defaults = defaults or TaskDefaults()
        self._registry: _Kept | None = None
        self._pipelines: dict[str, _Kept] = {}
        self._building = threading.Lock()  # CPython 3.11's ast.parse fails when two threads are in it (gh-106905)

    def pipeline_for(self, slug: str | None) -> ResolvedPipeline:
        """The pipeline of that name, or the registry's default. SeedRejected: unknown_pipeline; invalid_pipeline with
        every fault of the registry, the pipeline and the task registry."""
        registry = self._read_registry()
        wanted = slug if slug is not None else registry.get("default")
        if wanted is None:
            raise SeedRejected("unknown_pipeline", f"the seed names no pipeline and {self._path()} has no default")
        if not isinstance(wanted, str) or wanted not in registry["pipelines"]:
            known = ", ".join(sorted(registry["pipelines"])) or "none"
            raise SeedRejected("unknown_pipeline", f"no pipeline {wanted!r} in {self._path()}; there are: {known}")
        try:
            return self._resolve(wanted, registry["pipelines"][wanted])
        except PipelineInvalid as error:
            raise SeedRejected("invalid_pipeline", f"pipeline {wanted!r}: {error}") from None

    def for_run(self, slug: str, content: bytes, path: Path, patches: Sequence[Patch] = ()) -> ResolvedPipeline:
        """A run's own copy of pipeline.json, which lies at `path`, with what was added to the run, against the task
        registry as it is now. SeedRejected as `pipeline_for`."""
        registry = self._read_registry()
        if slug not in registry["pipelines"]:
            raise SeedRejected("unknown_pipeline", f"no pipeline {slug!r} in {self._path()} any more")
        try:
            places = replace(self._places(slug, registry["pipelines"][slug]), pipeline=path)
            return self._build(slug, content, places, patches)[0]
        except PipelineInvalid as error:
            raise SeedRejected("invalid_pipeline", f"pipeline {slug!r}: {error}") from None

    def slugs(self) -> list[str]:
        """The names of the registry, sorted. SeedRejected where the registry itself cannot be read."""
        return sorted(self._read_registry()["pipelines"])

    def describe(self, slug: str) -> dict[str, Any]:
        """What the API tells of a pipeline: its tasks, or its faults. SeedRejected: unknown_pipeline."""
        registry = self._read_registry()
        entry = registry["pipelines"].get(slug)
        if entry is None:
            raise SeedRejected("unknown_pipeline", f"no pipeline {slug!r} in {self._path()}")
        described: dict[str, Any] = {
            "slug": slug,
            "name": _text(entry, "name") or slug,
            "description": _text(entry, "description"),
            "default": registry.get("default") == slug,
            "version": None,
            "tasks": [],
            "faults": [],
        }
        try:
            pipeline = self._resolve(slug, entry).pipeline
        except PipelineInvalid as error:
            return {**described, "faults": list(error.faults)}
        document = pipeline.document()
        return {
            **described,
            "name": _text(entry, "name") or pipeline.name,
            "description": _text(entry, "description") or pipeline.description,
            "version": pipeline.version,
            "tasks": document["tasks"],
        }

    def _read_registry(self) -> dict[str, Any]:
        kept = self._registry
        if kept is not None and kept.still_holds():
            return dict(kept.answer)
        signatures = _signatures([self._workspace.registry])
        registry = _registry_of(self._workspace.registry)
        self._registry = _Kept(signatures, registry) if _is_settled(signatures) else None
        return registry

    def _resolve(self, slug: str, entry: Any) -> ResolvedPipeline:
        kept = self._pipelines.get(slug)
        if kept is not None and kept.still_holds():
            answer: ResolvedPipeline = kept.answer
            return answer
        self._pipelines.pop(slug, None)
        places = self._places(slug, entry)
        signatures = _signatures([self._workspace.registry, places.pipeline, *places.indexes])
        answer, files = self._build(slug, _read(places.pipeline), places)
        if _is_settled(signatures):
            self._pipelines[slug] = _Kept(signatures, answer, files)
        return answer

    def _places(self, slug: str, entry: Any) -> _Places:
        if not isinstance(entry, dict):
            raise PipelineInvalid(
                [f"{self._path()}: /pipelines/{slug}: must be an object with any of {', '.join(REGISTRY_KEYS)}"]
            )
        faults = [
            f"{self._path()}: /pipelines/{slug}/{key}: must be a text{' that is not empty' * key.endswith('Path')}"
            for key in REGISTRY_KEYS
            if key in entry and not (isinstance(entry[key], str) and (entry[key] or not key.endswith("Path")))
        ]
        if faults:
            raise PipelineInvalid(faults)
        root, own = self._workspace.root, self._workspace.config / slug
        index = entry.get("taskRegistryPath")
        return _Places(
            pipeline=root / entry["pipelinePath"] if "pipelinePath" in entry else own / "pipeline.json",
            indexes=(root / index,) if index else (own / "tasks" / "index.py", own / "tasks" / "index.json"),
        )

    def _build(
        self, slug: str, content: bytes, places: _Places, patches: Sequence[Patch] = ()
    ) -> tuple[ResolvedPipeline, tuple[str, ...]]:
        """The pipeline and the files its tasks are in. PipelineInvalid with the faults of both."""
        faults: list[str] = []
        modules: dict[str, str] | None = None
        try:
            with self._building:
                modules = _task_modules(places.indexes)
        except PipelineInvalid as error:
            faults += error.faults
        try:
            pipeline = _pipeline_of(content, places.pipeline, modules, self.defaults, slug, patches)
        except PipelineInvalid as error:
            raise PipelineInvalid([*error.faults, *faults]) from None
        if modules is None:
            raise PipelineInvalid(faults)
        files = tuple(file_and_function(module)[0] for module in modules.values())
        return ResolvedPipeline(slug, pipeline, content, modules), files

    def _path(self) -> Path:
        return self._workspace.registry


def _registry_of(path: Path) -> dict[str, Any]:
    """The registry as parsed: `pipelines` an object. SeedRejected where it is missing or has faults of its own."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SeedRejected("unknown_pipeline", f"{path}: no such file; it names the pipelines there are") from None
    except OSError as error:
        raise SeedRejected("invalid_pipeline", f"{path}: {error.strerror}") from None
    try:
        registry = parse(content)
    except InvalidJson as error:
        raise SeedRejected("invalid_pipeline", f"{path}: {error}") from None
    if not isinstance(registry, dict) or not isinstance(registry.get("pipelines"), dict):
        raise SeedRejected("invalid_pipeline", f'{path}: must be {{"default": "slug", "pipelines": {{"slug": {{…}}}}}}')
    if not isinstance(registry.get("default", ""), str):
        raise SeedRejected("invalid_pipeline", f"{path}: /default: must be a slug of /pipelines")
    return registry


def _pipeline_of(
    content: bytes,
    path: Path,
    modules: dict[str, str] | None,
    defaults: TaskDefaults,
    slug: str,
    patches: Sequence[Patch],
) -> Pipeline:
    try:
        document = parse(content)
    except InvalidJson as error:
        raise PipelineInvalid([f"{path}: {error}"]) from None
    return parse_pipeline(patched(document, patches), modules, defaults, slug)


def _task_modules(indexes: tuple[Path, ...]) -> dict[str, str]:
    """The task registry with every target found. The first of `indexes` that is there counts."""
    path = next((index for index in indexes if index.exists()), None)
    if path is None:
        raise PipelineInvalid([f"{' or '.join(map(str, indexes))}: no such file; it says where the tasks are"])
    try:
        targets = parse_task_index(_read(path), is_json=path.suffix == ".json")
    except PipelineInvalid as error:
        raise PipelineInvalid([f"{path}: {fault}" for fault in error.faults]) from None
    modules, faults = {}, []
    for name, target in targets.items():
        file = _first_file(path.parent, target)
        if file is None:
            faults.append(f"{path}: {name}: no such file: {path.parent / target.files[0]}")
        else:
            modules[name] = f"{file}:{target.function}" if target.function else str(file)
    if faults:
        raise PipelineInvalid(faults)
    return modules


def _first_file(folder: Path, target: TaskTarget) -> Path | None:
    places = (Path(os.path.abspath(folder / file)) for file in target.files)
    return next((place for place in places if place.is_file()), None)


def file_and_function(module: str) -> tuple[str, str | None]:
    """The two halves of a task module: `/abs/file.py:function`, or `/abs/file.py` and None."""
    file, colon, function = module.rpartition(":")
    return (file, function) if colon and function.isidentifier() else (module, None)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PipelineInvalid([f"{path}: no such file"]) from None
    except (OSError, ValueError) as error:
        raise PipelineInvalid([f"{path}: cannot be read: {error}"]) from None


def _signatures(paths: list[Path]) -> Signatures:
    return {str(path): _signature(path) for path in paths}


def _signature(path: Path | str) -> Signature:
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def _is_settled(signatures: Signatures) -> bool:
    newest = max((signature[0] for signature in signatures.values() if signature), default=0)
    return time.time_ns() - newest > FRESH_NS


def _text(entry: Any, key: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""
