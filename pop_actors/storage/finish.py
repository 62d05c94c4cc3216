"""How a job leaves current/: to complete/ with a line in runs.jsonl, or to rejected/; and how it comes back.

Every step may be done again after a kill: the run's line is found by its run id, files are replaced, a rename that
happened is not repeated. The job's log already says how it ended; nobody writes into its directory any more.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pop_actors.errors import StorageError
from pop_actors.storage.claims import rejection_document
from pop_actors.storage.fault_points import reach
from pop_actors.storage.files import replace, sync_directory
from pop_actors.storage.jsonl import AppendLog, read_backwards
from pop_actors.storage.layout import REJECTION, JobDirectory, Workspace
from pop_actors.storage.moves import move_to_free_name, rename_durably, sync_file, unlink_if_there

LINES_SEARCHED = 1000


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job whose log ends well: its line for runs.jsonl (`core.status.run_line`) and its last status."""

    job_id: str
    run_line: dict[str, Any]
    status: bytes


def finish_all(workspace: Workspace, jobs: Sequence[FinishedJob], *, recovering: bool = False) -> None:
    """Move finished jobs to complete/, durably, with one write and one fsync of runs.jsonl for all of them.

    `recovering`: some may have their line already (a kill, or an error, came in between), so it is looked for first.
    OSError where the disk refuses: call again, recovering. A taken name in complete/ gets `.2`, `.3`, …
    """
    if not jobs:
        return
    reach("finish.logged")
    _append_run_lines(workspace.runs, [job.run_line for job in jobs], recovering=recovering)
    reach("finish.run-line")
    for job in jobs:
        _move_to_complete(workspace, job, recovering=recovering)
    sync_directory(workspace.complete)
    sync_directory(workspace.current)


def reject_job(workspace: Workspace, job_id: str, reason: str, message: str, now: float, status: bytes) -> Path:
    """Move a job's whole directory from current/ to rejected/ with a rejection.json and its last status; where it went.

    `now` in seconds since the epoch.
    """
    job = workspace.job(job_id)
    sync_file(job.events)
    replace(job.status, status, durable=True)
    replace(job.path / REJECTION, rejection_document(job_id, reason, message, now), durable=True)
    unlink_if_there(job.runner_pid)
    sync_directory(job.path)
    reach("reject-job.written")
    place = move_to_free_name(job.path, workspace.rejected, job_id)
    reach("reject-job.renamed")
    sync_directory(workspace.rejected)
    sync_directory(workspace.current)
    return place


def reopen(workspace: Workspace, job_id: str) -> JobDirectory:
    """Bring a finished job back to current/, for a new run. Until its log says so (JobRestarted), a start of the
    service finishes it again.

    OSError where the disk refuses: it is in complete/ as before. StorageError where it is not there, or current/ has
    the id.
    """
    source, target = workspace.finished(job_id), workspace.job(job_id)
    if os.path.lexists(target.path):
        raise StorageError(f"{target.path}: is there already")
    try:
        rename_durably(source.path, target.path, "reopen.renamed")
    except FileNotFoundError:
        raise StorageError(f"{source.path}: no such finished job") from None
    return target


def _append_run_lines(runs: Path, lines: Sequence[dict[str, Any]], *, recovering: bool) -> None:
    is_new = not (runs.exists() and runs.stat().st_size)
    log = AppendLog(runs)  # cuts a torn end, so that what the search finds is whole
    try:
        if is_new:
            sync_directory(runs.parent)
        known = _recorded(runs, lines) if recovering else frozenset()
        missing = [line for line in lines if line["pipelineId"] not in known]
        if missing:
            log.append(missing)
        log.sync()
    finally:
        log.close()


def _recorded(runs: Path, lines: Sequence[dict[str, Any]]) -> Collection[str]:
    """Which of these runs have their line, searching back from the newest until lines are older than the jobs are."""
    wanted = {line["pipelineId"] for line in lines}
    oldest = min(line["createdAt"] for line in lines)
    found: set[str] = set()
    for number, line in enumerate(read_backwards(runs)):
        if line.get("pipelineId") in wanted:
            found.add(line["pipelineId"])
        if found == wanted or (number >= LINES_SEARCHED and str(line.get("finishedAt", "")) < oldest):
            break
    return found


def _move_to_complete(workspace: Workspace, job: FinishedJob, *, recovering: bool) -> None:
    source = workspace.job(job.job_id)
    if not os.path.lexists(source.path):
        return  # moved already
    if recovering:
        sync_file(source.events)  # who wrote its end may have been killed before it was on disk
    replace(source.status, job.status, durable=True)
    unlink_if_there(source.runner_pid)
    sync_directory(source.path)  # no start looks into complete/, to find an older status there
    reach("finish.status-written")
    move_to_free_name(source.path, workspace.complete, job.job_id)
    reach("finish.renamed")
