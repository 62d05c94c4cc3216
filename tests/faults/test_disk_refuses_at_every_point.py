"""The disk refuses for a while, at whatever point: everything goes on by itself when it takes writes again.

From the passage of a point on, the next few changes of that process fail: with ENOSPC the first write gets half of its
bytes in, with EIO syncs fail too.
"""

from __future__ import annotations

from typing import Any

import pytest
from fault_world import StatusWatch, World
from matrix import DISK, POINTS, Point
from oracle import faults_of
from seeds import SEEDS

EVERY_DAY = {("call.replied", "enospc"), ("runner.stage-ran", "enospc")}


def cases() -> list[Any]:
    return [
        pytest.param(point, kind, id=f"{kind}-at-{point.name}", marks=[] if is_sample else pytest.mark.faults)
        for point in POINTS
        for kind in DISK
        if kind in point.kinds
        for is_sample in [(point.name, kind) in EVERY_DAY]
    ]


@pytest.mark.parametrize(("point", "kind"), [case for case in cases() if case.values[0].seed == "good"])
def test_a_job_is_done_once_wherever_the_disk_refuses(world: World, job_id: str, point: Point, kind: str) -> None:
    """No kill and no restart is needed: what was refused is written when it can be. Nothing is torn, lost, or bought
    twice."""
    world.drop(job_id)
    with StatusWatch(world.workspace, job_id) as watch:
        daemon = world.start(f"{point.name}:{kind}")
        world.wait_until_complete(job_id)
    assert watch.faults == []
    assert faults_of(world, job_id, restarts=0, lost_calls=0) == []
    assert daemon.is_alive()


@pytest.mark.parametrize(("point", "kind"), [case for case in cases() if case.values[0].seed != "good"])
def test_what_is_rejected_or_run_again_is_so_wherever_the_disk_refuses(
    world: World, job_id: str, point: Point, kind: str
) -> None:
    """A seed that is no JSON, a job of too little quality, and a job that is run a second time."""
    seed = SEEDS[point.seed]
    seed.drop(world, job_id)
    daemon = world.start(f"{point.name}:{kind}")
    told = seed.bring_about(daemon, world, job_id)
    if told is not None:
        told.wait(30)
    seed.wait(world, job_id)
    assert seed.faults(world, job_id) == []
    assert daemon.is_alive()
