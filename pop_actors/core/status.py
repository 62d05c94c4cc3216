"""tasks-status.json as the fold of a job's events: `fold(document, event)` gives the next document.

Pure, and without mutation: a document once handed out never changes, so any thread may read it. A document is plain
JSON (dict, camelCase) because people read it; its shape is the contract's §5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pop_actors.core import events as e
from pop_actors.core.states import ENDED

Document = dict[str, Any]

TASK_ARTIFACTS = ("output.json", "letter.json", "execution-logs.json")


def fold(document: Document | None, event: e.Event) -> Document:
    """The status after `event`. The first event of a log is JobCreated; ValueError where another one comes first."""
    if isinstance(event, e.JobCreated):
        return _created(event)
    if document is None:
        raise ValueError(f"a job's log begins with JobCreated, not {event.type}")
    folded = _FOLDS[type(event)](document, event)
    folded["lastUpdated"] = max(event.at, document["lastUpdated"])
    return folded


def fold_all(events: Iterable[e.Event], document: Document | None = None) -> Document | None:
    """The status after all of them; None where there are none."""
    for event in events:
        document = fold(document, event)
    return document


def is_news(document: Document, noted: e.Event) -> bool:
    """Whether what the daemon says of a job is still to be noted, since it may be said twice: a run ends once, and only
    the gate that is closed is opened."""
    match noted:
        case e.JobFailed() | e.JobStopped():
            return document["state"] not in ENDED
        case e.GateApproved():
            return document["state"] == "waiting" and (document["gate"]["task"] or "") == noted.task
        case _:
            return True


def summary(document: Document) -> Document:
    """The line of `popctl list` that stands for this status."""
    return {key: document[key] for key in SUMMARY_KEYS}


SUMMARY_KEYS = (
    "id", "pipelineId", "name", "pipeline", "state", "mode", "current", "currentStage", "progress", "createdAt",
    "lastUpdated", "costUsd",
)  # fmt: skip


def run_line(document: Document, finished_at: str) -> Document:
    """The line of runs.jsonl for a job that is done: 002's keys and the contract's additions."""
    tasks = document["tasks"]
    started = [task["startedAt"] for task in tasks.values() if task.get("startedAt")]
    return {
        "id": document["id"],
        "name": document["name"],
        "pipelineId": document["pipelineId"],
        "pipeline": document["pipeline"],
        "mode": document["mode"],
        "createdAt": document["createdAt"],
        "startedAt": min(started, default=document["createdAt"]),
        "finishedAt": finished_at,
        "tasks": list(tasks),
        "totalExecutionTime": round(sum(task.get("executionTime") or 0.0 for task in tasks.values()), 3),
        "totalRefinementAttempts": sum(task.get("refinementAttempts", 0) for task in tasks.values()),
        "finalArtifacts": [name for name, task in tasks.items() if task["state"] == "done"],
        "costUsd": document["costUsd"],
        "tokens": document["tokens"],
        "attempts": sum(task.get("attempts", 0) for task in tasks.values()),
        "restarts": document["restarts"],
    }


def _no_files() -> dict[str, list[str]]:
    return {"artifacts": [], "logs": [], "tmp": []}


def _new_task() -> Document:
    return {
        "state": "pending",
        "attempts": 0,
        "currentStage": None,
        "refinementAttempts": 0,
        "tokenUsage": [],
        "files": _no_files(),
        "artifacts": [],
    }


def _created(event: e.JobCreated) -> Document:
    return {
        "id": event.id,
        "pipelineId": event.run_id,
        "name": event.name,
        "pipeline": event.pipeline,
        "mode": event.mode,
        "state": "pending",
        "current": None,
        "currentStage": None,
        "progress": 0,
        "createdAt": event.at,
        "lastUpdated": event.at,
        "restarts": 0,
        "epoch": 0,
        "gate": None,
        "codeChanged": None,
        "conflicts": None if event.conflicts is None else list(event.conflicts),
        "error": None,
        "costUsd": 0.0,
        "tokens": {"input": 0, "output": 0},
        "files": {**_no_files(), "artifacts": list(event.attached)},
        "tasks": {name: _new_task() for name in event.tasks},
    }


def _restarted(document: Document, event: e.JobRestarted) -> Document:
    before = document["tasks"]
    kept = set(event.tasks) & before.keys() - set(event.reset)
    tasks = {name: before[name] if name in kept else _new_task() for name in event.tasks}
    patches = [patch for patch in document.get("patches", ()) if patch["task"] in kept]
    return _with_progress(
        {
            **{key: value for key, value in document.items() if key != "patches"},
            **({"patches": patches} if patches else {}),
            "pipelineId": event.run_id,
            "state": "pending",
            "current": None,
            "currentStage": None,
            "progress": 0,
            "restarts": 0,
            "gate": None,
            "codeChanged": None,
            "error": None,
            "tasks": tasks,
            "files": _files_of(tasks, attached=_attached(document)),
        }
    )


def _attached(document: Document) -> list[str]:
    """The artifacts that no task wrote: they came with the seed."""
    written = _files_of(document["tasks"])["artifacts"]
    return [name for name in document["files"]["artifacts"] if name not in written]


def _files_of(tasks: Document, attached: Sequence[str] = ()) -> Document:
    files = {**_no_files(), "artifacts": list(attached)}
    for task in tasks.values():
        for kind, names in task["files"].items():
            files[kind] += [name for name in names if name not in files[kind]]
    return files


def _started(document: Document, event: e.JobStarted) -> Document:
    return {**document, "state": "running", "epoch": event.epoch, "gate": None}


def _code_changed(document: Document, event: e.CodeChanged) -> Document:
    told = {"at": event.at, "tasks": list(event.tasks), "files": list(event.files), "action": event.action}
    return {**document, "codeChanged": told}


def _process_down(document: Document, event: e.ProcessDown) -> Document:
    return {**document, "restarts": document["restarts"] + 1, "epoch": max(document["epoch"], event.ended)}


def _suspended(document: Document, event: e.JobSuspended) -> Document:  # noqa: ARG001  (one shape for every fold)
    return {**document, "state": "pending"}


def _waiting(document: Document, event: e.JobWaiting) -> Document:
    gate = {
        "task": event.task or None,
        "message": event.message,
        "artifacts": list(event.artifacts),
        "since": event.at,
        "reason": event.reason,
    }
    return {**document, "state": "waiting", "gate": gate, "current": event.task or None, "currentStage": None}


def _gate_approved(document: Document, event: e.GateApproved) -> Document:  # noqa: ARG001
    """The job is to go on; unless it was stopped, or ended otherwise, before the approval came."""
    return {**document, "state": "pending", "gate": None} if document["state"] == "waiting" else {**document}


def _repaired(document: Document, event: e.JobRepaired) -> Document:
    state = "pending" if document["state"] == "running" else document["state"]
    return {**document, "state": state, "epoch": max(document["epoch"], event.ended)}


def _task_started(document: Document, event: e.TaskStarted) -> Document:
    before = {key: value for key, value in document["tasks"][event.task].items() if key != "patch"}
    task = {
        **before,
        "state": "running",
        "startedAt": before.get("startedAt") or event.at,
        "attempts": max(event.attempt, before["attempts"]),
        "refinementAttempts": 0,
    }
    return {**_with_task(document, event.task, task), "current": event.task, "currentStage": None}


def _stage_started(document: Document, event: e.StageStarted) -> Document:
    before = _at_work(document["tasks"][event.task])  # the process before it may have been killed while it waited
    task = {**before, "currentStage": event.stage, "refinementAttempts": event.round}
    return {**_with_task(document, event.task, task), "current": event.task, "currentStage": event.stage}


def _stage_finished(document: Document, event: e.StageFinished) -> Document:  # noqa: ARG001
    return {**document}


def _held(document: Document, event: e.TaskHeld) -> Document:
    """Its entry says what it waits for, until it goes on."""
    waits = {"reason": event.reason, "since": event.at}
    return _with_task(document, event.task, {**document["tasks"][event.task], "waitsFor": waits})


def _released(document: Document, event: e.TaskReleased) -> Document:
    return _with_task(document, event.task, _at_work(document["tasks"][event.task]))


def _at_work(task: Document) -> Document:
    """Whatever it waited for."""
    return {key: value for key, value in task.items() if key != "waitsFor"} if "waitsFor" in task else task


def _control_taken(document: Document, event: e.ControlTaken) -> Document:
    """What it adds is added when the task is done."""
    before = {key: value for key, value in document["tasks"][event.task].items() if key != "patch"}
    faults = {"controlFaults": list(event.faults)} if event.faults else {}
    patch = {"patch": event.patch.model_dump(by_alias=True, mode="json")} if event.patch is not None else {}
    return _with_task(document, event.task, {**before, **faults, **patch})


def _with_added(document: Document, patch: Document) -> Document:
    """The status with the tasks of a patch behind the one they follow."""
    tasks: Document = {}
    for name, task in document["tasks"].items():
        tasks[name] = task
        if name == patch["insertAfter"]:
            tasks |= {added["name"]: document["tasks"].get(added["name"]) or _new_task() for added in patch["add"]}
    return {**document, "tasks": tasks, "patches": [*document.get("patches", ()), patch]}


def _file_written(document: Document, event: e.FileWritten) -> Document:
    before = document["tasks"][event.task]
    task = {**before, "files": _with_name(before["files"], event.kind, event.name)}
    folded = _with_task(document, event.task, task)
    folded["files"] = _with_name(document["files"], event.kind, event.name)
    return folded


def _with_name(files: Document, kind: str, name: str) -> Document:
    return files if name in files[kind] else {**files, kind: [*files[kind], name]}


def _call_paid(document: Document, event: e.CallPaid) -> Document:
    cost = event.cost_usd
    usage = [f"{event.provider}:{event.model}", event.input_tokens, event.output_tokens, cost]
    tokens = document["tokens"]
    folded = {
        **document,
        "costUsd": round(document["costUsd"] + (cost or 0.0), 10),
        "tokens": {
            "input": tokens["input"] + event.input_tokens,
            "output": tokens["output"] + event.output_tokens,
        },
    }
    before = document["tasks"].get(event.task)
    if before is None:
        return folded
    return _with_task(folded, event.task, {**before, "tokenUsage": [*before["tokenUsage"], usage]})


def _attempt_failed(document: Document, event: e.AttemptFailed) -> Document:
    task = {
        **_at_work(document["tasks"][event.task]),
        "currentStage": None,
        "failedStage": event.stage,
        "error": event.error.model_dump(),
    }
    return {**_with_task(document, event.task, task), "currentStage": None}


def _task_done(document: Document, event: e.TaskDone) -> Document:
    task = document["tasks"][event.task]
    patch = task.get("patch")
    before = {key: value for key, value in task.items() if key not in {"error", "failedStage", "patch", "waitsFor"}}
    task = {
        **before,
        "state": "done",
        "endedAt": event.at,
        "attempts": event.attempt,
        "currentStage": None,
        "executionTime": event.execution_time,
        "refinementAttempts": event.refinements,
        "artifacts": list(TASK_ARTIFACTS),
    }
    folded = {**_with_task(document, event.task, task), "currentStage": None}
    return _with_progress(folded if patch is None else _with_added(folded, patch))


def _task_failed(document: Document, event: e.TaskFailed) -> Document:
    task = {
        **_at_work(document["tasks"][event.task]),
        "state": "error",
        "endedAt": event.at,
        "attempts": event.attempt,
        "currentStage": event.stage,
        "executionTime": event.execution_time,
        "refinementAttempts": event.refinements,
        "failedStage": event.stage,
        "error": event.error.model_dump(),
    }
    folded = {**_with_task(document, event.task, task), "current": event.task, "currentStage": event.stage}
    return _with_progress(folded)


def _task_skipped(document: Document, event: e.TaskSkipped) -> Document:
    task = {**document["tasks"][event.task], "state": "skipped", "endedAt": event.at, "skipReason": event.reason}
    return _with_progress(_with_task(document, event.task, task))


def _job_done(document: Document, event: e.JobDone) -> Document:  # noqa: ARG001
    ended = {"state": "done", "current": None, "currentStage": None, "progress": 100, "gate": None, "error": None}
    return {**document, **ended}


def _job_failed(document: Document, event: e.JobFailed) -> Document:
    return {
        **document,
        "state": "error",
        "gate": None,
        "current": event.task or document["current"],
        "currentStage": event.stage or document["currentStage"],
        "error": {
            "task": event.task or document["current"],
            "stage": event.stage or document["currentStage"],
            "reason": event.reason,
            "name": event.error.name,
            "message": event.error.message,
        },
    }


def _job_rejected(document: Document, event: e.JobRejected) -> Document:
    failed = e.JobFailed(
        at=event.at,
        task=event.task,
        stage=event.stage,
        reason="quality",
        error=e.ErrorInfo(name="QualityNotReached", message=event.message),
    )
    return _job_failed(document, failed)


def _job_stopped(document: Document, event: e.JobStopped) -> Document:  # noqa: ARG001
    tasks = {
        name: {**_at_work(task), "state": "pending", "currentStage": None} if task["state"] == "running" else task
        for name, task in document["tasks"].items()
    }
    return {**document, "state": "stopped", "gate": None, "tasks": tasks}


def _with_task(document: Document, name: str, task: Document) -> Document:
    return {**document, "tasks": {**document["tasks"], name: task}}


def _with_progress(document: Document) -> Document:
    """Within a run it does not go back where tasks are added."""
    tasks = document["tasks"].values()
    ended = sum(task["state"] in {"done", "skipped", "error"} for task in tasks)
    progress = round(100 * ended / len(tasks)) if tasks else 100
    return {**document, "progress": max(document["progress"], progress)}


_FOLDS: dict[type, Callable[[Document, Any], Document]] = {
    e.JobRestarted: _restarted,
    e.JobStarted: _started,
    e.CodeChanged: _code_changed,
    e.ProcessDown: _process_down,
    e.JobSuspended: _suspended,
    e.JobWaiting: _waiting,
    e.GateApproved: _gate_approved,
    e.JobRepaired: _repaired,
    e.TaskStarted: _task_started,
    e.StageStarted: _stage_started,
    e.StageFinished: _stage_finished,
    e.TaskHeld: _held,
    e.TaskReleased: _released,
    e.FileWritten: _file_written,
    e.CallPaid: _call_paid,
    e.AttemptFailed: _attempt_failed,
    e.ControlTaken: _control_taken,
    e.TaskDone: _task_done,
    e.TaskFailed: _task_failed,
    e.TaskSkipped: _task_skipped,
    e.JobDone: _job_done,
    e.JobFailed: _job_failed,
    e.JobRejected: _job_rejected,
    e.JobStopped: _job_stopped,
}
