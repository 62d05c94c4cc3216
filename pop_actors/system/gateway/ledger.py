"""The daily ledger: a line for every call that cost something, in `state/spend/{day}.jsonl`, so that budgets survive
restarts. It follows the journals of the jobs, which decide: what a crash kept out of it is taken from them.

Used by the gateway's loop only. Files of other days are never read; they are the account of what was spent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from pop_actors.core.budgets import day_of
from pop_actors.core.ids import seconds_of, timestamp
from pop_actors.errors import Damaged
from pop_actors.storage import disk
from pop_actors.storage.files import read_json, sync_directory
from pop_actors.storage.jsonl import AppendLog, read_backwards, read_lines
from pop_actors.storage.layout import JobDirectory, Workspace

FOLDER = "spend"
WRITE_SECONDS = 0.05
SYNC_SECONDS = 1.0
SLACK_SECONDS = 60.0
"""By how much the ledger may lag behind the journals when the power goes, with a disk that is slow."""
MOST_PENDING = 10_000

_log = logging.getLogger("pop_actors.gateway")


@dataclass(frozen=True, slots=True)
class Entry:
    """A paid call. `cost_usd` None: the price is unknown. `key` is the journal's; a probe has one of its own."""

    key: str
    job_id: str
    pipeline: str
    provider: str
    model: str
    cost_usd: float | None
    at: str

    def document(self) -> dict[str, Any]:
        """Its line of the ledger."""
        return {
            "key": self.key,
            "job_id": self.job_id,
            "pipeline": self.pipeline,
            "provider": self.provider,
            "model": self.model,
            "cost_usd": self.cost_usd,
            "at": self.at,
        }


class DailyLedger:
    """Appends today's entries, those of a moment together: they are in the file soon, and on disk soon after that."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER
        self._day = ""
        self._log: AppendLog | None = None
        self._pending: list[Entry] = []
        self._pending_day = ""
        self._write_due: asyncio.TimerHandle | None = None
        self._sync_due: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def append(self, entry: Entry, day: str) -> None:
        """Have it put down. What the disk refuses is kept and put down with a later one; the journals have it too."""
        if day != self._pending_day:
            self.write()
            self._pending_day = day
        self._pending.append(entry)
        if self._write_due is None:
            self._write_due = self._loop.call_later(WRITE_SECONDS, self.write)

    def write(self) -> None:
        """What is to be put down, now; it is on disk a moment later."""
        if self._write_due is not None:
            self._write_due.cancel()
            self._write_due = None
        if not self._pending:
            return
        del self._pending[:-MOST_PENDING]
        try:
            self._open(self._pending_day).append([entry.document() for entry in self._pending])
        except OSError as error:
            _log.warning("the ledger in %s could not be written: %s; it is tried again", self._folder, error)
            return
        self._pending.clear()
        if self._sync_due is None:
            self._sync_due = self._loop.call_later(SYNC_SECONDS, self._sync)

    def close(self) -> None:
        """Everything on disk, the file closed. Only when nothing is appended any more."""
        self.write()
        if self._sync_due is not None:
            self._sync_due.cancel()
        if self._log is not None:
            with contextlib.suppress(OSError):
                self._log.sync()
            self._log.close()
            self._log = None

    def _open(self, day: str) -> AppendLog:
        if self._log is not None and day == self._day:
            return self._log
        if self._log is not None:
            self._log.sync()
            self._log.close()
            self._log = None
        disk.make_folder(self._folder)
        self._log, self._day = AppendLog(self._folder / f"{day}.jsonl"), day
        for folder in (self._folder, self._folder.parent):
            sync_directory(folder)
        return self._log

    def _sync(self) -> None:
        """In a thread; a failure is no loss, since the journals are on disk."""
        self._sync_due = None
        log = self._log
        if log is not None:
            self._loop.run_in_executor(None, _sync_quietly, log)


def _sync_quietly(log: AppendLog) -> None:
    try:
        log.sync()
    except (OSError, ValueError) as error:  # ValueError: closed meanwhile, after a sync of its own
        _log.warning("%s could not be synced: %s", log.path, error)


def spent_today(workspace: Workspace, now: float) -> list[Entry]:
    """Every call paid today: what the ledger has, and what the journals have and a crash kept out of it.

    Looked for in the journals of current/ that were written since shortly before the ledger's last line, and in those
    of the runs that completed just before the crash. So it costs what a day costs, however long the history.
    """
    day = day_of(now)
    entries = {entry.key: entry for entry in _entries(workspace.state / FOLDER / f"{day}.jsonl")}
    midnight = f"{day}T00:00:00.000Z"
    since = max([midnight, *(_earlier(entry.at) for entry in list(entries.values())[-1:])])
    found = [
        entry
        for job, pipeline in _jobs_paid_since(workspace, since)
        for entry in _paid_since(job, pipeline, since)
        if entry.key not in entries
    ]
    return [*entries.values(), *found]


def _entries(path: Path) -> Iterator[Entry]:
    try:
        for _, line in read_lines(path):
            with contextlib.suppress(TypeError):  # a line that is something else
                yield Entry(**line)
    except FileNotFoundError:
        return
    except Damaged as error:
        _log.warning("%s; what follows is taken from the journals of current/", error)


def _jobs_paid_since(workspace: Workspace, since: str) -> Iterator[tuple[JobDirectory, str]]:
    """Jobs that may have paid since then, with their pipelines."""
    moment = seconds_of(since)
    for name in _names(workspace.current):
        directory = workspace.job(name)
        if _changed(directory.calls) >= moment - SLACK_SECONDS:
            yield directory, _pipeline_of(directory)
    newest: list[str] = []

    def is_recent(run: dict[str, Any]) -> bool:
        finished = str(run.get("finishedAt", ""))
        newest.append(finished)
        return finished >= max(since, _earlier(newest[0]))

    for run in takewhile(is_recent, read_backwards(workspace.runs)):
        if run.get("costUsd") != 0 and isinstance(run.get("id"), str):
            yield workspace.finished(run["id"]), str(run.get("pipeline", ""))


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _changed(path: Path) -> float:
    """When a file was written last, seconds since the epoch; never, where there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return -math.inf


def _pipeline_of(job: JobDirectory) -> str:
    """The empty name where its status cannot be read: then its calls count for all budgets but the pipeline's."""
    try:
        return str(read_json(job.status)["pipeline"])
    except (OSError, Damaged, KeyError, TypeError):
        return ""


def _paid_since(job: JobDirectory, pipeline: str, since: str) -> Iterator[Entry]:
    """The calls a journal says were paid since then, from its end."""
    try:
        for record in takewhile(lambda line: str(line.get("at", since)) >= since, read_backwards(job.calls)):
            cost = record.get("costUsd", 0)
            if record.get("type") in {"paid", "failed"} and cost != 0 and isinstance(record.get("key"), str):
                yield Entry(
                    record["key"], job.path.name, pipeline, str(record.get("provider")), str(record.get("model")),
                    float(cost) if isinstance(cost, int | float) else None, str(record.get("at")),
                )  # fmt: skip
    except OSError as error:
        _log.warning("%s could not be read for what was spent: %s", job.calls, error)


def _earlier(at: str) -> str:
    """A moment some slack before."""
    try:
        return timestamp(seconds_of(at) - SLACK_SECONDS)
    except ValueError:
        return ""
