"""What a stage is handed and what it gives back: `StageContext` and `StageResult`, the contract with task authors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pop_actors.runner.json_values import copied

if TYPE_CHECKING:
    from pop_actors.runner.llm import Llm
    from pop_actors.runner.task_io import TaskIO


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage returns. Both must be JSON; `flags` are merged over the task's."""

    output: Any
    flags: Mapping[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Meta:
    """Who is running. `attempt` counts from 1, `round` (of refinement) from 0."""

    task_name: str
    job_id: str
    run_id: str
    attempt: int
    round: int
    mode: str


class Fields(dict[str, Any]):
    """JSON that can be read by attribute, too: `usage.input_tokens` is `usage["input_tokens"]`."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no {name!r} here; there are: {', '.join(self)}") from None


class Validators:
    """Checks a stage may use."""

    def validate_with_schema(self, schema: Mapping[str, Any] | bool, data: Any) -> Fields:
        """`{valid, errors}`; errors are texts such as `/items/0: 3 is not of type 'string'`. ValueError for a wrong
        schema."""
        from pop_actors.runner.json_schema import faults  # jsonschema takes 40 ms to import; most stages need none

        errors = faults(schema, data)
        return Fields(valid=not errors, errors=errors)


@dataclass(frozen=True, slots=True)
class Material:
    """The runner's own values behind a context. Never handed out, only copies of them."""

    outputs: Mapping[str, Any]
    upstream: Mapping[str, Any]
    output: Any
    previous_stage: str
    flags: Mapping[str, Any]
    config: Mapping[str, Any]


class StageContext:
    """What a stage may see and use. Data are deep copies, made when first looked at."""

    def __init__(self, material: Material, meta: Meta, io: TaskIO, llm: Llm, log: logging.Logger) -> None:
        self._material = material
        self.meta = meta
        self.io = io
        self.llm = llm
        self.log = log
        self.validators = Validators()
        self.previous_stage = material.previous_stage

    @cached_property
    def data(self) -> dict[str, Any]:
        """`seed`, every earlier stage's output by disk name, and `tasks`: the final outputs of upstream tasks."""
        outputs = {stage: copied(output) for stage, output in self._material.outputs.items()}
        return {**outputs, "tasks": {task: copied(output) for task, output in self._material.upstream.items()}}

    @cached_property
    def output(self) -> Any:
        """The last output that is not from a validation stage; at first the whole seed."""
        return copied(self._material.output)

    @cached_property
    def flags(self) -> dict[str, Any]:
        """The merged flags of the stages before."""
        return {name: copied(value) for name, value in self._material.flags.items()}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The task's config."""
        return {key: copied(value) for key, value in self._material.config.items()}

    def __repr__(self) -> str:
        meta = self.meta
        return f"StageContext({meta.job_id}/{meta.task_name}, attempt {meta.attempt}, round {meta.round})"
