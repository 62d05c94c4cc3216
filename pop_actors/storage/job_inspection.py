"""What is wrong with the files of one job of current/. Reads only, beside a running service too.

Asked by doctor. It judges as recovery does, which says what a start would do with the job.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from pop_actors.core.known_status import end_it_knows
from pop_actors.core.status import Document, fold_all
from pop_actors.errors import Damaged, FormatRefused
from pop_actors.storage.damage import MARK
from pop_actors.storage.files import TEMPORARY, readable_json
from pop_actors.storage.findings import Finding
from pop_actors.storage.job_log import LogReading, read_log
from pop_actors.storage.layout import JobDirectory, Workspace
from pop_actors.storage.repair import input_fault
from pop_actors.storage.set_aside import StatusOnDisk, status_on_disk
from pop_actors.storage.task_outputs import can_be_rebuilt, checkpoint_lines, output_on_disk


def inspect_job(workspace: Workspace, job_id: str, *, live: bool) -> list[Finding]:
    """Everything about one job that a person should know. `live`: a service runs, and may be writing just now."""
    path = workspace.job(job_id).path
    try:
        found = list(_inspect(workspace, job_id, live=live))
    except OSError as error:
        found = [Finding("error", str(path), f"cannot be read: {error}", "mend its permissions", job_id)]
    return found if os.path.lexists(path) else []  # it left while it was looked at


def _inspect(workspace: Workspace, job_id: str, *, live: bool) -> Iterator[Finding]:
    job = workspace.job(job_id)
    if not job.path.is_dir():
        yield Finding("error", str(job.path), "is no folder, and takes the id of a job", "move it away", job_id)
        return
    status = status_on_disk(job.status, job_id)
    document = None
    try:
        reading = _reading(job)
        document = _document(job, reading, status)
    except FormatRefused as error:
        yield Finding("error", str(job.events), str(error), "start the version that wrote it", job_id)
        return
    except Damaged as error:
        at_work = live and job.runner_pid.exists()
        todo = f"popctl stop {job_id}, then: " * at_work + f"popctl doctor --repair {job_id}"
        yield Finding("error", str(job.events), str(error), todo, job_id, repairable=True)
    else:
        yield from _about_end(job, reading, job_id, live=live)
    yield from _about_status(job, status, document, job_id, live=live)
    known = document or status.known
    yield from _about_inputs(workspace, known, job_id)
    if known is not None:
        yield from _about_state(known, job_id)
        yield from _about_tasks(job, known)
    yield from _about_journal(job, job_id, live=live)
    yield from _left_over(job, job_id)


def _reading(job: JobDirectory) -> LogReading:
    try:
        return read_log(job.events.read_bytes())
    except OSError as error:
        raise Damaged(f"cannot be read: {error.strerror}") from None


def _document(job: JobDirectory, reading: LogReading, status: StatusOnDisk) -> Document:
    """The fold of a log that a start takes. Damaged where it would set the job aside."""
    if reading.is_broken_inside or not reading.events:
        what = f"line {reading.line}: {reading.fault}" if reading.fault else "is empty"
        raise Damaged(f"{what}; {len(reading.later)} whole lines follow" if reading.later else what)
    try:
        document = fold_all(reading.events)
        assert document is not None
    except (ValueError, KeyError) as error:
        raise Damaged(f"does not add up: {error!r}") from None
    if document["id"] != job.path.name:
        raise Damaged(f"is the log of job {document['id']}; a copy of a job's folder is no job, move it away")
    end_it_knows(document, status.known)
    return document


def _about_end(job: JobDirectory, reading: LogReading, job_id: str, *, live: bool) -> Iterator[Finding]:
    if not reading.is_whole and not live:
        what = f"line {reading.line}: {reading.fault}; nothing whole follows, and the next start cuts it"
        yield Finding("note", str(job.events), what, "", job_id)


def _about_status(
    job: JobDirectory, status: StatusOnDisk, document: Document | None, job_id: str, *, live: bool
) -> Iterator[Finding]:
    if status.known is None:
        what = "is missing" if status.content is None else "is no whole status"
        when = "the job's next event, or the next start," if live else "the next start"
        yield Finding("note", str(job.status), f"{what}; {when} writes it anew from the log", "", job_id)
    elif not live and document is not None and status.content != readable_json(document):
        yield Finding("note", str(job.status), "is not what the log says; the next start writes it anew", "", job_id)


def _about_inputs(workspace: Workspace, document: Document | None, job_id: str) -> Iterator[Finding]:
    fault = input_fault(workspace, job_id)
    if fault is not None and (document is None or document["state"] != "done"):
        name, _, what = fault.partition(": ")
        todo = f"popctl doctor --repair {job_id} puts the registry's pipeline.json there; a seed only you can put back"
        yield Finding("error", name, what, todo, job_id, repairable=name.endswith("pipeline.json"))


def _about_state(document: Document, job_id: str) -> Iterator[Finding]:
    if document["state"] == "error":
        error = document["error"] or {}
        where = " / ".join(str(part) for part in (error.get("task"), error.get("stage")) if part)
        what = f"in error ({error.get('reason')}): {error.get('message')}"
        todo = f"see popctl logs {job_id}, mend the cause, then: popctl restart {job_id}"
        yield Finding("warning", f"job {job_id}{', ' + where if where else ''}", what, todo, job_id)
    elif document["state"] == "waiting":
        todo = f"popctl approve {job_id}, or: popctl reject {job_id}"
        yield Finding("note", f"job {job_id}", f"waits for a person: {(document['gate'] or {}).get('message')}", todo)


def _about_tasks(job: JobDirectory, document: Document) -> Iterator[Finding]:
    for name, task in document["tasks"].items():
        if task["state"] == "done":
            yield from _about_output(job, name)
        else:
            _, broken = checkpoint_lines(job, name)
            if broken:
                what = (
                    f"line {broken} is broken; stages from there on run again, and their replies are not bought again"
                )
                yield Finding("note", str(job.task(name).checkpoint), what, "", job.path.name)


def _about_output(job: JobDirectory, task: str) -> Iterator[Finding]:
    try:
        output_on_disk(job, task)
    except Damaged as error:
        path, _, what = str(error).partition(": ")
        if can_be_rebuilt(job, task):
            yield Finding("note", path, f"{what}; it is written anew from the checkpoint when it is needed", "")
        else:
            todo = f"popctl restart {job.path.name} --from {task}"
            yield Finding("error", path, f"{what}, and the checkpoint does not have every stage", todo, job.path.name)


def _about_journal(job: JobDirectory, job_id: str, *, live: bool) -> Iterator[Finding]:
    try:
        content = job.calls.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        what = f"cannot be read ({error.strerror}): no call of this job can be made"
        yield Finding("error", str(job.calls), what, "move it away, or mend its permissions", job_id)
        return
    *whole, rest = content.split(b"\n")
    records = [_record(line) for line in whole]
    broken = [number for number, record in enumerate(records, 1) if record is None]
    if broken:
        what = f"{len(broken)} broken lines, the first is line {broken[0]}; what they cost is not in the job's costs"
        yield Finding(
            "note", str(job.calls), f"{what}, and a reply they held is bought again if it is needed", "", job_id
        )
    if rest and not live:
        yield Finding("note", str(job.calls), "its last line is torn, and is cut when it is next opened", "", job_id)
    under_way = live and job.runner_pid.exists()
    unanswered = _sent_without_end((record for record in records if record is not None), under_way=under_way)
    if unanswered:
        what = f"calls in flight when a daemon ended, each perhaps billed without a reply: {unanswered}"
        yield Finding("note", str(job.calls), what, "compare with the provider's bill", job_id)


def _sent_without_end(records: Iterable[dict[str, Any]], *, under_way: bool) -> int:
    """A request that was billed although it failed ends under its call's key with a number behind it. A call that was
    lost and is made again begins to count its tries anew. `under_way`: what has no end may come to one yet."""
    lost = 0
    without_end: set[str] = set()
    for record in records:
        key = record["key"].partition("#")[0]
        if record.get("type") == "sent":
            lost += key in without_end and record.get("try") == 1
            without_end.add(key)
        else:
            without_end.discard(key)
    return lost if under_way else lost + len(without_end)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None


def _left_over(job: JobDirectory, job_id: str) -> Iterator[Finding]:
    for path in _files(job):
        if MARK in path.name:
            yield Finding("note", str(path), "was kept by a repair", "remove it when you want", job_id)
    for path in left_temporaries(job):
        what = "is left of a write that was not finished"
        todo = "remove it; with popd stopped, popctl doctor --repair does"
        yield Finding("note", str(path), what, todo, job_id)


def left_temporaries(job: JobDirectory) -> list[Path]:
    """The temporary files of processes that are no more."""
    return [path for path in _files(job) if _is_left(path.name)]


def _is_left(name: str) -> bool:
    _, mark, pid = name.rpartition(TEMPORARY)
    return bool(mark) and pid.isdecimal() and not Path(f"/proc/{pid}").exists()


def _files(job: JobDirectory) -> list[Path]:
    """The job's own files and those of its tasks; not what tasks wrote."""
    return [
        folder / name for folder in (job.path, *_folders(job.path / "tasks")) for name in sorted(os.listdir(folder))
    ]


def _folders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []
