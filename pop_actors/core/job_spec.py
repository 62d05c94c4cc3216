"""What a job's process is told to do: built by the daemon, plain JSON on the wire, read by the runner."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from pop_actors.core.events import Code, OnCodeChange
from pop_actors.core.pipeline import TaskDefaults


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class LlmDefaults(_Part):
    """The pipeline's `llm` table. Fields that are None are left to the gateway."""

    provider: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    reasoning_effort: str | None = None
    fallback: tuple[str, ...] | None = None


class LlmOverride(_Part):
    """The pipeline's or a task's `llmOverride`: beats whatever a task asks for. It takes no other level's fallback."""

    provider: str | None = None
    model: str | None = None
    fallback: tuple[str, ...] | None = None


class Gate(_Part):
    """What a person is shown who is to approve a task's result."""

    message: str = ""
    artifacts: tuple[str, ...] = ()


class TaskEntry(_Part):
    """One task of the run, every default settled. `config` is merged; `timeout` and `stage_timeout` are seconds."""

    name: str
    task: str
    config: dict[str, Any] = Field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    timeout: Annotated[float, Field(gt=0)] | None = None
    stage_timeout: Annotated[float, Field(gt=0)] = 300.0
    max_attempts: Annotated[int, Field(ge=1)] = 3
    max_refinements: Annotated[int, Field(ge=0)] = 2
    on_refinement_exhausted: Literal["fail", "reject"] = "fail"
    optional: bool = False
    kind: Literal["staged", "python", "subprocess", "agent"] = "staged"
    gate: Gate | None = None


class JobSpec(_Part):
    """A run of a job, as its process gets it. `entries` are those of its pipeline.json; `defaults` are for the tasks
    that are added to them.

    `directory` is the absolute path of the job's directory. `task_modules` gives for each registry key
    `/abs/file.py` or `/abs/file.py:function`. `resumed` is False only where nothing is to be read back: the log holds
    no run of a task. `code` is what the daemon found for a first start; None: the process is to look for itself. Times
    are seconds. `fault_point` is for tests (`storage/fault_points.py`).
    """

    job_id: str
    run_id: str
    directory: str
    root: str
    pipeline: str
    task_modules: dict[str, str]
    entries: tuple[TaskEntry, ...]
    defaults: TaskDefaults = Field(default_factory=TaskDefaults)
    llm: LlmDefaults = LlmDefaults()
    llm_override: LlmOverride = LlmOverride()
    mode: str = "production"
    skip: tuple[str, ...] = ()
    resumed: bool = False
    code: Code | None = None
    on_code_change: OnCodeChange = "continue"
    retry_backoff_seconds: Annotated[float, Field(ge=0)] = 2.0
    request_timeout: Annotated[float, Field(gt=0)] = 600.0
    priority: int = 0
    budget_usd: float | None = None
    fault_point: str | None = None
