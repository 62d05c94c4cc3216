"""output.json of a task: read, and written anew from the task's checkpoint where it is damaged or gone.

Used by the job's process when a task builds on another, and by repair. What is rebuilt is proved by the log first.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

import orjson

from pop_actors.core.events import FileKind, TaskDone
from pop_actors.core.ids import is_task_name
from pop_actors.core.salvage import FinishedTask
from pop_actors.core.stages import VALIDATION_STAGES
from pop_actors.errors import Damaged
from pop_actors.storage.damage import keep_copy
from pop_actors.storage.files import read_json, readable_json, replace, sync_directory
from pop_actors.storage.job_log import whole_lines
from pop_actors.storage.layout import JobDirectory

_KINDS: dict[str, tuple[type, ...]] = {
    "stage": (str,), "ok": (bool,), "ms": (int, float), "runId": (str,), "attempt": (int,),
}  # fmt: skip
ROUNDING_MS = 0.002
_log = logging.getLogger("pop_actors.recovery")


def read_output(job: JobDirectory, task: str) -> Any:
    """The final output of a task that is done, rebuilt where its file is damaged or missing. Damaged where it cannot
    be."""
    try:
        return output_on_disk(job, task)["content"]
    except Damaged as error:
        _log.warning("%s", error)
        return rebuild_output(job, task, str(error))


def output_on_disk(job: JobDirectory, task: str) -> dict[str, Any]:
    """{content, metadata: {runId, attempt, …}, timestamp} as it lies there. Damaged where it does not."""
    path = job.task(task).output
    try:
        entry = read_json(path)[task]
        metadata = entry["metadata"]
        if "content" in entry and isinstance(metadata["runId"], str) and isinstance(metadata["attempt"], int):
            found: dict[str, Any] = entry
            return found
    except (OSError, KeyError, TypeError) as error:
        raise Damaged(f"{path}: is not the output of task {task}: {error!r}") from None
    raise Damaged(f"{path}: is not the output of task {task}: it does not say of which run it is")


def rebuild_output(job: JobDirectory, task: str, why: str) -> Any:
    """Write output.json from checkpoint.jsonl; the output. Damaged where that would be a guess: the stages on record
    must be exactly those the task was done with, which the times they took tell."""
    path = job.task(task).output
    try:
        line, done = _final_line(job, task)
    except Damaged as error:
        again = f"run that task again: popctl restart {job.path.name} --from {task}"
        raise Damaged(f"{why}; and {error}; {again}") from None
    if os.path.lexists(path):
        keep_copy(path)
    metadata = {"jobId": job.path.name, "runId": line["runId"], "attempt": done.attempt, "rebuilt": True}
    entry = {"content": line["output"], "metadata": metadata, "timestamp": done.at}
    replace(path, readable_json({task: entry}), durable=True)
    sync_directory(path.parent)
    _log.warning("%s was written anew from the task's checkpoint", path)
    return entry["content"]


def can_be_rebuilt(job: JobDirectory, task: str) -> bool:
    """Whether `rebuild_output` would succeed."""
    try:
        _final_line(job, task)
    except Damaged:
        return False
    return True


def finished_tasks(job: JobDirectory) -> dict[str, FinishedTask]:
    """Every task whose output lies there whole."""
    found: dict[str, FinishedTask] = {}
    try:
        names = os.listdir(job.path / "tasks")
    except OSError:
        return found
    for name in sorted(filter(is_task_name, names)):
        try:
            entry = output_on_disk(job, name)
        except Damaged:
            continue
        metadata = entry["metadata"]
        lines = checkpoint_lines(job, name)[0]
        own = [line for line in lines if line["runId"] == metadata["runId"]]
        found[name] = FinishedTask(
            run_id=metadata["runId"],
            attempt=metadata["attempt"],
            at=str(entry.get("timestamp", "")),
            milliseconds=round(sum(line["ms"] for line in own), 3),
            files=tuple(file for line in own for file in _files_of(line)),
        )
    return found


def _files_of(line: dict[str, Any]) -> Iterator[tuple[FileKind, str]]:
    files = line.get("files")
    for file in files if isinstance(files, list) else ():
        match file:
            case ["artifacts" | "logs" | "tmp" as kind, str(name)]:
                yield kind, name


def checkpoint_lines(job: JobDirectory, task: str) -> tuple[list[dict[str, Any]], int]:
    """The lines of a task's checkpoint up to the first broken one, and that one's number, from 1 (0: none is)."""
    try:
        content = job.task(task).checkpoint.read_bytes()
    except FileNotFoundError:
        return [], 0
    except OSError:
        return [], 1
    lines: list[dict[str, Any]] = []
    *whole, rest = content.split(b"\n")
    for number, raw in enumerate(whole, 1):
        line = _line(raw)
        if line is None:
            return lines, number
        lines.append(line)
    return lines, len(whole) + 1 if rest else 0


def _line(raw: bytes) -> dict[str, Any] | None:
    try:
        line = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(line, dict) or "output" not in line:
        return None
    return line if all(isinstance(line.get(key), kinds) for key, kinds in _KINDS.items()) else None


def _final_line(job: JobDirectory, task: str) -> tuple[dict[str, Any], TaskDone]:
    """The line of the checkpoint whose output is the task's, and the event that says it was done. Damaged where the
    checkpoint does not have every stage."""
    lines, broken = checkpoint_lines(job, task)
    done = _done(job, task)
    if broken or not lines or done is None:
        raise Damaged(f"line {broken} of its checkpoint is broken" if broken else "its checkpoint has nothing of it")
    run = [line for line in lines if line["runId"] == lines[-1]["runId"]]
    if abs(round(sum(line["ms"] for line in run), 3) - done.execution_time) > ROUNDING_MS:
        raise Damaged("its checkpoint does not have every stage")
    attempt = [line for line in run if line["attempt"] == done.attempt]
    final = [line for line in attempt if line["stage"] not in VALIDATION_STAGES]
    if not final or not all(line["ok"] for line in attempt):
        raise Damaged("no stage left one in its checkpoint")
    return final[-1], done


def _done(job: JobDirectory, task: str) -> TaskDone | None:
    """The task's newest TaskDone in the job's log."""
    try:
        events = list(whole_lines(job.events.read_bytes()))
    except OSError:
        return None
    return next((event for event in reversed(events) if isinstance(event, TaskDone) and event.task == task), None)
