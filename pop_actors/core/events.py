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

FORMAT = 2
"""The format of a workspace's files. It grows when older code could misread what newer code writes."""

Reason = Literal[
    "exception", "timeout", "invalid_result", "flags", "validation", "quality", "load", "provider", "budget",
    "crashed", "control", "stopped",
]  # fmt: skip
FileKind = Literal["artifacts", "logs", "tmp"]
OnCodeChange = Literal["continue", "restart_task", "wait"]
GateReason = Literal["task", "code", "control"]
"""Why a job waits for a person: the gate of a task, code that changed under the run, a control.json with faults."""


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


class Code(BaseModel):
    """The code of a run at one moment. `files`: each Python file its tasks are in or can import from beside them, and
    the run's pipeline.json, with a digest of its bytes; `modules`: the file of each task."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    files: dict[str, str] = Field(default_factory=dict)
    modules: dict[str, str] = Field(default_factory=dict)


class Skip(BaseModel):
    """A task that is not to run, and why."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    task: str
    reason: str = ""


class Patch(BaseModel):
    """Entries that `task` added to the tasks of its run, behind that of `insert_after`: as they would stand in
    pipeline.json, each an object with its `name`."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    task: str
    insert_after: str
    add: tuple[dict[str, Any], ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(entry["name"] for entry in self.add)


class JobCreated(_Event):
    """A seed was claimed; `tasks` are the pipeline's task names in order, `attached` the files that came with it.

    `conflicts` are the seed's; None in logs of before they were noted here. `format` is the log's: 1 where it does not
    say.
    """

    type: Literal["JobCreated"] = "JobCreated"
    id: str
    run_id: str
    name: str
    pipeline: str
    mode: str
    tasks: tuple[str, ...]
    attached: tuple[str, ...] = ()
    conflicts: tuple[str, ...] | None = None
    format: int = 1


class JobRestarted(_Event):
    """An operator began a new run. `reset` are the tasks that will run again; the others keep what they have, also the
    tasks they have added. `tasks` is all of them, in order."""

    type: Literal["JobRestarted"] = "JobRestarted"
    run_id: str
    reset: tuple[str, ...]
    tasks: tuple[str, ...]


class JobStarted(_Event):
    """A process took the job up. `resumed` is False at a run's first start; `code` is what that start found."""

    type: Literal["JobStarted"] = "JobStarted"
    pid: int
    resumed: bool = False
    code: Code | None = None


class CodeChanged(_Event):
    """The run goes on with other code than it had before: these files differ, and these tasks, not ended yet, use them.

    `action` is what follows; `code` is what the next start is compared with.
    """

    type: Literal["CodeChanged"] = "CodeChanged"
    tasks: tuple[str, ...]
    files: tuple[str, ...]
    action: OnCodeChange
    code: Code


class ProcessDown(_Event):
    """The job's process ended without having finished or suspended. `cause`: exit, signal, timeout, hung, lost.

    `ended` is the epoch of that process; nothing of it, or of one before it, counts any more. 0: not known. `task` is
    whose stage outlived its timeout, where that is the cause.
    """

    type: Literal["ProcessDown"] = "ProcessDown"
    cause: str
    detail: str = ""
    ended: int = 0
    task: str = ""


class JobSuspended(_Event):
    """The job's process left at a stage boundary because the service stops; it goes on after the next start."""

    type: Literal["JobSuspended"] = "JobSuspended"


class JobWaiting(_Event):
    """The job's process left because nothing can go on until a person has decided; `task` is empty where the gate is
    no task's."""

    type: Literal["JobWaiting"] = "JobWaiting"
    task: str = ""
    reason: GateReason = "task"
    message: str = ""
    artifacts: tuple[str, ...] = ()


class GateApproved(_Event):
    """A person has approved what the job waits for; it goes on. (A rejection is a JobFailed for `control`.)"""

    type: Literal["GateApproved"] = "GateApproved"
    task: str = ""
    note: str = ""


class JobRepaired(_Event):
    """The log was damaged and put together again from what could be read; the job goes on unless it had ended.

    `kept` and `lost` count lines, `copies` name what was there before, `ended` is the highest epoch known of.
    """

    type: Literal["JobRepaired"] = "JobRepaired"
    kept: int
    lost: int
    copies: tuple[str, ...] = ()
    ended: int = 0


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


class TaskHeld(_Event):
    """A task waits for something that is no fault of its own, and its timeouts stand still. `reason`: disk, room on it;
    budget, the next day's."""

    type: Literal["TaskHeld"] = "TaskHeld"
    task: str
    reason: Literal["disk", "budget"] = "disk"


class TaskReleased(_Event):
    """The task goes on after it was held for so many seconds."""

    type: Literal["TaskReleased"] = "TaskReleased"
    task: str
    seconds: float


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


class ControlTaken(_Event):
    """A task that succeeded left a control.json: what it wants is taken over with the task's end, or, where it has
    `faults`, none of it. `pauses`: a person is asked, shown `message` and `artifacts`.

    `patch` are the tasks it adds; with them, `code` is the run's code from then on: theirs may be elsewhere.
    """

    type: Literal["ControlTaken"] = "ControlTaken"
    task: str
    patch: Patch | None = None
    code: Code | None = None
    skip: tuple[Skip, ...] = ()
    pauses: bool = False
    message: str = ""
    artifacts: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


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
    JobCreated | JobRestarted | JobStarted | CodeChanged | ProcessDown | JobSuspended | JobWaiting | GateApproved
    | JobRepaired | TaskStarted | StageStarted | StageFinished | TaskHeld | TaskReleased | FileWritten | CallPaid
    | AttemptFailed | ControlTaken | TaskDone | TaskFailed | TaskSkipped | JobDone | JobFailed | JobRejected
    | JobStopped
)  # fmt: skip

NEWS = (StageStarted, StageFinished, TaskHeld, TaskReleased, FileWritten, CallPaid)
"""What only tells of work under way: nobody waits until it is on disk, and none of it says that anything else is."""

LAST_SEQ = 2**53
"""Above every number a process can reach."""


def reached_by(event: Event) -> tuple[int, int]:
    """The (epoch, seq) a log has reached with this event; the death of a process closes its epoch. What comes later
    under that number, or a lower one, is no news."""
    if isinstance(event, ProcessDown | JobRepaired) and event.ended:
        return event.ended, LAST_SEQ
    return event.epoch, event.seq


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
