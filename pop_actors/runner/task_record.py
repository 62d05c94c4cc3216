"""A task's papers: letter.json when an attempt begins and ends, output.json, execution-logs.json, failure details."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pop_actors.core.ids import timestamp
from pop_actors.core.job_spec import JobSpec, TaskEntry
from pop_actors.runner.checkpoint import Line
from pop_actors.runner.failures import Failure
from pop_actors.runner.progress import Trod
from pop_actors.storage import disk
from pop_actors.storage.damage import make_way
from pop_actors.storage.files import readable_json, replace, sync_directory, write_first
from pop_actors.storage.layout import JobDirectory, TaskDirectory

_log = logging.getLogger("pop_actors.runner")


class TaskRecord:
    """The papers of one attempt. Used by the task's thread only."""

    def __init__(self, job: JobDirectory, spec: JobSpec, entry: TaskEntry, attempt: int, upstream: Sequence[str]):
        self.directory: TaskDirectory = job.task(entry.name)
        self._logs = job.files("logs")
        self._task = entry.name
        self.details = f"{entry.name}-failure-details.json"
        """What a failed attempt leaves under files/logs."""
        self._letter: dict[str, Any] = {
            "task": entry.name,
            "jobId": spec.job_id,
            "runId": spec.run_id,
            "pipeline": spec.pipeline,
            "mode": spec.mode,
            "attempt": attempt,
            "state": "running",
            "config": entry.config,
            "llm": spec.llm.model_dump(by_alias=True, exclude_none=True),
            "llmOverride": spec.llm_override.model_dump(by_alias=True, exclude_none=True),
            "upstream": list(upstream),
            "startedAt": timestamp(time.time()),
        }

    def open(self, *, fresh: bool = False) -> None:
        """Write the letter that starts the attempt. What lies in the way of the task's files is put aside: stages whose
        checkpoint is lost run again, and their calls are replayed. `fresh`: nothing can lie there yet."""
        letter = readable_json(self._letter)
        if fresh:
            with contextlib.suppress(FileNotFoundError):  # the claim made the folder; who does without has it made here
                write_first(self.directory.letter, letter)
                return
        self._make_way()
        write_first(self.directory.letter, letter)

    def _make_way(self) -> None:
        disk.make_folder(self.directory.path)
        for path in self.directory.files:
            aside = make_way(path)
            if aside is not None:
                _log.warning("%s: was no file that can be read and written; it was put aside as %s", path, aside.name)

    def forget_control(self) -> None:
        """What an earlier attempt wanted done with the run, or a stage that was broken off, is of no account."""
        with contextlib.suppress(FileNotFoundError):
            if make_way(self.directory.control) is None:
                disk.unlink(self.directory.control)
            sync_directory(self.directory.path)  # this attempt's stages are not to be found with it after a power cut

    def close_well(self, output: Any, lines: Sequence[Line], path: Sequence[Trod]) -> None:
        """Write what a task that succeeded leaves behind; on disk when this returns, the checkpoint apart."""
        now = timestamp(time.time())
        document = {self._task: {"content": output, "metadata": self._metadata(), "timestamp": now}}
        replace(self.directory.output, readable_json(document), durable=True)
        self._close("done", lines, path, now, None)
        sync_directory(self.directory.path)

    def close_badly(self, failure: Failure, lines: Sequence[Line], path: Sequence[Trod], last_output: Any) -> None:
        """Write what a failed attempt leaves behind, its file of details with it."""
        self._close("error", lines, path, timestamp(time.time()), failure)
        details = {
            "task": self._task,
            "attempt": self._letter["attempt"],
            "stage": failure.stage,
            "reason": failure.reason,
            "error": {"name": failure.error.name, "message": failure.error.message},
            "stack": failure.error.stack,
            "flags": _flags(lines),
            "lastOutput": last_output,
            "at": timestamp(time.time()),
        }
        disk.make_folder(self._logs)
        replace(self._logs / self.details, readable_json(details))

    def _metadata(self) -> dict[str, Any]:
        return {key: self._letter[key] for key in ("jobId", "runId", "attempt")}

    def _close(
        self,
        state: str,
        lines: Sequence[Line],
        path: Sequence[Trod],
        now: str,
        failure: Failure | None,
    ) -> None:
        own = [line for line in lines if line.attempt == self._letter["attempt"]]
        end: dict[str, Any] = {
            "state": state,
            "startedAt": own[0].started_at if own else self._letter["startedAt"],
            "endedAt": now,
            "calls": [call for line in own for call in line.calls],
            "validation": _flags(own),
        }
        if failure is not None:
            end["error"] = {"stage": failure.stage, "reason": failure.reason, "message": failure.error.message}
        write_first(self.directory.letter, readable_json(self._letter | end))
        write_first(self.directory.execution_logs, readable_json(_entries(lines, path, self._letter["attempt"], now)))


def _flags(lines: Sequence[Line]) -> Mapping[str, Any]:
    return lines[-1].flags if lines else {}


def _entries(lines: Sequence[Line], path: Sequence[Trod], attempt: int, now: str) -> list[dict[str, Any]]:
    """Earlier attempts as they went, then this one with what it skipped, in order; last the stage that failed."""
    own = {(line.stage, line.round): line for line in lines if line.attempt == attempt}
    entries = [_entry(line) for line in lines if line.attempt != attempt]
    for trod in path:
        line = own.pop((trod.stage, trod.round), None)
        entries.append(_skipped(attempt, now, trod) if line is None else _entry(line))
    return entries + [_entry(line) for line in own.values()]


def _entry(line: Line) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "timestamp": line.started_at,
        "level": "info" if line.ok else "error",
        "message": f"{line.stage} {'finished' if line.ok else 'failed'} after {line.ms:g} ms",
        "stage": line.stage,
        "round": line.round,
        "attempt": line.attempt,
        "ms": line.ms,
        "ok": line.ok,
    }
    if line.failure is not None:
        entry["reason"] = line.failure["reason"]
        entry["error"] = line.failure["error"]["message"]
    return entry


def _skipped(attempt: int, now: str, trod: Trod) -> dict[str, Any]:
    return {
        "timestamp": now,
        "level": "info",
        "message": f"{trod.stage} skipped: {trod.skipped}",
        "stage": trod.stage,
        "round": trod.round,
        "attempt": attempt,
        "skipped": True,
    }
