"""runs.jsonl against complete/: lines that cannot be read, and finished jobs that have none. Asked by doctor.

The past may be long: without `everything` the newest lines and as many folders are looked at. `record_missing` is for
whoever holds the workspace's lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pop_actors.core.ids import is_job_id, timestamp
from pop_actors.core.status import Document, run_line
from pop_actors.storage.damage import is_object, mend_end
from pop_actors.storage.findings import Finding
from pop_actors.storage.jsonl import AppendLog, read_backwards
from pop_actors.storage.layout import Workspace
from pop_actors.storage.set_aside import status_on_disk

NEWEST = 1000
TAIL_BYTES = 4 * 1024 * 1024
CLOCK_SLACK_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Known:
    """The runs that have a line; `since` is the end of the oldest of them that was read, empty for all."""

    runs: frozenset[str]
    since: str


def inspect_history(workspace: Workspace, *, everything: bool) -> Iterator[Finding]:
    """What is wrong with the record of finished runs."""
    runs = workspace.runs
    if os.path.lexists(runs) and not runs.is_file():
        yield Finding("error", str(runs), "is no file", "start popd: it is put aside, and a new one begun")
        return
    broken = _broken_lines(runs, everything=everything)
    if broken:
        yield Finding("note", str(runs), f"{broken} broken lines, which are passed over")
    for document in _unrecorded(workspace, everything=everything):
        path = str(workspace.finished(document["id"]).path)
        todo = "with popd stopped: popctl doctor --repair"
        yield Finding("warning", path, "is done and has no line in runs.jsonl", todo, document["id"], repairable=True)


def record_missing(workspace: Workspace, *, everything: bool) -> list[str]:
    """Append the lines that are missing, from the last status of each job; the job ids. No popd runs meanwhile."""
    mend_end(workspace.runs)
    missing = [(job["id"], run_line(job, job["lastUpdated"])) for job in _unrecorded(workspace, everything=everything)]
    if missing:
        log = AppendLog(workspace.runs)
        try:
            log.append([line for _, line in missing])
            log.sync()
        finally:
            log.close()
    return [job_id for job_id, _ in missing]


def _unrecorded(workspace: Workspace, *, everything: bool) -> list[Document]:
    """The statuses of finished jobs whose run has no line, oldest first."""
    lines = read_backwards(workspace.runs)
    known = _known(lines if everything else islice(lines, NEWEST), everything=everything)
    found: dict[str, Document] = {}
    for job_id, changed in _finished(workspace, None if everything else NEWEST):
        if changed < known.since:
            continue
        document = status_on_disk(workspace.finished(job_id).status, job_id).known
        if document is not None and document["state"] == "done" and document["pipelineId"] not in known.runs:
            found[document["pipelineId"]] = document
    if found:  # somebody may have touched an old folder: before it is said, the whole record is asked
        for line in read_backwards(workspace.runs):
            found.pop(str(line.get("pipelineId")), None)
    return sorted(found.values(), key=lambda document: str(document["lastUpdated"]))


def _broken_lines(runs: Path, *, everything: bool) -> int:
    try:
        with runs.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0 if everything else max(0, size - TAIL_BYTES))
            if file.tell():
                file.readline()
            return sum(not is_object(line) for line in file if line.strip())
    except OSError:
        return 0


def _known(lines: Iterator[dict[str, Any]], *, everything: bool) -> _Known:
    runs, since, count = set(), "", 0
    for line in lines:
        count += 1
        runs.add(str(line.get("pipelineId")))
        since = str(line.get("finishedAt", since))
    return _Known(frozenset(runs), since if count == NEWEST and not everything else "")


def _finished(workspace: Workspace, most: int | None) -> list[tuple[str, str]]:
    """(job id, when its folder was last changed, less a minute); at most so many, as the folder lists them."""
    try:
        with os.scandir(workspace.complete) as entries:
            jobs = (entry for entry in entries if is_job_id(entry.name) and entry.is_dir(follow_symlinks=False))
            return [
                (entry.name, timestamp(entry.stat(follow_symlinks=False).st_mtime - CLOCK_SLACK_SECONDS))
                for entry in islice(jobs, most)
            ]
    except OSError:
        return []
