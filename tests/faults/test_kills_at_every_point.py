"""Whoever is killed at whatever point between a seed's arrival and its end, the job is done exactly once.

Each case is real processes and a real `kill -9`; the oracle reads what is left.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from fault_world import StatusWatch, World, kill_9
from matrix import KILLS, POINTS, Point
from oracle import faults_of
from seeds import SEEDS

EVERY_DAY = {
    ("claim.renamed", "daemon"),
    ("runner.stage-done:3", "job"),
    ("call.paid", "daemon"),
    ("finish.run-line", "everything"),
}


def cases() -> list[Any]:
    """One for each point and each who can be killed there; the everyday suite runs a sample."""
    return [
        pytest.param(point, kind, id=f"{kind}-at-{point.name}", marks=[] if is_sample else pytest.mark.faults)
        for point in POINTS
        for kind in KILLS
        if kind in point.kinds
        for is_sample in [(point.name, kind) in EVERY_DAY]
    ]


@dataclass(frozen=True)
class Expected:
    restarts: int
    lost_calls: int


@pytest.mark.parametrize(("point", "killed"), [case for case in cases() if case.values[0].seed == "good"])
def test_a_job_is_done_once_whoever_is_killed_wherever(world: World, job_id: str, point: Point, killed: str) -> None:
    """It is in complete/, with one line in runs.jsonl; no finished stage ran again and no reply was bought twice."""
    world.drop(job_id)
    with StatusWatch(world.workspace, job_id) as watch:
        expected = WHO[killed](world, job_id, point.name)
        world.wait_until_complete(job_id)
    assert watch.seen
    assert watch.faults == []
    assert faults_of(world, job_id, restarts=expected.restarts, lost_calls=expected.lost_calls) == []
    assert world.daemon is not None
    assert world.daemon.is_alive()


@pytest.mark.parametrize(("point", "killed"), [case for case in cases() if case.values[0].seed != "good"])
def test_what_is_rejected_or_run_again_is_so_once(world: World, job_id: str, point: Point, killed: str) -> None:
    """Whoever is killed: a seed that is no JSON, a job of too little quality, one that is run a second time, or waits
    at a gate, has its code edited, or adds to its own tasks."""
    seed = SEEDS[point.seed]
    seed.drop(world, job_id)
    stops = killed != "daemon" or point.name.startswith("runner.")
    told = start_armed(world, job_id, point, f"{point.name}:stop" if stops else point.name)
    if stops:
        stopped = world.wait_until_stopped()
        {"job": lambda: kill_9(stopped), "daemon": world.kill_daemon, "everything": world.kill_everything}[killed]()
    if killed != "job":
        world.wait_until_all_dead()
    if told is not None:
        told.wait(30)
    if killed != "job":
        world.start()
    seed.wait(world, job_id)
    assert seed.faults(world, job_id) == []


def start_armed(world: World, job_id: str, point: Point, fault: str) -> subprocess.Popen[bytes] | None:
    """A daemon that comes to the point by itself, or by what popctl, which is returned, tells it."""
    daemon = world.start(fault)
    return SEEDS[point.seed].bring_about(daemon, world, job_id)


def kill_the_job(world: World, job_id: str, point: str) -> Expected:
    """Whoever comes to the point is stopped there; then the job's process dies, and the daemon goes on by itself."""
    daemon = world.start(f"{point}:stop")
    stopped = world.wait_until_stopped()
    process = world.job_process(job_id)
    assert process is not None
    kill_9(process.pid)
    if stopped == daemon.pid:
        world.resume_daemon()
    return Expected(restarts=0 if "JobDone" in world.turns(job_id) else 1, lost_calls=0)


def kill_the_daemon(world: World, job_id: str, point: str) -> Expected:
    """At its own points the daemon kills itself; at those of the job's process it is killed while that one stands."""
    if point.startswith("runner."):
        world.start(f"{point}:stop")
        world.wait_until_stopped()
        world.kill_daemon()
    else:
        world.start(point)
    return start_again(world, job_id)


def kill_everything(world: World, job_id: str, point: str) -> Expected:
    world.start(f"{point}:stop")
    world.wait_until_stopped()
    world.kill_everything()
    return start_again(world, job_id)


WHO: dict[str, Callable[[World, str, str], Expected]] = {
    "job": kill_the_job,
    "daemon": kill_the_daemon,
    "everything": kill_everything,
}


def start_again(world: World, job_id: str) -> Expected:
    """Nothing has outlived the daemon; what stands in the files now says what the next start has to do."""
    world.wait_until_all_dead()
    was_running = world.turns(job_id)[-1:] == ["JobStarted"]
    lost_calls = world.calls_without_reply(job_id)
    assert lost_calls in {0, 1}  # this job makes one call at a time
    world.start()
    return Expected(restarts=int(was_running), lost_calls=lost_calls)
