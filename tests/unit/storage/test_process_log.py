"""The log that anybody may write to: cut at its bound, with the beginning kept and a line that says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pop_actors.storage.process_log import LAST_LINE, PROCESS_LOG, keep_bounded

LIMIT = 1000


@pytest.mark.parametrize(("size", "is_cut"), [(0, False), (LIMIT, False), (LIMIT + 1, True), (50 * LIMIT, True)])
def test_a_log_over_its_limit_is_cut(tmp_path: Path, size: int, is_cut: bool) -> None:
    """To the limit and not below; one that is not over it stays as it is."""
    log = tmp_path / PROCESS_LOG
    log.write_bytes(b"x" * size)
    assert keep_bounded(tmp_path, LIMIT) is is_cut
    kept = b"x" * (LIMIT - len(LAST_LINE)) + LAST_LINE if is_cut else b"x" * size
    assert log.read_bytes() == kept


def test_who_writes_on_is_cut_again(tmp_path: Path) -> None:
    """A descriptor that was there before appends behind the cut; the last line stays the last, and is there once."""
    log = tmp_path / PROCESS_LOG
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for _ in range(3):
        os.write(writer, b"y" * 3 * LIMIT)
        assert keep_bounded(tmp_path, LIMIT)
    os.close(writer)
    assert log.read_bytes() == b"y" * (LIMIT - len(LAST_LINE)) + LAST_LINE


def test_without_a_log_there_is_nothing_to_cut(tmp_path: Path) -> None:
    """Nor where the whole folder is gone, or the name is a link to somewhere else."""
    assert not keep_bounded(tmp_path, LIMIT)
    assert not keep_bounded(tmp_path / "gone", LIMIT)
