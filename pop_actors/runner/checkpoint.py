"""checkpoint.jsonl: one line per finished stage of a task, so that a finished stage never runs again.

The task's thread appends; nobody else writes it. A line is one write, made when what its stage wrote is on disk; they
are fsynced where an attempt fails. Nobody relies on those of a task that is done.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pop_actors.storage.files import replace
from pop_actors.storage.jsonl import AppendLog

_log = logging.getLogger("pop_actors.runner")


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


def _line_of(document: Any) -> Line:
    """ValueError where it is no line of a checkpoint."""
    try:
        line = Line(
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
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"no line of a checkpoint: {error!r}") from None
    if not _has_its_types(line):
        raise ValueError("no line of a checkpoint: a value has another type")
    return line


def _has_its_types(line: Line) -> bool:
    texts = (line.stage, line.started_at, line.run_id)
    numbers = (line.round, line.attempt)
    return (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) for number in numbers)
        and isinstance(line.ok, bool)
        and isinstance(line.ms, int | float)
        and isinstance(line.flags, dict)
        and isinstance(line.calls, list)
        and isinstance(line.files, list)
        and all(isinstance(file, list) and list(map(type, file)) == [str, str] for file in line.files)
        and (line.failure is None if line.ok else _says_why(line.failure))
    )


def _says_why(failure: Any) -> bool:
    """Whether it is the document of a `Failure`."""
    if not isinstance(failure, dict) or not isinstance(error := failure.get("error"), dict):
        return False
    texts = (failure.get("reason"), error.get("name"), error.get("message"), error.get("stack", ""))
    return isinstance(failure.get("final"), bool) and all(isinstance(text, str) for text in texts)


def _whole_lines(content: bytes) -> tuple[list[Line], int]:
    """The lines before the first broken one, and how many bytes they are. Whatever comes after that one is not trusted:
    those stages run again, and their calls are replayed."""
    lines: list[Line] = []
    size = 0
    for raw in content.splitlines(keepends=True):
        try:
            if not raw.endswith(b"\n"):
                break
            lines.append(_line_of(orjson.loads(raw)))
        except ValueError:
            break
        size += len(raw)
    return lines, size


class Checkpoint:
    """A task's checkpoint in one run, open for appending."""

    def __init__(self, path: Path, run_id: str, *, fresh: bool) -> None:
        """`fresh`: there is nothing of this run to read back. Else what is there is taken over into a file of its own:
        a descriptor that something of an earlier process still holds leads to the old one, which nobody reads again."""
        self.lines: list[Line] = []
        if not fresh:
            self.lines = [line for line in _take_over(path) if line.run_id == run_id]
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


def _take_over(path: Path) -> list[Line]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    lines, size = _whole_lines(content)
    if size < len(content):
        _log.warning("%s: %d bytes behind its %d whole lines were dropped", path, len(content) - size, len(lines))
    replace(path, content[:size])
    return lines
