"""Files, database and batches of a stage."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.errors import CallFailed
from pop_actors.runner.clockwork import Clockwork, Deadline, StageTimeout
from pop_actors.runner.room import Room
from pop_actors.runner.task_io import FileIndex, TaskIO, place_inside
from pop_actors.storage.layout import JobDirectory


class Bench:
    def __init__(self, folder: Path, clockwork: Clockwork, seconds: float = 60.0) -> None:
        self.job = JobDirectory(folder)
        self.announced: list[tuple[str, str]] = []
        self.index = FileIndex(lambda kind, name: self.announced.append((kind, name)))
        self.deadline = Deadline(clockwork, seconds)
        self.io = TaskIO(self.job, "t", self.index, self.deadline, Room(threading.Event()))


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    made = Clockwork()
    yield made
    made.stop()


@pytest.fixture
def bench(tmp_path: Path, clockwork: Clockwork) -> Bench:
    return Bench(tmp_path / "job", clockwork)


def test_text_bytes_and_json_are_written_and_read(bench: Bench) -> None:
    """Each kind of file lies in its folder; JSON is indented for people."""
    bench.io.write_artifact("a.md", "naïve")
    bench.io.write_tmp("b.bin", b"\x00\xff")
    path = bench.io.write_log("c.json", {"a": [1]})
    assert bench.io.read_artifact("a.md") == "naïve"
    assert bench.io.read_tmp("b.bin", binary=True) == b"\x00\xff"
    assert path.read_text() == '{\n  "a": [\n    1\n  ]\n}\n'
    assert (bench.job.files("artifacts") / "a.md").is_file()


def test_append_adds_and_replace_replaces(bench: Bench) -> None:
    """Appended JSON is one line, so that a file can grow line by line."""
    for number in (1, 2):
        bench.io.write_log("l.jsonl", {"n": number}, mode="append")
    assert bench.io.read_log("l.jsonl") == '{"n":1}\n{"n":2}\n'
    bench.io.write_log("l.jsonl", "new")
    assert bench.io.read_log("l.jsonl") == "new"
    with pytest.raises(ValueError, match="append"):
        bench.io.write_log("l.jsonl", "x", mode="prepend")  # type: ignore[arg-type]


def test_a_file_is_announced_once_however_often_it_is_written(bench: Bench) -> None:
    """The index names files, not writes; the stage's checkpoint lists what is new since the one before."""
    for _ in range(3):
        bench.io.write_artifact("sub/a.md", "x")
    assert bench.announced == [("artifacts", "sub/a.md")]
    assert bench.index.take() == [["artifacts", "sub/a.md"]]
    assert bench.index.take() == []


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "", ".", "..", "a//b", "a/", "a\0b", "a\\b", "a\nb", "\ud800", 7]
)
def test_a_name_that_leaves_its_folder_is_a_value_error(bench: Bench, name: Any) -> None:
    """And nothing is written."""
    with pytest.raises(ValueError, match="file name"):
        bench.io.write_artifact(name, "x")
    with pytest.raises(ValueError, match="file name"):
        bench.io.read_artifact(name)
    assert bench.announced == []


def test_a_symbolic_link_does_not_lead_out_of_the_folder(bench: Bench, tmp_path: Path) -> None:
    """Neither a linked file nor a linked folder."""
    folder = bench.job.files("artifacts")
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    (folder / "file").symlink_to(tmp_path / "secret")
    (folder / "folder").symlink_to(tmp_path)
    for name in ("file", "folder/secret"):
        with pytest.raises(ValueError, match="symbolic link"):
            bench.io.read_artifact(name)


@given(st.text(max_size=20))
def test_any_name_stays_inside_or_is_refused(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Whatever the text, the path lies under the folder, or there is none."""
    folder = tmp_path_factory.getbasetemp() / "files" / "tmp"
    try:
        path = place_inside(folder, name)
    except ValueError:
        return
    assert path.resolve().is_relative_to(folder.resolve())
    assert path != folder


def test_what_is_not_json_is_not_written(bench: Bench) -> None:
    """A ValueError names the place."""
    with pytest.raises(ValueError, match=r"content\.a"):
        bench.io.write_artifact("a.json", {"a": {1}})
    assert bench.announced == []


def test_the_database_is_the_jobs_and_keeps_what_a_good_stage_wrote(bench: Bench) -> None:
    """Committed at the end of a stage that ends well, rolled back where it does not, closed in both cases."""
    for ok in (True, False):
        db = bench.io.get_db()
        db.execute("create table if not exists t (n)")
        db.execute("insert into t values (?)", (ok,))
        bench.io.close(ok=ok)
    db = bench.io.get_db()
    assert db.execute("select n from t").fetchall() == [(1,)]
    db.close()
    bench.io.close(ok=True)  # closed by the task itself: no error
    assert bench.announced == [("artifacts", "run.db")]


def test_a_batch_gives_results_in_the_items_order(bench: Bench) -> None:
    """However the items overlap; here the first waits for the last."""
    last = threading.Event()

    def work(item: int) -> int:
        if item == 3:
            last.set()
        elif item == 0:
            assert last.wait(10)
        return item * 10

    assert bench.io.run_batch(range(4), work, concurrency=2) == [0, 10, 20, 30]  # type: ignore[arg-type]
    assert bench.io.run_batch([], work) == []


def test_a_batch_takes_async_functions(bench: Bench) -> None:
    """Each item runs in an event loop of its own."""

    async def work(item: int) -> int:
        return item + 1

    assert bench.io.run_batch([1, 2], work) == [2, 3]


def test_an_item_is_tried_again_as_often_as_allowed(bench: Bench) -> None:
    """Two retries save an item that fails twice; a hopeless refusal is not retried."""
    tries: list[str] = []

    def flaky(item: str) -> str:
        tries.append(item)
        if len(tries) < 3:
            raise ConnectionError(item)
        return item

    assert bench.io.run_batch(["a"], flaky, max_retries=2) == ["a"]

    def hopeless(item: str) -> str:
        tries.append(item)
        raise CallFailed("auth", "no")

    tries.clear()
    with pytest.raises(CallFailed, match="no"):
        bench.io.run_batch(["a"], hopeless, max_retries=5)
    assert tries == ["a"]


def test_a_failed_item_stops_the_batch_and_says_which_it_was(bench: Bench) -> None:
    """No further item starts, and the exception carries a note."""
    seen: list[int] = []

    def work(item: int) -> int:
        seen.append(item)
        if item == 1:
            raise ZeroDivisionError
        return item

    with pytest.raises(ZeroDivisionError) as caught:
        bench.io.run_batch([0, 1, 2, 3], work, concurrency=1)
    assert seen == [0, 1]
    assert caught.value.__notes__ == ["in item 2 of 4 of run_batch"]


def test_a_batch_ends_with_its_stage(tmp_path: Path, clockwork: Clockwork) -> None:
    """Items that never end are interrupted in their own threads."""
    bench = Bench(tmp_path, clockwork, 0.05)

    def spin(item: int) -> None:
        while True:
            pass

    with pytest.raises(StageTimeout):
        bench.deadline.guard(lambda: bench.io.run_batch([1, 2, 3], spin, concurrency=2))
