"""What a pipeline says: its tasks in order, with every default applied, or the list of all its faults.

Pure: the document is parsed elsewhere (`strict_json`), files are the catalogue's business. A fault reads
`/tasks/1/config: …`, a JSON pointer into pipeline.json and what is allowed there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from pop_actors.core.chat import ReasoningEffort
from pop_actors.core.ids import is_task_name
from pop_actors.errors import PipelineInvalid

Kind = Literal["staged", "python", "subprocess", "agent"]
Exhausted = Literal["fail", "reject"]
Text = Annotated[str, Field(min_length=1)]
Fallback = Annotated[str, Field(pattern=r"^[^:\s]+(:\S.*)?$")]
ONE_YEAR = 31_536_000.0
SHOWN_CHARACTERS = 60
Seconds = Annotated[float, Field(gt=0, le=ONE_YEAR, allow_inf_nan=False)]


class _Strict(BaseModel):
    """Camel case on disk, no key it does not know, no value it would have to bend."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )


class Gate(_Strict):
    """Wait for approval after the task; `message` and `artifacts` are what the person is shown."""

    message: str = ""
    artifacts: list[str] = Field(default_factory=list)


class Precheck(_Strict):
    """What must be healthy before the task starts: a URL that answers, or a command that exits 0."""

    http: Text | None = None
    command: Annotated[list[Text], Field(min_length=1)] | None = None
    timeout: Seconds | None = None


class ModelChoice(_Strict):
    """Provider and model, where the pipeline has a wish; `fallback` says who is asked next where they give no reply."""

    provider: Text | None = None
    model: Text | None = None
    fallback: list[Fallback] | None = None


class ModelDefaults(ModelChoice):
    """What a chat uses where neither the call nor the task's config says otherwise."""

    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10**9)] | None = None
    reasoning_effort: ReasoningEffort | None = None


class TaskEntry(_Strict):
    """A task of a pipeline with every default applied. `timeout` None: the task as a whole has no limit. Seconds."""

    name: str
    task: str
    kind: Kind
    config: dict[str, Any]
    depends_on: tuple[str, ...]
    stage_timeout: float
    max_attempts: int
    max_refinements: int
    on_refinement_exhausted: Exhausted
    timeout: float | None = None
    optional: bool = False
    isolation: Literal["job", "task"] = "job"
    agent: str | None = None
    gate: Gate | None = None
    precheck: Precheck | None = None


class Pipeline(_Strict):
    """A pipeline without a fault. `tasks` stand in the order of the file; `depends_on` says what waits for what."""

    name: str
    version: str
    description: str
    tasks: tuple[TaskEntry, ...]
    llm: ModelDefaults = ModelDefaults()
    llm_override: ModelChoice | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(entry.name for entry in self.tasks)

    def document(self) -> dict[str, Any]:
        """Plain camelCase JSON; `pipeline_from` reads it back, in another process too."""
        return self.model_dump(mode="json", by_alias=True)


def pipeline_from(document: Any) -> Pipeline:
    """The pipeline `Pipeline.document` stands for."""
    return Pipeline.model_validate(document, strict=False)


@dataclass(frozen=True, slots=True)
class TaskDefaults:
    """What a task entry that says nothing gets; seconds."""

    max_attempts: int = 3
    max_refinements: int = 2
    stage_timeout: float = 300.0


class _Entry(_Strict):
    """A task entry as written, before defaults."""

    id: str | None = None
    name: str | None = None
    task: Text | None = None
    kind: Kind = "staged"
    config: dict[str, Any] = Field(default_factory=dict)
    depends_on: list[str] | None = None
    agent: Text | None = None
    timeout: Seconds | None = None
    stage_timeout: Seconds | None = None
    max_attempts: Annotated[int, Field(ge=1, le=10**6)] | None = None
    max_refinements: Annotated[int, Field(ge=0, le=10**6)] | None = None
    on_refinement_exhausted: Exhausted | None = None
    optional: bool = False
    isolation: Literal["job", "task"] = "job"
    gate: bool | Gate = False
    precheck: Precheck | None = None


class _Head(BaseModel):
    """The keys of a pipeline beside its tasks; others are allowed and left alone."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", alias_generator=to_camel)

    name: Text | None = None
    version: str | int | float = ""
    description: str = ""
    task_config: dict[str, dict[str, Any]] = Field(default_factory=dict)
    llm: ModelDefaults = ModelDefaults()
    llm_override: ModelChoice | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    on_refinement_exhausted: Exhausted = "fail"


_ENTRY_KEYS = tuple(to_camel(field) for field in _Entry.model_fields)
_ALLOWED = {
    "id": "a text",
    "name": "a text",
    "version": "a text or a number",
    "description": "a text",
    "task": "a text that is not empty: a key of the task registry",
    "kind": "staged, python, subprocess or agent",
    "config": "an object",
    "dependsOn": "a list of task names",
    "agent": "a text that is not empty",
    "timeout": "a number of seconds above 0, at most a year",
    "stageTimeout": "a number of seconds above 0, at most a year",
    "maxAttempts": "a whole number from 1 to 1000000",
    "maxRefinements": "a whole number from 0 to 1000000",
    "onRefinementExhausted": "fail or reject",
    "optional": "true or false",
    "isolation": "job or task",
    "gate": "true, false or {message, artifacts}",
    "precheck": "{http: URL, timeout} or {command: […], timeout}",
    "taskConfig": "an object with an object for each task",
    "llm": "{provider, model, temperature, maxTokens, reasoningEffort, fallback: [provider:model, …]}",
    "llmOverride": "{provider, model, fallback: [provider:model, …]}",
    "metadata": "an object",
}


def parse_pipeline(
    document: Any,
    registry_keys: Collection[str] | None,
    defaults: TaskDefaults = TaskDefaults(),
    default_name: str = "",
) -> Pipeline:
    """The pipeline a parsed pipeline.json is. PipelineInvalid lists every fault of it.

    `registry_keys` are the names of the task registry; None where it cannot be read, so that nothing is held against
    it. Where an entry has both `name` and `id`, `name` counts.
    """
    if not isinstance(document, dict):
        raise PipelineInvalid([f"/: must be an object, not {_kind(document)}"])
    head, faults = _head(document)
    written = document.get("tasks")
    if not isinstance(written, list) or not written:
        raise PipelineInvalid([*faults, "/tasks: must be a list with at least one task"])
    names = [name_of(entry) for entry in written]
    entries: dict[int, _Entry] = {}
    for index, entry in enumerate(written):
        parsed, found = _entry(f"/tasks/{index}", entry)
        faults += found
        if parsed is not None:
            entries[index] = parsed
    faults += _name_faults(names)
    if registry_keys is not None:
        faults += _registry_faults(entries, names, registry_keys)
    faults += _dependency_faults(entries, names)
    faults += unsupported(entries)
    if faults or head is None:
        raise PipelineInvalid(faults)
    tasks = tuple(_resolved(entry, names, index, head, defaults) for index, entry in entries.items())
    return Pipeline(
        name=head.name or default_name,
        version=str(head.version),
        description=head.description,
        tasks=tasks,
        llm=head.llm,
        llm_override=head.llm_override,
        metadata=head.metadata,
    )


def unsupported(entries: Mapping[int, _Entry]) -> list[str]:
    """Faults for what the contract knows and this version does not do yet; who adds a feature deletes its line."""
    faults: list[str] = []
    for index, entry in entries.items():
        asked = {
            f"kind: {entry.kind}": entry.kind != "staged",
            "isolation: task": entry.isolation == "task",
            "precheck: a precheck": entry.precheck is not None,
            "agent: a role": entry.agent is not None,
        }
        faults += [f"/tasks/{index}/{what} is not supported by this version yet" for what, yes in asked.items() if yes]
    return faults


def _head(document: dict[str, Any]) -> tuple[_Head | None, list[str]]:
    try:
        return _Head.model_validate(document), []
    except ValidationError as error:
        return None, _explain("", error)


def _entry(place: str, written: Any) -> tuple[_Entry | None, list[str]]:
    if isinstance(written, str):
        return _Entry(name=written), []
    if not isinstance(written, dict):
        return None, [f"{place}: must be a task's name or an object, not {_kind(written)}"]
    faults = [_unknown_key(place, key) for key in written if key not in _ENTRY_KEYS]
    faults += [
        f"{place}/{key}: must be {_ALLOWED[key]}, not null" for key in _ENTRY_KEYS if written.get(key, 0) is None
    ]
    known = {key: value for key, value in written.items() if key in _ENTRY_KEYS and value is not None}
    try:
        entry = _Entry.model_validate(known, by_alias=True, by_name=False)
    except ValidationError as error:
        return None, faults + _explain(place, error)
    if entry.precheck is not None and (entry.precheck.http is None) == (entry.precheck.command is None):
        faults.append(f"{place}/precheck: must be {_ALLOWED['precheck']}, and exactly one of the two")
    return entry, faults


def _unknown_key(place: str, key: str) -> str:
    return f"{_join(place, key)}: no such key{_did_you_mean(key, _ENTRY_KEYS)}"


def _did_you_mean(name: str, known: Collection[str]) -> str:
    lowered = {other.lower().replace("_", ""): other for other in known}
    close = get_close_matches(name.lower().replace("_", ""), lowered, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {lowered[close[0]]}?"
    return f"; there are: {', '.join(sorted(known))}" if known else ""


def name_of(written: Any) -> str | None:
    """The name of an entry as written, where it has one that is a text; such a name may still be malformed."""
    if isinstance(written, dict):
        written = written.get("name", written.get("id"))
    return written if isinstance(written, str) else None


def _name_faults(names: Sequence[str | None]) -> list[str]:
    faults = []
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        place = f"/tasks/{index}/name"
        if name is None:
            faults.append(f"{place}: is missing; every task has a name (or id)")
        elif not is_task_name(name):
            faults.append(
                f"{place}: {name!r} is no task name; a letter or digit, then letters, digits, _ and -, 64 in all"
            )
        elif name in first:
            faults.append(f"{place}: {name!r} is taken by /tasks/{first[name]}; names are unique in a pipeline")
        else:
            first[name] = index
    return faults


def _registry_faults(
    entries: Mapping[int, _Entry], names: Sequence[str | None], registry_keys: Collection[str]
) -> list[str]:
    faults = []
    for index, entry in entries.items():
        key = entry.task or names[index]
        if entry.kind != "agent" and key and key not in registry_keys:
            place = f"/tasks/{index}/{'task' if entry.task else 'name'}"
            faults.append(f"{place}: {key!r} is not in the task registry{_did_you_mean(key, registry_keys)}")
    return faults


def _dependency_faults(entries: Mapping[int, _Entry], names: Sequence[str | None]) -> list[str]:
    known = {name for name in names if name}
    faults = []
    for index, entry in entries.items():
        for position, name in enumerate(entry.depends_on or ()):
            if name not in known:
                place = f"/tasks/{index}/dependsOn/{position}"
                faults.append(f"{place}: {name!r} is not a task of this pipeline{_did_you_mean(name, known)}")
    return faults if faults or len(known) < len(names) else _cycle_faults(entries, names)


def _cycle_faults(entries: Mapping[int, _Entry], names: Sequence[str | None]) -> list[str]:
    graph = {names[index]: _depends_on(entry, names, index) for index, entry in entries.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = [str(name) for name in reversed(error.args[1])]
        where = names.index(circle[0])
        return [f"/tasks/{where}/dependsOn: a circle of tasks that wait for each other: {' → '.join(circle)}"]
    return []


def _depends_on(entry: _Entry, names: Sequence[str | None], index: int) -> tuple[str, ...]:
    if entry.depends_on is not None:
        return tuple(dict.fromkeys(entry.depends_on))
    before = names[index - 1] if index else None
    return (before,) if before else ()


def _resolved(entry: _Entry, names: Sequence[str | None], index: int, head: _Head, defaults: TaskDefaults) -> TaskEntry:
    name = str(names[index])
    refinements = entry.max_refinements
    return TaskEntry(
        name=name,
        task=entry.task or name,
        kind=entry.kind,
        config={**head.task_config.get(name, {}), **entry.config},
        depends_on=_depends_on(entry, names, index),
        stage_timeout=entry.stage_timeout or defaults.stage_timeout,
        max_attempts=entry.max_attempts or defaults.max_attempts,
        max_refinements=defaults.max_refinements if refinements is None else refinements,
        on_refinement_exhausted=entry.on_refinement_exhausted or head.on_refinement_exhausted,
        timeout=entry.timeout,
        optional=entry.optional,
        isolation=entry.isolation,
        agent=entry.agent,
        gate=entry.gate if isinstance(entry.gate, Gate) else (Gate() if entry.gate else None),
        precheck=entry.precheck,
    )


def _explain(place: str, error: ValidationError) -> list[str]:
    """One fault for each place pydantic blames, in the contract's words."""
    faults: dict[str, None] = {}
    for fault in error.errors(include_url=False):
        if fault["type"] == "bool_type" and isinstance(fault["input"], dict):
            continue  # a gate given as an object: what the object has wrong is told on its own
        parts = [part for part in fault["loc"] if part not in {"Gate", "bool", "str", "int", "float"}]
        key = str(parts[0])
        path = place
        for part in parts:
            path = _join(path, part)
        if fault["type"] == "extra_forbidden":
            faults[f"{path}: no such key; {key} must be {_ALLOWED[key]}"] = None
        elif len(parts) > 1:
            faults[f"{path}: {fault['msg']}; {key} must be {_ALLOWED[key]}"] = None
        else:
            faults[f"{path}: must be {_ALLOWED[key]}, not {_shown(fault['input'])}"] = None
    return list(faults)


def _join(place: str, part: str | int) -> str:
    return f"{place}/{str(part).replace('~', '~0').replace('/', '~1')}"


def _shown(value: Any) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return _cut(repr(value))
    return _kind(value)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    names = {dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}
    return names.get(type(value), "null")
