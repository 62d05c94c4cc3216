"""A checkpoint that is read back: what is whole counts, what is not is dropped, no old descriptor matters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pop_actors.runner.checkpoint import Checkpoint, Line

RUN = "pl-1"


def line(stage: str, run_id: str = RUN, **more: Any) -> Line:
    fields: dict[str, Any] = {"ok": True, "ms": 1.5, "output": {"of": stage}, "flags": {}, "started_at": "t"}
    return Line(stage=stage, round=0, run_id=run_id, attempt=1, **{**fields, **more})


def fill(path: Path, *stages: str) -> bytes:
    path.unlink(missing_ok=True)
    checkpoint = Checkpoint(path, RUN, fresh=True)
    for stage in stages:
        checkpoint.append(line(stage))
    checkpoint.close()
    return path.read_bytes()


def reopened(path: Path) -> list[str]:
    checkpoint = Checkpoint(path, RUN, fresh=False)
    checkpoint.append(line("later"))
    checkpoint.close()
    return [known.stage for known in checkpoint.lines]


def test_what_was_finished_is_found_again(tmp_path: Path) -> None:
    """With all that a line says."""
    path = tmp_path / "c"
    fill(path, "ingestion")
    whole = line("parsing", files=[["tmp", "x"]], calls=[{"costUsd": 1}])
    failed = line(
        "critique", ok=False, failure={"reason": "timeout", "final": False, "error": {"name": "n", "message": "m"}}
    )
    checkpoint = Checkpoint(path, RUN, fresh=False)
    checkpoint.append(whole)
    checkpoint.append(failed)
    checkpoint.close()
    assert Checkpoint(path, RUN, fresh=False).lines == [line("ingestion"), whole, failed]


def test_lines_of_an_earlier_run_stay_and_do_not_count(tmp_path: Path) -> None:
    """They are the record of that run."""
    path = tmp_path / "c"
    fill(path, "ingestion")
    checkpoint = Checkpoint(path, "pl-2", fresh=False)
    assert checkpoint.lines == []
    checkpoint.append(line("parsing", "pl-2"))
    checkpoint.close()
    assert len(path.read_bytes().splitlines()) == 2


BROKEN = {
    "torn": b'{"stage": "parsing", "rou',
    "zeros": bytes(4096),
    "zeros as a line": bytes(64) + b"\n",
    "no JSON": b"%PDF-1.4\n",
    "no UTF-8": b'{"stage": "\xff"}\n',
    "another value": b"[1, 2]\n",
    "another object": b'{"stage": "parsing"}\n',
    "another type": orjson.dumps(line("parsing").document() | {"ms": "long"}) + b"\n",
    "files that are none": orjson.dumps(line("parsing").document() | {"files": [["tmp"]]}) + b"\n",
    "failed without saying why": orjson.dumps(line("parsing").document() | {"ok": False}) + b"\n",
    "failed for garbage": orjson.dumps(
        line("parsing", ok=False, failure={"reason": 1, "final": False, "error": {}}).document()
    )
    + b"\n",
    "deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_what_follows_a_broken_line_is_not_trusted(tmp_path: Path, kind: str) -> None:
    """Those stages run again; the file is whole from then on."""
    path = tmp_path / "c"
    fill(path, "ingestion")
    with path.open("ab") as file:
        file.write(BROKEN[kind])
        file.write(orjson.dumps(line("inference").document()) + b"\n")
    assert reopened(path) == ["ingestion", "later"]
    assert reopened(path) == ["ingestion", "later", "later"]


@given(cut=st.integers(0, 400), garbage=st.binary(max_size=60))
@example(cut=0, garbage=b"\n")
def test_no_damage_stops_a_resume(tmp_path_factory: pytest.TempPathFactory, cut: int, garbage: bytes) -> None:
    """Whatever lies there from some byte on, the lines before it count, and no others."""
    path = tmp_path_factory.mktemp("damage") / "c"
    content = fill(path, "ingestion", "parsing", "inference")
    path.write_bytes(content[:cut] + garbage)
    expected = ["ingestion", "parsing", "inference"]
    found = reopened(path)[:-1]
    assert found == expected[: len(found)]
    assert len(found) >= content[:cut].count(b"\n")


def test_a_descriptor_of_before_writes_where_nobody_reads(tmp_path: Path) -> None:
    """What an earlier process left behind may hold the file open, and thaw at any time."""
    path = tmp_path / "c"
    fill(path, "ingestion")
    leftover = os.open(path, os.O_WRONLY | os.O_APPEND)
    checkpoint = Checkpoint(path, RUN, fresh=False)
    os.write(leftover, orjson.dumps(line("parsing").document()) + b"\n")
    os.close(leftover)
    checkpoint.append(line("inference"))
    checkpoint.close()
    assert reopened(path) == ["ingestion", "inference", "later"]
