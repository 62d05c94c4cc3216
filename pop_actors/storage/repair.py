"""What `doctor --repair` does to one job: a log that can be read again, a pipeline that is there again.

The caller owns the job: the status-writer, or whoever holds the workspace's lock. What was there is kept beside as
`NAME.damaged-<n>`, and only then replaced. May be killed anywhere and done again.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pop_actors.core import events as e
from pop_actors.core.ids import run_id, timestamp
from pop_actors.core.known_status import added_in
from pop_actors.core.pipeline import parse_pipeline
from pop_actors.core.salvage import Evidence, Salvaged, salvage
from pop_actors.core.seed import Seed, parse_seed
from pop_actors.core.states import ENDED
from pop_actors.core.status import Document, fold
from pop_actors.core.strict_json import parse
from pop_actors.errors import Damaged, InvalidJson, PipelineInvalid, SeedRejected, StorageError
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.damage import keep_copy
from pop_actors.storage.files import readable_json, replace, sync_directory
from pop_actors.storage.job_log import read_log, refuse_newer, whole_lines
from pop_actors.storage.jsonl import json_line
from pop_actors.storage.layout import JobDirectory, Workspace
from pop_actors.storage.set_aside import status_on_disk
from pop_actors.storage.task_outputs import finished_tasks

ANY_SIZE = 1 << 30


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done, in words. `state` is the job's from now on; `copies` name what was there before."""

    job_id: str
    state: str
    done: str
    copies: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        return {"id": self.job_id, "state": self.state, "done": self.done, "copies": list(self.copies)}


def repair_job(workspace: Workspace, job_id: str, now: float) -> Repaired:
    """Put a job's log together again from its whole lines and its other files. Damaged where too little is left,
    FormatRefused where it is of a newer version; then nothing was changed. `now` in seconds since the epoch."""
    job = workspace.job(job_id)
    content = _bytes_of(job.events)
    refuse_newer(content)
    status = status_on_disk(job.status, job_id)
    found = list(whole_lines(content))
    if found and isinstance(found[0], e.JobCreated) and found[0].id != job_id:
        raise Damaged(f"{job.path} is a copy of job {found[0].id}, and no job of its own; move it away")
    evidence = Evidence(
        status.known, _beginning(workspace, job_id, now) if status.known is None else None, finished_tasks(job)
    )
    salvaged = salvage(found, job_id, evidence)
    copies = [keep_copy(job.events).name] if os.path.lexists(job.events) else []
    if status.is_damaged:
        copies.append(keep_copy(job.status).name)
    broken = max(0, sum(bool(line.strip(b"\0")) for line in content.split(b"\n")) - len(found))
    events = _with_verdict(workspace, job_id, salvaged, broken, tuple(copies), timestamp(now))
    document = _fold(events)
    replace(job.events, b"".join(json_line(e.event_document(event)) for event in events), durable=True)
    replace(job.status, readable_json(document), durable=True)
    sync_directory(job.path)
    lost = salvaged.lost + broken
    done = f"the log was put together again: {salvaged.kept} lines kept, {lost} lost"
    return Repaired(job_id, document["state"], f"{done}; {_what_next(job_id, document)}", tuple(copies))


def repair_inputs(workspace: Workspace, job_id: str) -> Repaired:
    """Put back the pipeline.json of a job that has ended and cannot be restarted without. Damaged where there is
    nothing to put right, or only a person can."""
    job = workspace.job(job_id)
    _seed(job, job_id)
    if _pipeline_fault(job) is None:
        raise Damaged(f"nothing is wrong with its files; a new run begins with: popctl restart {job_id}")
    known = status_on_disk(job.status, job_id).known
    if known is None:
        raise Damaged(f"{job.status} cannot be read; it is written anew at the next start")
    copies = _put_back_pipeline(workspace, job, known)
    done = f"pipeline.json is the registry's again; now: popctl restart {job_id}"
    return Repaired(job_id, known["state"], done, copies)


def input_fault(workspace: Workspace, job_id: str) -> str | None:
    """What keeps a job from running at all: its seed, or its copy of the pipeline."""
    job = workspace.job(job_id)
    try:
        _seed(job, job_id)
    except Damaged as error:
        return str(error)
    return _pipeline_fault(job)


def log_fault(workspace: Workspace, job_id: str) -> str | None:
    """What is wrong with a job's log as it lies; None where every line of it is whole."""
    path = workspace.job(job_id).events
    try:
        reading = read_log(path.read_bytes())
    except (OSError, StorageError) as error:
        return f"{path}: {getattr(error, 'strerror', None) or error}"
    if not reading.is_whole:
        return f"{path}, line {reading.line}: {reading.fault}"
    return None if reading.events else f"{path}: is empty"


def _with_verdict(
    workspace: Workspace, job_id: str, salvaged: Salvaged, broken: int, copies: tuple[str, ...], at: str
) -> list[e.Event]:
    """The log with a line about the repair; and with the job's end, where it cannot go on as it is."""
    job, document = workspace.job(job_id), salvaged.document
    events = [
        *salvaged.events,
        e.JobRepaired(
            at=at, kept=salvaged.kept, lost=salvaged.lost + broken, copies=copies, ended=salvaged.epoch
        ),
    ]  # fmt: skip
    if document["state"] in ENDED:
        return events
    try:
        _seed(job, job_id)
        if _pipeline_fault(job) is not None:
            _put_back_pipeline(workspace, job, document)
    except Damaged as error:
        info = e.ErrorInfo(name="Damaged", message=str(error))
        events.append(e.JobFailed(at=at, reason="load", error=info))
    return events


def _what_next(job_id: str, document: Document) -> str:
    state = document["state"]
    if state == "error":
        message = str((document["error"] or {}).get("message"))
        return f"it is in error ({message}); a new run begins with: popctl restart {job_id}"
    if state == "stopped":
        return f"it is stopped, as before; a new run begins with: popctl restart {job_id}"
    return "it goes on where it was"


def _fold(events: list[e.Event]) -> Document:
    document: Document | None = None
    for event in events:
        document = fold(document, event)
    assert document is not None
    return document


def _beginning(workspace: Workspace, job_id: str, now: float) -> e.JobCreated | None:
    """How a job began of which only its inputs, and the letters of its tasks, are left."""
    job = workspace.job(job_id)
    letter = max(_letters(job), key=lambda letter: letter["startedAt"], default=None)
    try:
        seed = _seed(job, job_id)
        pipeline = parse_pipeline(parse(_bytes_of(job.pipeline)), None)
        slug = letter["pipeline"] if letter is not None else _slug_of(workspace, seed)
    except (Damaged, InvalidJson, PipelineInvalid, SeedRejected):
        return None
    return e.JobCreated(
        at=timestamp(os.stat(job.seed).st_mtime),
        id=job_id,
        run_id=letter["runId"] if letter is not None else run_id(now, secrets.token_hex(3)),
        name=seed.name,
        pipeline=slug,
        mode=letter["mode"] if letter is not None else seed.mode or "production",
        tasks=pipeline.task_names,
        conflicts=tuple(seed.conflicts),
        format=e.FORMAT,
    )


def _slug_of(workspace: Workspace, seed: Seed) -> str:
    return seed.pipeline or Catalogue(workspace).pipeline_for(None).slug


def _letters(job: JobDirectory) -> list[dict[str, str]]:
    """The letters of its tasks, as far as they can be read; each says run, pipeline and mode."""
    found = []
    for path in sorted(job.path.glob("tasks/*/letter.json")):
        try:
            letter = orjson.loads(_bytes_of(path))
        except orjson.JSONDecodeError:
            continue
        keys = ("startedAt", "runId", "pipeline", "mode")
        if isinstance(letter, dict) and all(isinstance(letter.get(key), str) for key in keys):
            found.append({key: letter[key] for key in keys})
    return found


def _seed(job: JobDirectory, job_id: str) -> Seed:
    """Damaged, with what only a person can do, where it cannot be read."""
    try:
        return parse_seed(_bytes_of(job.seed), job_id, ANY_SIZE)
    except SeedRejected as error:
        raise Damaged(
            f"{job.seed}: {error.message}; put the seed's bytes back there, then: popctl restart {job_id}"
        ) from None


def _pipeline_fault(job: JobDirectory) -> str | None:
    try:
        parse_pipeline(parse(_bytes_of(job.pipeline)), None)
    except (InvalidJson, PipelineInvalid) as error:
        return f"{job.pipeline}: {error}"
    return None


def _put_back_pipeline(workspace: Workspace, job: JobDirectory, document: Document) -> tuple[str, ...]:
    """The registry's pipeline.json, where it has the tasks the run has; the copies that were kept."""
    slug = document["pipeline"]
    try:
        resolved = Catalogue(workspace).pipeline_for(slug)
    except SeedRejected as error:
        raise Damaged(f"{job.pipeline}: damaged, and the registry has none to put there: {error.message}") from None
    added = {name for patch in added_in(document) for name in patch.names}
    if resolved.pipeline.task_names != tuple(name for name in document["tasks"] if name not in added):
        raise Damaged(
            f"{job.pipeline}: damaged, and the tasks of {slug!r} in the registry are not this run's any more; put the "
            f"file back from a backup, then: popctl restart {document['id']}"
        )
    copies = (keep_copy(job.pipeline).name,) if os.path.lexists(job.pipeline) else ()
    replace(job.pipeline, resolved.content, durable=True)
    sync_directory(job.path)
    return copies


def _bytes_of(path: Path) -> bytes:
    """Nothing where there is no file that can be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
