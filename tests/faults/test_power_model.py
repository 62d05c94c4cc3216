"""The model of a power cut agrees with the real file system on what is there before it, and with POSIX on what is left
after it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from power import PowerCut

from pop_actors.storage import disk, fault_points, files
from pop_actors.storage.jsonl import AppendLog


@pytest.fixture(autouse=True)
def untapped() -> Iterator[None]:
    yield
    fault_points.arm(None)


class Traced:
    """A folder, everything done in it from now on recorded."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.root.mkdir(parents=True)
        self.cut = PowerCut(self.root)
        self._record = folder / "record.jsonl"
        self._results = iter(folder / f"result-{number}" for number in range(1000))
        fault_points.arm(f"record={self._record}")

    def follow(self) -> None:
        """Bring the model up to now."""
        lines = self._record.read_text().splitlines()
        self._record.write_bytes(b"")
        self.cut.follow(map(json.loads, lines))

    def strict(self) -> dict[str, bytes | None]:
        self.follow()
        self.cut.strict(result := next(self._results))
        return tree(result)

    def lucky(self, seeds: int) -> list[dict[str, bytes | None]]:
        """What is left in that many variants."""
        self.follow()
        results = []
        for seed in range(seeds):
            self.cut.lucky(result := next(self._results), seed)
            results.append(tree(result))
        return results

    def before(self) -> dict[str, bytes | None]:
        self.follow()
        self.cut.before(result := next(self._results))
        return tree(result)


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    return Traced(tmp_path)


def tree(root: Path) -> dict[str, bytes | None]:
    """Every name with its content; None for a folder."""
    return {path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes() for path in root.rglob("*")}


def test_a_file_needs_its_content_and_its_name_synced(traced: Traced) -> None:
    """Its name alone gives an empty file, its content alone no file at all."""
    files.write_new(traced.root / "content", b"x", durable=True)
    assert traced.strict() == {}
    files.sync_directory(traced.root)
    assert traced.strict() == {"content": b"x"}
    files.write_new(traced.root / "name", b"x")
    files.sync_directory(traced.root)
    assert traced.strict() == {"content": b"x", "name": b""}


def test_a_replaced_file_is_the_old_one_or_the_new_one(traced: Traced) -> None:
    """Durable before the rename: whole in every variant. Not durable: what the rename brings may be torn or zeros."""
    path = traced.root / "a"
    files.write_new(path, b"old", durable=True)
    files.sync_directory(traced.root)
    files.replace(path, b"newer", durable=True)
    assert {left["a"] for left in traced.lucky(40)} == {b"old", b"newer"}
    files.sync_directory(traced.root)
    assert traced.strict() == {"a": b"newer"}
    files.replace(path, b"newest")
    left = {left["a"] for left in traced.lucky(200)}
    assert {b"newer", b"newest", b"", b"\0" * 6} <= left


def test_a_rename_between_folders_is_all_or_nothing(traced: Traced) -> None:
    """It is certain once both are synced, and nothing is lost or doubled in any variant before."""
    for name in ("one", "two", "one/job"):
        disk.mkdir(traced.root / name)
    files.sync_directory(traced.root / "one")
    files.sync_directory(traced.root)
    disk.rename(traced.root / "one" / "job", traced.root / "two" / "job")
    places = [sorted(name for name in left if name.endswith("job")) for left in traced.lucky(40)]
    assert {tuple(place) for place in places} == {("one/job",), ("two/job",)}
    files.sync_directory(traced.root / "two")
    assert "one/job" in traced.strict()
    files.sync_directory(traced.root / "one")
    assert traced.strict() == {"one": None, "two": None, "two/job": None}


def test_a_log_loses_a_tail_and_no_more(traced: Traced) -> None:
    """Lines since the last sync may be there, torn or zeros; those before it always are."""
    log = AppendLog(traced.root / "log")
    files.sync_directory(traced.root)
    log.append([1])
    log.sync()
    log.append([2])
    log.append([3])
    left = {left["log"] for left in traced.lucky(200)}
    assert {b"1\n", b"1\n2\n", b"1\n2\n3\n", b"1\n\0\0\0\0", b"1\n2"} <= left
    assert all(content is not None and content.startswith(b"1\n") for content in left)
    log.close()


def test_a_failed_sync_is_not_made_good_by_the_next(traced: Traced) -> None:
    """What was written before it is zeros in the strict case, though a later sync succeeded."""
    descriptor = disk.open_file(traced.root / "file", os.O_WRONLY | os.O_CREAT)
    files.sync_directory(traced.root)
    files.write_all(descriptor, b"lost")
    fault_points.arm(f"claim.linked:eio,record={traced._record}")
    fault_points.reach("claim.linked")
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output"):
            disk.fsync(descriptor)
    files.write_all(descriptor, b"kept")
    disk.fsync(descriptor)
    os.close(descriptor)
    assert traced.strict() == {"file": b"\0\0\0\0kept"}


NAMES = ("a", "b", "f", "f/a", "f/b", "g", "g/a")
OPERATIONS: dict[str, Any] = {
    "write": lambda root, one, _: files.write_first(root / one, one.encode() * 3),
    "replace": lambda root, one, other: files.replace(root / one, other.encode(), durable=True),
    "append": lambda root, one, other: AppendLog(root / one).append([other]),
    "mkdir": lambda root, one, _: disk.mkdir(root / one),
    "rename": lambda root, one, other: disk.rename(root / one, root / other),
    "link": lambda root, one, other: disk.link(root / one, root / other),
    "unlink": lambda root, one, _: disk.unlink(root / one),
    "rmdir": lambda root, one, _: disk.rmdir(root / one),
    "sync": lambda root, one, _: files.sync_directory((root / one).parent),
}
steps = st.lists(
    st.tuples(st.sampled_from(sorted(OPERATIONS)), st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=30
)


@settings(max_examples=60)
@given(steps=steps)
def test_the_record_says_all_that_happened(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
) -> None:
    """Whatever is done, the model's tree before the cut is the real one; and after everything is synced, so is the
    strict one, and every variant."""
    traced = Traced(tmp_path_factory.mktemp("power"))
    for name, one, other in steps:
        try:
            OPERATIONS[name](traced.root, one, other)
        except OSError:
            continue
    assert traced.before() == tree(traced.root)
    for path in [traced.root, *traced.root.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        disk.fsync(descriptor)
        os.close(descriptor)
    assert traced.strict() == tree(traced.root)
    assert traced.lucky(2) == [tree(traced.root)] * 2
