"""Whole files are replaced whole; logs lose at most a torn end."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.errors import Damaged
from pop_actors.storage import files
from pop_actors.storage.jsonl import AppendLog, read_backwards, read_last_lines, read_lines


def test_a_replaced_file_is_new_beside_readers_of_the_old(tmp_path: Path) -> None:
    """Who has the old one open reads it to its end; no temporary file stays."""
    path = tmp_path / "a.json"
    files.write_new(path, b"old")
    with path.open("rb") as reader:
        files.replace(path, files.readable_json({"ü": 1}), durable=True)
        assert reader.read() == b"old"
    assert path.read_text() == '{\n  "ü": 1\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]
    with pytest.raises(FileExistsError):
        files.write_new(path, b"again")


def test_what_cannot_be_replaced_stays_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """A rename that fails takes its temporary file with it."""
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        files.replace(tmp_path / "folder", b"x")
    assert os.listdir(tmp_path) == ["folder"]


def test_a_file_that_is_no_json_is_damaged(tmp_path: Path) -> None:
    """The message names the file; a missing one is a missing one."""
    (tmp_path / "a.json").write_bytes(b"{")
    with pytest.raises(Damaged, match=r"a\.json"):
        files.read_json(tmp_path / "a.json")
    with pytest.raises(FileNotFoundError):
        files.read_json(tmp_path / "b.json")


def test_a_log_goes_on_where_it_ended_and_a_torn_end_is_cut(tmp_path: Path) -> None:
    """Half a line of a killed writer disappears at the next opening, whole lines do not."""
    path = tmp_path / "log.jsonl"
    log = AppendLog(path, fresh=True)
    assert log.append([{"n": 1}, {"n": 2}]) == 0
    second = log.append([{"n": 3}])
    log.sync()
    log.close()
    log.close()
    with path.open("ab") as file:
        file.write(b'{"n": 4')
    assert [document["n"] for _, document in read_lines(path)] == [1, 2, 3]
    log = AppendLog(path)
    log.append([{"n": 5}])
    assert log.read_line(second) == {"n": 3}
    log.close()
    assert [document["n"] for _, document in read_lines(path)] == [1, 2, 3, 5]


def test_a_broken_line_in_the_middle_is_damage(tmp_path: Path) -> None:
    """It is told with its number and never passed over in a job's log."""
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"n": 1}\nnonsense\n{"n": 2}\n')
    with pytest.raises(Damaged, match="line 2"):
        list(read_lines(path))


@given(
    lines=st.lists(st.text(max_size=40), max_size=30), count=st.integers(min_value=0, max_value=31), torn=st.booleans()
)
def test_reading_backwards_is_reading_forwards_in_reverse(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], count: int, torn: bool
) -> None:
    """However many are asked for, they are the newest, newest first."""
    path = tmp_path_factory.mktemp("log") / "log.jsonl"
    log = AppendLog(path)
    log.append([{"text": line} for line in lines])
    log.close()
    if torn:
        with path.open("ab") as file:
            file.write(b'{"text": "to')
    newest = [{"text": line} for line in reversed(lines)]
    assert list(read_backwards(path)) == newest
    assert read_last_lines(path, count) == newest[:count]


def test_reading_backwards_crosses_blocks(tmp_path: Path) -> None:
    """Lines longer than what is read at once are put together."""
    path = tmp_path / "log.jsonl"
    log = AppendLog(path)
    log.append([{"n": n, "pad": "x" * 100_000} for n in range(12)])
    log.close()
    assert [line["n"] for line in islice(read_backwards(path), 3)] == [11, 10, 9]
    assert [line["n"] for line in read_backwards(path)] == list(range(11, -1, -1))
    assert read_last_lines(tmp_path / "none.jsonl", 5) == []
