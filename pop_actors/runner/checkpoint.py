"""checkpoint.jsonl: one line per finished stage of a task, so that a finished stage never runs again.

The task's thread appends; nobody else writes it. A line is one write; they are fsynced once, at the attempt's end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pop_actors.storage.jsonl import AppendLog, read_lines


@dataclass(frozen=True, slots=True)
class Line:
    """A finished stage. `flags` are the merged flags after it; `files` are (kind, name), `calls` its paid replies.

    Of a stage that failed, `ok` is False and `failure` says {reason, final, error}.
    """

    stage: str
    round: int
    ok: bool
    ms: float
    output: Any
    flags: dict[str, Any]
    started_at: str
    run_id: str
    attempt: int
    files: list[list[str]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    failure: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """The JSON object of the line; what is empty is left out where the contract does not ask for it."""
        document: dict[str, Any] = {
            "stage": self.stage,
            "round": self.round,
            "ok": self.ok,
            "ms": self.ms,
            "output": self.output,
            "flags": self.flags,
            "startedAt": self.started_at,
            "runId": self.run_id,
            "attempt": self.attempt,
        }
        extras = {"files": self.files, "calls": self.calls, "failure": self.failure}
        return document | {key: value for key, value in extras.items() if value}


def _line_of(document: dict[str, Any]) -> Line:
    return Line(
        stage=document["stage"],
        round=document["round"],
        ok=document["ok"],
        ms=document["ms"],
        output=document["output"],
        flags=document["flags"],
        started_at=document["startedAt"],
        run_id=document["runId"],
        attempt=document["attempt"],
        files=document.get("files", []),
        calls=document.get("calls", []),
        failure=document.get("failure"),
    )


class Checkpoint:
    """A task's checkpoint in one run, open for appending."""

    def __init__(self, path: Path, run_id: str, *, fresh: bool) -> None:
        """`fresh`: there is nothing of this run to read back."""
        self.lines: list[Line] = []
        if not fresh and path.exists():
            self.lines = [_line_of(document) for _, document in read_lines(path) if document["runId"] == run_id]
        self._log = AppendLog(path)

    def find(self, attempt: int, stage: str, number: int) -> Line | None:
        """The newest line of that stage in that attempt."""
        for line in reversed(self.lines):
            if (line.attempt, line.stage, line.round) == (attempt, stage, number):
                return line
        return None

    def append(self, line: Line) -> None:
        """Write a line; OSError where the disk refuses."""
        self._log.append([line.document()])
        self.lines.append(line)

    def of_attempt(self, attempt: int) -> list[Line]:
        """The lines of one attempt, oldest first."""
        return [line for line in self.lines if line.attempt == attempt]

    @property
    def milliseconds(self) -> float:
        """How long the stages of this run took, over all attempts."""
        return round(sum(line.ms for line in self.lines), 3)

    def sync(self) -> None:
        """Return once all lines are on disk."""
        self._log.sync()

    def close(self) -> None:
        self._log.close()
