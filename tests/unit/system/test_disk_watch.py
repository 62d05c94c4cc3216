"""When the disk takes new jobs, and when it does not: figures by a table, refusals by a real folder."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pop_actors.storage import disk
from pop_actors.storage.disk_faults import Refusals
from pop_actors.system import disk_watch
from pop_actors.system.disk_watch import MEGABYTE, DiskWatch, Obstacle, Space, shortage
from support.daemon import wait_until

SOON = 10.0
GIGABYTE = 1024 * MEGABYTE
NO_ROOM = OSError(errno.ENOSPC, "No space left on device")


def space(free_mb: float, size_mb: float = 10_000, inodes: int = 0, free_inodes: int = 0) -> Space:
    return Space(int(size_mb * MEGABYTE), int(free_mb * MEGABYTE), inodes, free_inodes)


ENOUGH = {
    "a default of 16 MB": (space(17), None, False),
    "a small file system keeps 1 % of itself": (space(0.1, size_mb=8), None, False),
    "what is said is what holds": (space(501), 500, False),
    "0 keeps nothing": (space(0), 0, False),
    "a file system that does not count inodes": (space(17, inodes=0), None, False),
    "calm again": (space(21), None, True),
    "inodes": (space(17, inodes=10**6, free_inodes=1001), None, False),
}
SHORT = {
    "below 16 MB": (space(15), None, False, "15.0 MB are free and 16.0 MB"),
    "below 1 % of a small one": (space(0.05, size_mb=8), None, False, "jobs.disk_reserve_mb"),
    "below what is said, however small the disk": (space(7, size_mb=8), 9, False, "9.0 MB"),
    "not calm yet": (space(17), None, True, "17.0 MB"),
    "inodes": (space(17, inodes=10**6, free_inodes=999), None, False, "999 of 1000000 inodes"),
    "inodes of a small one": (space(17, inodes=2000, free_inodes=19), None, False, "19 of 2000 inodes"),
}


@pytest.mark.parametrize("case", ENOUGH)
def test_there_is_enough(case: str) -> None:
    """Nothing is said."""
    found, reserve, is_short = ENOUGH[case]
    assert shortage(found, reserve, is_short=is_short) is None


@pytest.mark.parametrize("case", SHORT)
def test_there_is_too_little(case: str) -> None:
    """The words name what, and how much."""
    found, reserve, is_short, words = SHORT[case]
    assert words in (shortage(found, reserve, is_short=is_short) or "")


@pytest.fixture
def changes() -> list[Obstacle | None]:
    return []


@pytest.fixture
def watch(tmp_path: Path, changes: list[Obstacle | None], monkeypatch: pytest.MonkeyPatch) -> Iterator[DiskWatch]:
    monkeypatch.setattr(disk_watch, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(disk_watch, "STANDS_SECONDS", 0.1)
    made = DiskWatch(tmp_path, 0, lambda: changes.append(made.obstacle))
    made.start()
    yield made
    made.stop()
    made.stop()
    disk.tap(None)


def test_a_refusal_stands_until_a_trial_succeeds(
    watch: DiskWatch, changes: list[Obstacle | None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else has to write for it to be over; the log says it once, and once that it is over."""
    caplog.set_level(logging.INFO)
    full = tmp_path / "full"
    full.touch()
    disk.tap(Refusals(str(full)))
    for _ in range(3):
        assert watch.refused(NO_ROOM)
    assert watch.look() == watch.obstacle
    assert [change.reason for change in changes if change] == ["disk_full"]
    full.unlink()
    wait_until(lambda: watch.obstacle is None, SOON, "the trial to succeed")
    assert changes[1:] == [None]
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert [entry.name for entry in tmp_path.iterdir()] == []


def test_a_device_that_fails_is_another_reason(watch: DiskWatch, changes: list[Obstacle | None]) -> None:
    """It says what the system said."""
    assert watch.refused(OSError(errno.EIO, "Input/output error"))
    wait_until(lambda: watch.obstacle is None, SOON, "the trial to succeed")
    assert changes[0] is not None
    assert (changes[0].reason, "Input/output error" in changes[0].message) == ("disk_error", True)


def test_what_is_wrong_with_one_file_is_no_matter_of_the_disk(watch: DiskWatch) -> None:
    """A folder in the way, say: intake goes on."""
    assert not watch.refused(IsADirectoryError(errno.EISDIR, "Is a directory"))
    assert watch.obstacle is None


def test_a_trial_that_a_kill_cut_short_is_cleared_away(tmp_path: Path) -> None:
    """By the next start: one file, which nobody else would remove."""
    probe = tmp_path / disk_watch.PROBE
    probe.write_bytes(b"0")
    after_a_kill = DiskWatch(tmp_path, 0)
    after_a_kill.start()
    after_a_kill.stop()
    assert not probe.exists()
