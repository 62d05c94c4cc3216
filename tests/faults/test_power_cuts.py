"""Whenever the power is cut, and whatever of the unsynced is lost, the promises hold after the next start.

One run is recorded, and cut off at each point; each cut is a workspace of its own that a real popd is started on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from fault_world import Provider
from matrix import ELSEWHERE, POINTS
from recording import Recording

from pop_actors.storage.fault_points import POINTS as NAMES

CASES = [point.name for point in POINTS if "power" in point.kinds]
EVERY_DAY = {"claim.renamed", "runner.task-confirmed"}
LUCKS = range(16)
REPEATED = 3  # cuts at random moments for each luck


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Recording]:
    made = Recording(tmp_path_factory.mktemp("recording"), provider)
    yield made
    made.world.close()


def cases() -> list[Any]:
    return [pytest.param(point, marks=[] if point in EVERY_DAY else pytest.mark.faults) for point in CASES]


@pytest.mark.parametrize("point", cases())
def test_what_was_promised_before_a_power_cut_is_kept(recording: Recording, point: str) -> None:
    """Only what was fsynced is left, and the service is started again on that; a second time, something more is."""
    name, _, number = point.partition(":")
    position = recording.passage(name, int(number or 1))
    assert recording.faults_when_cut(position, luck=None) == []
    assert recording.faults_when_cut(position, luck=point) == []


@pytest.mark.faults
@pytest.mark.parametrize("luck", LUCKS)
def test_a_power_cut_at_any_moment_with_any_luck(recording: Recording, luck: int) -> None:
    """Between any two changes of the disk, with unsynced changes lost, torn or out of order."""
    chance = random.Random(luck)
    for _ in range(REPEATED):
        position = chance.randrange(len(recording.lines))
        assert (position, recording.faults_when_cut(position, luck=(luck, position))) == (position, [])


def test_the_record_of_a_run_is_whole(recording: Recording) -> None:
    """Every change of the disk went through the seam: played back, it gives the very files that were left."""
    model = recording.model(len(recording.lines) - 1)
    played = recording.world.workspace.root / "played"
    model.before(played)
    assert files_of(played) == files_of(recording.left)


def test_every_point_is_cut_at() -> None:
    """A new point gets its case in the matrix."""
    assert set(NAMES) - ELSEWHERE.keys() == {name.split(":")[0] for name in CASES}


def files_of(root: Any) -> dict[str, bytes | None]:
    """All names but those of `state/`, where sockets and locks are; process.log is written by C code."""
    return {
        path.relative_to(root).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in root.rglob("*")
        if path.relative_to(root).parts[0] != "state" and path.name != "process.log"
    }
