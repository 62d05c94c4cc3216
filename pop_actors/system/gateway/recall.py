"""What was asked of providers shortly before this start, from the jobs' journals: providers count on through a restart.

Read once, when the gateway starts, and only as far back as a limit reaches.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

from pop_actors.core.ids import seconds_of, timestamp
from pop_actors.core.token_guess import Tokens
from pop_actors.storage.jsonl import read_backwards
from pop_actors.storage.layout import JobDirectory, Workspace


class Asked(NamedTuple):
    """A request that was sent then (seconds since the epoch), or, `requests` 0, the tokens of one that was paid."""

    at: float
    provider: str
    model: str
    requests: float
    tokens: Tokens


def asked_since(workspace: Workspace, moment: float) -> list[Asked]:
    """All that was, oldest first. Costs what that time costs, however long the history."""
    since = timestamp(moment)
    found = [asked for job in _jobs(workspace, moment, since) for asked in _asked_in(job, since)]
    return sorted(found, key=lambda asked: asked.at)


def _jobs(workspace: Workspace, moment: float, since: str) -> Iterator[JobDirectory]:
    """Those whose journal was written since."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(workspace.current):
            job = workspace.job(name)
            if _changed(job.calls) >= moment:
                yield job
    for run in takewhile(lambda run: str(run.get("finishedAt", "")) >= since, read_backwards(workspace.runs)):
        if isinstance(run.get("id"), str):
            yield workspace.finished(run["id"])


def _asked_in(job: JobDirectory, since: str) -> Iterator[Asked]:
    with contextlib.suppress(OSError):
        for record in takewhile(lambda line: str(line.get("at", since)) >= since, read_backwards(job.calls)):
            with contextlib.suppress(KeyError, TypeError, ValueError):  # a damaged line
                asked = _asked(record)
                if asked is not None:
                    yield asked


def _asked(record: dict[str, Any]) -> Asked | None:
    at, provider, model = seconds_of(record["at"]), str(record["provider"]), str(record["model"])
    if record["type"] == "sent":
        return Asked(at, provider, model, 1.0, Tokens(0.0, 0.0))
    usage = record.get("usage")
    if usage is None:
        return None
    return Asked(at, provider, model, 0.0, Tokens(float(usage["inputTokens"]), float(usage["outputTokens"])))


def _changed(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0
