"""`doctor --repair` where no popd runs: what a start would put right, and then what only a person may ask for.

Holds the workspace's lock meanwhile, so that no popd starts in between.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from pop_actors.errors import Damaged, FormatRefused, StorageError
from pop_actors.storage import disk, recovery, workspace_format
from pop_actors.storage.files import readable_json, replace
from pop_actors.storage.history_inspection import record_missing
from pop_actors.storage.job_inspection import left_temporaries
from pop_actors.storage.layout import Workspace
from pop_actors.storage.repair import repair_inputs, repair_job
from pop_actors.storage.workspace_lock import WorkspaceLock


@dataclass(slots=True)
class Outcome:
    """`repaired`: {id, state, done, copies} a job; `failed`: {id, message} a job; `also`: the rest, in words."""

    repaired: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    also: list[str] = field(default_factory=list)


def repair_offline(workspace: Workspace, job_id: str | None, now: float, *, everything: bool) -> Outcome:
    """One job, or all that can be done. RootTaken where a popd runs after all, FormatRefused where the workspace is not
    for this version; OSError where the disk refuses. `now` in seconds since the epoch."""
    workspace_format.check(workspace)
    if not workspace.state.is_dir():
        return Outcome()  # popd never ran here
    with WorkspaceLock(workspace):
        if job_id is not None:
            return _repair([job_id], workspace, now)
        workspace_format.bring_up(workspace)
        also = [f"process {pid} of an earlier service was ended" for pid in recovery.end_processes(workspace)]
        found = recovery.settle(workspace)
        outcome = _repair(sorted(found.damaged), workspace, now)
        also += _write_statuses(workspace, found)
        also += _remove_temporaries(workspace)
        recorded = record_missing(workspace, everything=everything)
        also += [f"{name}: its run is in runs.jsonl again" for name in recorded]
        outcome.also = also + _settled(found)
        return outcome


def _repair(job_ids: list[str], workspace: Workspace, now: float) -> Outcome:
    outcome = Outcome()
    for job_id in job_ids:
        try:
            outcome.repaired.append(_repaired(workspace, job_id, now))
        except (StorageError, OSError) as error:
            outcome.failed.append({"id": job_id, "message": str(error)})
    return outcome


def _repaired(workspace: Workspace, job_id: str, now: float) -> dict[str, Any]:
    try:
        recovery.read_job(workspace, job_id)
    except FormatRefused:
        raise
    except Damaged:
        return repair_job(workspace, job_id, now).document()
    return repair_inputs(workspace, job_id).document()


def _write_statuses(workspace: Workspace, found: recovery.Recovered) -> list[str]:
    stale = [job for job in found.unfinished if job.status_is_stale]
    for job in stale:
        replace(workspace.job(job.job_id).status, readable_json(job.document), durable=True)
    return [f"{job.job_id}: tasks-status.json was written anew from the log" for job in stale]


def _remove_temporaries(workspace: Workspace) -> list[str]:
    removed = []
    for name in sorted(os.listdir(workspace.current)):
        job = workspace.job(name)
        for path in left_temporaries(job) if job.path.is_dir() else ():
            disk.unlink(path)
            removed.append(f"{path} was removed")
    return removed


def _settled(found: recovery.Recovered) -> list[str]:
    return [
        *(f"{name}: a half claim was undone; its seed waits in pending/" for name in found.half_claims),
        *(f"{name}: a half rejection was finished" for name in found.half_rejections),
        *(f"{name}: is done and lies in complete/" for name in found.finished),
        *(f"{name}: lies in rejected/" for name in found.rejected),
    ]
