"""The durable moves of job directories in terms of job records: claim, finish, reject, reopen, what a start finds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from pop_actors.core.events import FORMAT, CallPaid, JobCreated, event_document
from pop_actors.core.status import fold, run_line
from pop_actors.errors import Refused, SeedRejected, StorageError
from pop_actors.storage import claims, recovery
from pop_actors.storage import finish as finishing
from pop_actors.storage.files import readable_json
from pop_actors.storage.jsonl import json_line
from pop_actors.storage.layout import Workspace
from pop_actors.storage.set_aside import SetAside
from pop_actors.system import messages as m
from pop_actors.system.gateway.journal_records import paid_calls
from pop_actors.system.status_writer.job_record import JobRecord

_log = logging.getLogger(__name__)


def settle(workspace: Workspace) -> Iterator[JobRecord | SetAside]:
    """Finish what was half done; a record for every job that is not finished, or what keeps it from being one.
    Processes are not touched."""
    found = recovery.settle(workspace)
    yield from found.damaged.values()
    for job in found.unfinished:
        yield _record_of(workspace, job)


def claim(workspace: Workspace, seed: m.SeedFound, run_id: str, at: str) -> tuple[JobRecord, JobCreated]:
    """Make a seed a job's directory. Errors as `storage.claims.claim`."""
    attached = claims.attachments(workspace, seed.job_id)
    created = JobCreated(
        at=at,
        id=seed.job_id,
        run_id=run_id,
        name=seed.name,
        pipeline=seed.pipeline.slug,
        mode=seed.mode,
        tasks=seed.pipeline.pipeline.task_names,
        attached=attached,
        conflicts=seed.conflicts,
        format=FORMAT,
    )
    document = fold(None, created)
    files = claims.JobFiles(
        pipeline=seed.pipeline.content,
        events=json_line(event_document(created)),
        status=readable_json(document),
        attached=attached,
        tasks=created.tasks,
    )
    if not claims.claim(workspace, seed.job_id, seed.file, files):
        raise SeedRejected("duplicate_job", f"there is a job {seed.job_id} already; give the seed another file name")
    return JobRecord(workspace.job(seed.job_id), document, (0, 0)), created


def finish(workspace: Workspace, records: Sequence[JobRecord], at: str, *, again: bool) -> None:
    """Move jobs whose log ends with JobDone to complete/. `again`: it may have been tried before."""
    finished = [
        finishing.FinishedJob(record.job_id, run_line(record.document, at), readable_json(record.document))
        for record in records
    ]
    finishing.finish_all(workspace, finished, recovering=again)


def reject_job(workspace: Workspace, record: JobRecord, now: float, *, again: bool) -> None:
    """Move a job whose quality was not good enough to rejected/; `now` in seconds since the epoch."""
    if again and not record.directory.path.is_dir():
        return
    message = (record.document["error"] or {}).get("message", "")
    finishing.reject_job(workspace, record.job_id, "quality", message, now, readable_json(record.document))


def reopen(workspace: Workspace, job_id: str) -> JobRecord:
    """The record of a finished job, brought back to current/. Refused `not_found` where there is none."""
    try:
        finishing.reopen(workspace, job_id)
    except StorageError:
        raise Refused("not_found", f"there is no job {job_id}; see: popctl list --all") from None
    return read(workspace, job_id)


def read(workspace: Workspace, job_id: str) -> JobRecord:
    """The record of a job in current/. Errors as `storage.recovery.read_job`."""
    return _record_of(workspace, recovery.read_job(workspace, job_id))


def _record_of(workspace: Workspace, job: recovery.UnfinishedJob) -> JobRecord:
    booked = (event.key for event in job.events if isinstance(event, CallPaid))
    record = JobRecord(workspace.job(job.job_id), job.document, job.last, booked)
    record.is_stale_on_disk = job.status_is_stale
    record.is_rejected = job.is_rejected
    _book_what_was_paid(record)
    return record


def _book_what_was_paid(record: JobRecord) -> None:
    """A kill may have come between a reply's line in the journal and its event: what was spent is in the status. What
    is taken here reaches the disk with the next flush, so that one that refuses keeps no service from starting."""
    try:
        unbooked = [paid for paid in paid_calls(record.directory.calls) if record.is_new(paid)]
    except OSError as error:
        _log.error("%s cannot be read; what it says was paid is not in the job's costs: %s", record.job_id, error)
        return
    for paid in unbooked:
        record.take(paid)
