"""What a job's process wrote to its logs and could not report any more when it was killed. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pop_actors.core.events import FileWritten
from pop_actors.core.stages import STAGES
from pop_actors.core.status import Document
from pop_actors.storage.process_log import PROCESS_LOG

LOGGING_STAGES = ("load", *STAGES)


def unlisted_logs(logs: Path, document: Document, at: str) -> Iterator[FileWritten]:
    """The event of each log of a stage, and of the process, that lies there and that the job's status does not list.

    An empty one says nothing; what a task put there by itself is not looked at.
    """
    tasks = _tasks_by_log(document)
    for name in sorted(_with_content(logs) - set(document["files"]["logs"])):
        task = tasks.get(name)
        if task is not None:
            yield FileWritten(at=at, task=task, kind="logs", name=name)


def _tasks_by_log(document: Document) -> dict[str, str | None]:
    stages = {f"{task}-{stage}.log": task for task in document["tasks"] for stage in LOGGING_STAGES}
    return {**stages, PROCESS_LOG: document["current"]}


def _with_content(logs: Path) -> set[str]:
    try:
        with os.scandir(logs) as entries:
            return {entry.name for entry in entries if entry.is_file() and entry.stat().st_size}
    except OSError:  # there is no such folder, or the job has put something else in its place
        return set()
