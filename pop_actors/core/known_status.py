"""A tasks-status.json as evidence: what may be believed of a file that may be damaged, and what it adds to the log.

Pure. The log is the truth; the status is asked only where the log has lost something.
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict

from pop_actors.core import events as e
from pop_actors.core.ids import is_task_name, seconds_of
from pop_actors.core.states import JobState, TaskState
from pop_actors.core.status import Document, fold
from pop_actors.errors import Damaged


class _Task(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    state: TaskState
    attempts: int = 0
    tokenUsage: list[list[Any]]  # noqa: N815  (as on disk)
    files: dict[str, list[str]]


class _Tokens(BaseModel):
    model_config = ConfigDict(strict=True)

    input: int
    output: int


class _Status(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    id: str
    pipelineId: str  # noqa: N815
    name: str
    pipeline: str
    mode: str
    state: JobState
    current: str | None
    currentStage: str | None  # noqa: N815
    progress: int
    createdAt: str  # noqa: N815
    lastUpdated: str  # noqa: N815
    restarts: int
    epoch: int
    error: dict[str, Any] | None
    costUsd: float  # noqa: N815
    tokens: _Tokens
    files: dict[str, list[str]]
    tasks: dict[str, _Task]
    patches: list[e.Patch] = []


def known_status(job_id: str, document: Any) -> Document | None:
    """The document where it is a whole status of that job; None where it is anything else."""
    try:
        status = _Status.model_validate(document)
        for stamp in (status.createdAt, status.lastUpdated):
            seconds_of(stamp)
    except ValueError:  # pydantic's ValidationError is one
        return None
    if status.id != job_id or not all(map(is_task_name, status.tasks)):
        return None
    found: Document = document
    return found


def added_in(known: Document | None) -> tuple[e.Patch, ...]:
    """What a status, or none, tells of tasks that were added to its run, oldest first."""
    return tuple(map(e.Patch.model_validate, (known or {}).get("patches", ())))


def end_it_knows(document: Document, known: Document | None) -> e.Event | None:
    """The end that a status has and its log, which gives `document`, has lost: a job that was over must not go on.

    Damaged where the status is of a newer run than the log: then the log has lost that run's beginning.
    """
    if known is None or known["lastUpdated"] <= document["lastUpdated"]:
        return None
    if known["pipelineId"] != document["pipelineId"]:
        raise Damaged(
            f"ends in run {document['pipelineId']}, and tasks-status.json tells of a later one, {known['pipelineId']}"
        )
    return None if document["state"] == known["state"] else end_of(known)


def end_of(known: Document) -> e.Event | None:
    """The event that ended a job in error, or stopped; None where it did not end so."""
    if known["state"] == "stopped":
        return e.JobStopped(at=known["lastUpdated"])
    if known["state"] != "error":
        return None
    error = known["error"] or {}
    reason = error.get("reason")
    return e.JobFailed(
        at=known["lastUpdated"],
        task=str(error.get("task") or ""),
        stage=str(error.get("stage") or ""),
        reason=reason if reason in get_args(e.Reason) else "crashed",
        error=e.ErrorInfo(name=str(error.get("name") or "Error"), message=str(error.get("message") or "")),
    )


def shown(job_id: str, known: Document | None, at: str, name: str, message: str) -> Document:
    """The status under which a job appears whose log cannot be used: in error, with what else is known of it.

    It is never written to disk. `damaged` tells it from a job whose run failed.
    """
    if known is None:
        nothing = e.JobCreated(at=at, id=job_id, run_id="", name=job_id, pipeline="", mode="", tasks=())
        known = fold(None, nothing)
    error = {"task": known["current"], "stage": known["currentStage"], "reason": "crashed"}
    return {
        **known,
        "state": "error",
        "gate": None,
        "error": {**error, "name": name, "message": message},
        "damaged": message,
    }
