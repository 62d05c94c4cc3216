"""What the lines of a job's `llm-calls.jsonl` say: read whole, with what is damaged passed over.

The gateway reads them when it opens a journal, the status-writer when it takes a job up. Nothing here writes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from pop_actors.core.chat import Usage
from pop_actors.core.events import CallPaid

_BOOKED_FIELDS = frozenset({"task", "provider", "model", "usage", "costUsd", "at"})
_log = logging.getLogger("pop_actors.gateway")


def paid_calls(path: Path | str, run_id: str | None = None) -> Iterator[CallPaid]:
    """The event of each settled call in a journal, oldest first; only those of that run where one is given.

    An absent journal has none. Broken lines are passed over.
    """
    try:
        for _, record in records(path):
            if is_settled(record) and run_id in {None, record.get("runId")}:
                yield paid_event(record)
    except FileNotFoundError:
        return


def paid_event(record: dict[str, Any]) -> CallPaid:
    """The event that books a settled record."""
    usage = Usage.model_validate(record["usage"])
    return CallPaid(
        at=record["at"],
        key=record["key"],
        task=record["task"],
        provider=record["provider"],
        model=record["model"],
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd=record["costUsd"],
    )


def is_settled(record: dict[str, Any]) -> bool:
    """Money was spent: a reply came, or a failure that says what it used."""
    return record.get("type") == "paid" or (record.get("type") == "failed" and "usage" in record)


def records(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each whole record with its offset. What is not a record (a block lost in a power cut) is passed over."""
    offset = 0
    with open(path, "rb") as file:
        for line in file:
            record = _record(line)
            if record is not None:
                yield offset, record
            elif line.endswith(b"\n"):
                _log.warning("%s: the line at byte %d is no record of a call; passed over", path, offset)
            offset += len(line)


def _record(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("key"), str):
        return None
    return record if not is_settled(record) or _can_be_booked(record) else None


def _can_be_booked(record: dict[str, Any]) -> bool:
    """Whether a damaged line is not merely JSON by chance: what it cost can be read from it."""
    if not record.keys() >= _BOOKED_FIELDS or not isinstance(record.get("runId", ""), str):
        return False
    try:
        paid_event(record)
    except ValidationError:
        return False
    return True
