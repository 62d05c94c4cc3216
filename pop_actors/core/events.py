"""What can happen to a job: the closed set of events a job's log is made of.

A job's truth is the list of these, in order; its status is their fold (`core/status.py`). An event is frozen, is
camelCase on disk and wire, and is numbered by whoever reports it: `epoch` is the incarnation of the job's process
(0: the daemon itself) and `seq` counts within the epoch, so that a report sent twice is kept once.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from pop_actors.errors import Damaged

Reason = Literal[
    "exception", "timeout", "invalid_result", "flags", "validation", "quality", "load", "provider", "budget",
    "crashed", "control", "stopped",
]  # fmt: skip
FileKind = Literal["artifacts", "logs", "tmp"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    at: str
    epoch: int = 0
    seq: int = 0


class ErrorInfo(BaseModel):
    """What went wrong, as a person wants to read it. `stack` may be empty."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    name: str
    message: str
    stack: str = ""


class JobCreated(_Event):
    """A seed was claimed; `tasks` are the pipeline's task names in order, `attached` the files that came with it."""

    type: Literal["JobCreated"] = "JobCreated"
    id: str
    run_id: str
    name: str
    pipeline: str
    mode: str
    tasks: tuple[str, ...]
    attached: tuple[str, ...] = ()


class JobRestarted(_Event):
    """An operator began a new run. `reset` are the tasks that will run again; the others keep what they have."""

    type: Literal["JobRestarted"] = "JobRestarted"
    run_id: str
    reset: tuple[str, ...]
    tasks: tuple[str, ...]


class JobStarted(_Event):
    """A process took the job up. `resumed` is False at a run's first start."""

    type: Literal["JobStarted"] = "JobStarted"
    pid: int
    resumed: bool = False


class ProcessDown(_Event):
    """The job's process ended without having finished or suspended. `cause`: exit, signal, timeout, hung, lost."""

    type: Literal["ProcessDown"] = "ProcessDown"
    cause: str
    detail: str = ""


class JobSuspended(_Event):
    """The job's process left at a stage boundary because the service stops; it goes on after the next start."""

    type: Literal["JobSuspended"] = "JobSuspended"


class TaskStarted(_Event):
    type: Literal["TaskStarted"] = "TaskStarted"
    task: str
    attempt: int


class StageStarted(_Event):
    """`timeout` (s) is the stage's; the daemon ends the process when the stage outlives it by the grace."""

    type: Literal["StageStarted"] = "StageStarted"
    task: str
    stage: str
    round: int = 0
    attempt: int = 1
    timeout: float = 0.0


class StageFinished(_Event):
    type: Literal["StageFinished"] = "StageFinished"
    task: str
    stage: str
    round: int = 0
    attempt: int = 1
    ok: bool = True
    ms: float = 0.0


class FileWritten(_Event):
    """A task wrote a file under `files/{kind}/`."""

    type: Literal["FileWritten"] = "FileWritten"
    task: str
    kind: FileKind
    name: str


class CallPaid(_Event):
    """A completion was bought. `key` is the journal's, so that it is booked once. `cost_usd` None: price unknown."""

    type: Literal["CallPaid"] = "CallPaid"
    key: str
    task: str
    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: float | None = None


class AttemptFailed(_Event):
    """An attempt of a task failed and another follows after `retry_in` seconds."""

    type: Literal["AttemptFailed"] = "AttemptFailed"
    task: str
    attempt: int
    stage: str
    reason: Reason
    error: ErrorInfo
    retry_in: float


class TaskDone(_Event):
    """`execution_time` in ms, over all attempts of this run."""

    type: Literal["TaskDone"] = "TaskDone"
    task: str
    attempt: int
    execution_time: float
    refinements: int = 0


class TaskFailed(_Event):
    """The task will not be tried again. `optional` tasks leave the job running."""

    type: Literal["TaskFailed"] = "TaskFailed"
    task: str
    attempt: int
    stage: str
    reason: Reason
    error: ErrorInfo
    execution_time: float = 0.0
    refinements: int = 0
    optional: bool = False


class TaskSkipped(_Event):
    type: Literal["TaskSkipped"] = "TaskSkipped"
    task: str
    reason: str


class JobDone(_Event):
    """Every task is done, skipped, or failed and optional. The log's last line of a run that ends well."""

    type: Literal["JobDone"] = "JobDone"


class JobFailed(_Event):
    """The run ended badly; `task` and `stage` are empty where none was at work."""

    type: Literal["JobFailed"] = "JobFailed"
    task: str = ""
    stage: str = ""
    reason: Reason
    error: ErrorInfo


class JobRejected(_Event):
    """The run's quality was not good enough and the pipeline says `reject`: the directory moves to rejected/."""

    type: Literal["JobRejected"] = "JobRejected"
    task: str
    stage: str
    message: str


class JobStopped(_Event):
    """An operator stopped the job."""

    type: Literal["JobStopped"] = "JobStopped"


Event = (
    JobCreated | JobRestarted | JobStarted | ProcessDown | JobSuspended | TaskStarted | StageStarted | StageFinished
    | FileWritten | CallPaid | AttemptFailed | TaskDone | TaskFailed | TaskSkipped | JobDone | JobFailed | JobRejected
    | JobStopped
)  # fmt: skip

_adapter: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="type")])


def event_from(document: Any) -> Event:
    """The event a JSON object stands for. Damaged where it is none."""
    try:
        return _adapter.validate_python(document)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise Damaged(f"not an event of a job's log: {where}: {fault['msg']}") from None


def event_document(event: Event) -> dict[str, Any]:
    """The JSON object that stands for the event, camelCase, `type` first."""
    document = event.model_dump(by_alias=True, mode="json")
    return {"type": document.pop("type"), **document}
