"""A journal whose lines were damaged is read as far as it makes sense, and stops nobody."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pop_actors.storage.jsonl import json_line
from pop_actors.system.gateway.journal_records import paid_calls

PAID: dict[str, Any] = {
    "type": "paid",
    "key": "k1",
    "runId": "pl-1",
    "task": "a",
    "provider": "offline",
    "model": "m",
    "at": "2026-01-01T00:00:00.000Z",
    "usage": {"inputTokens": 3, "outputTokens": 4},
    "costUsd": 0.5,
    "reply": {"content": "x"},
}
WRONG: dict[str, Any] = {
    "usage": "none", "costUsd": "much", "task": 7, "at": None, "provider": [], "runId": ["pl-1"], "key": 9,
}  # fmt: skip


@pytest.mark.parametrize("key", WRONG)
def test_a_record_with_a_value_of_another_kind_is_passed_over(
    tmp_path: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a warning that says where; the records around it are booked."""
    caplog.set_level(logging.WARNING)
    path = tmp_path / "llm-calls.jsonl"
    path.write_bytes(json_line(PAID) + json_line({**PAID, key: WRONG[key]}) + json_line({**PAID, "key": "k2"}))
    assert [paid.key for paid in paid_calls(path, "pl-1")] == ["k1", "k2"]
    assert "byte" in caplog.text


def test_zeros_lists_and_torn_lines_are_passed_over(tmp_path: Path) -> None:
    """As a power cut, or another hand, may leave them."""
    path = tmp_path / "llm-calls.jsonl"
    path.write_bytes(bytes(100) + b"\n[1]\nnull\n\n" + json_line(PAID) + b'{"type":"paid","key":"k')
    assert [paid.key for paid in paid_calls(path)] == ["k1"]
    assert list(paid_calls(tmp_path / "absent")) == []
