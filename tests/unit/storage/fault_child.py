"""What a process does that dies in the middle: one durable move, with a fault point armed."""

from __future__ import annotations

from pop_actors.core.events import JobCreated, JobDone, JobRejected, event_document
from pop_actors.core.status import fold, fold_all, run_line
from pop_actors.storage import claims, fault_points, finish, recovery
from pop_actors.storage.files import readable_json
from pop_actors.storage.jsonl import AppendLog, json_line
from pop_actors.storage.layout import Workspace

NOW = 1_760_000_000.0
AT = "2025-10-09T08:53:20.000Z"
CREATED = JobCreated(at=AT, id="j", run_id="pl-1", name="j", pipeline="p", mode="production", tasks=("a",))


def claim(workspace: Workspace) -> None:
    created = CREATED.model_copy(update={"attached": claims.attachments(workspace, "j")})
    files = claims.JobFiles(
        pipeline=b'{"tasks": ["a"]}',
        events=json_line(event_document(created)),
        status=readable_json(fold(None, created)),
        attached=created.attached,
    )
    claims.claim(workspace, "j", claims.read_seed(workspace.seed("j"), 1000), files)


def reject(workspace: Workspace) -> None:
    claims.reject(workspace, "j", "invalid_json", "not JSON", NOW)


def end(workspace: Workspace) -> None:
    _append(workspace, JobDone(at=AT, seq=1))
    document = fold_all([CREATED, JobDone(at=AT)])
    assert document is not None
    finish.finish_all(workspace, [finish.FinishedJob("j", run_line(document, AT), readable_json(document))])


def reject_job(workspace: Workspace) -> None:
    event = JobRejected(at=AT, seq=1, task="a", stage="validateQuality", message="not good enough")
    _append(workspace, event)
    status = readable_json(fold_all([CREATED, event]))
    finish.reject_job(workspace, "j", "quality", event.message, NOW, status)


def reopen(workspace: Workspace) -> None:
    finish.reopen(workspace, "j")


def recover(workspace: Workspace) -> None:
    recovery.recover(workspace)


def _append(workspace: Workspace, event: JobDone | JobRejected) -> None:
    log = AppendLog(workspace.job("j").events)
    log.append([event_document(event)])
    log.sync()
    log.close()


MOVES = {
    "claim": claim,
    "reject": reject,
    "finish": end,
    "reject-job": reject_job,
    "reopen": reopen,
    "recover": recover,
}


def do(workspace: Workspace, move: str, point: str | None) -> None:
    """The process's life."""
    fault_points.arm(point)
    MOVES[move](workspace)
