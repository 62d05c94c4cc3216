"""Whenever the power is cut, and whatever of the unsynced is lost, the promises hold after the next start.

One run is recorded, and cut off at each point; each cut is a workspace of its own that a real popd is started on.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_world import Provider
from matrix import ELSEWHERE, POINTS
from recording import REPLAY, Recording

import pop_actors
from pop_actors.storage.fault_points import POINTS as NAMES

CASES = [point.name for point in POINTS if "power" in point.kinds]
EVERY_DAY = {"runner.task-confirmed"}
LUCKS = range(16)
MOMENTS = 2  # for each luck, beside a point


@pytest.fixture(scope="module")
def recording(provider: Provider) -> Iterator[Recording]:
    """Kept where a cut failed: the failure says how to make it again."""
    kept = os.environ.get(REPLAY)
    root = Path(kept or tempfile.mkdtemp(prefix="pop-recording-"))
    made = Recording(root, provider)
    yield made
    made.world.close()
    if not kept and not made.has_failed:
        shutil.rmtree(root)


def cases() -> list[Any]:
    return [pytest.param(point, marks=[] if point in EVERY_DAY else pytest.mark.faults) for point in CASES]


@pytest.mark.parametrize("point", cases())
def test_what_was_promised_before_a_power_cut_is_kept(recording: Recording, point: str) -> None:
    """Only what was fsynced is left, and the service is started again on that."""
    recording.check(position_of(recording, point), luck=None)


@pytest.mark.faults
@pytest.mark.parametrize("luck", LUCKS)
def test_a_power_cut_at_any_moment_with_any_luck(recording: Recording, luck: int) -> None:
    """At a point, and between any two changes of the disk, with unsynced changes lost, torn or out of order."""
    chance = random.Random(luck)
    anywhere = [chance.randrange(len(recording.lines)) for _ in range(MOMENTS)]
    for position in (position_of(recording, chance.choice(CASES)), *anywhere):
        recording.check(position, luck=(luck, position))


def position_of(recording: Recording, point: str) -> int:
    name, _, number = point.partition(":")
    return recording.passage(name, int(number or 1))


@pytest.mark.faults
def test_the_record_of_a_run_is_whole(recording: Recording, tmp_path: Path) -> None:
    """Every change of the disk went through the seam: played back, it gives the very files that were left."""
    model = recording.model(len(recording.lines) - 1)
    played = tmp_path / "played"
    model.before(played)
    assert files_of(played) == files_of(recording.left)


def test_every_point_is_cut_at() -> None:
    """A new point gets its case in the matrix, or a reason why not; a point of either list is one there is."""
    assert set(NAMES) - ELSEWHERE.keys() == {name.split(":")[0] for name in CASES}
    assert ELSEWHERE.keys() <= set(NAMES)
    assert all(ELSEWHERE.values())


def test_every_point_that_the_code_passes_has_a_name() -> None:
    """And no name is left of one that is passed nowhere."""
    sources = (path.read_text(encoding="utf-8") for path in Path(pop_actors.__file__).parent.rglob("*.py"))
    passes = re.compile(r"\b(?:reach\(|rename_durably\(.*,) ?\"([a-z.-]+)\"")
    passed = {name for source in sources for name in passes.findall(source)}
    assert passed == set(NAMES)


def files_of(root: Any) -> dict[str, bytes | None]:
    """All names but those of `state/`, where sockets and locks are; process.log is written by C code."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
        if path.relative_to(root).parts[0] != "state" and path.name != "process.log"
    }
