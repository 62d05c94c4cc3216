"""Whoever is killed at whatever point between a seed's arrival and complete/, the job is done exactly once.

Each case is real processes and a real `kill -9`; the oracle reads what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from fault_world import StatusWatch, World, kill_9
from oracle import faults_of

ANY = ("job", "daemon", "everything")
NO_JOB = ("daemon", "everything")  # there is no job's process yet, or none that matters

# Where, and who can be killed there. `:N` is the Nth time that point is passed: two tasks of three stages pass by.
POINTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("claim.linked", NO_JOB),
    ("claim.attached", NO_JOB),
    ("claim.built", NO_JOB),
    ("claim.renamed", NO_JOB),
    ("claim.unlinked", NO_JOB),
    ("runner.started", ANY),
    ("writer.appended", ANY),
    ("writer.status-written", ANY),
    ("runner.task-started", ANY),
    ("runner.stage-started", ANY),
    ("runner.stage-ran", ANY),
    ("runner.stage-done", ANY),
    ("runner.before-call", ANY),
    ("runner.asked", ANY),
    ("call.sent", ANY),
    ("call.replied", ANY),
    ("call.paid", ANY),
    ("call.booked", ANY),
    ("runner.answered", ANY),
    ("runner.stage-ran:2", ANY),
    ("runner.stage-done:3", ANY),
    ("runner.output-written", ANY),
    ("writer.synced", ANY),
    ("runner.task-confirmed", ANY),
    ("runner.task-started:2", ANY),
    ("runner.stage-done:4", ANY),
    ("runner.asked:2", ANY),
    ("call.paid:2", ANY),
    ("writer.status-written:2", ANY),
    ("runner.output-written:2", ANY),
    ("runner.before-end", ANY),
    ("writer.synced:2", ANY),
    ("finish.logged", NO_JOB),
    ("finish.run-line", NO_JOB),
    ("finish.status-written", NO_JOB),
    ("finish.renamed", NO_JOB),
    ("runner.ended", ANY),
)
EVERY_DAY = {
    ("claim.renamed", "daemon"),
    ("runner.stage-done:4", "job"),
    ("call.paid", "daemon"),
    ("runner.asked", "everything"),
    ("finish.run-line", "everything"),
}


def cases() -> list[Any]:
    """One for each point and each who can be killed there; the everyday suite runs a sample."""
    return [
        pytest.param(point, killed, id=f"{killed}-at-{point}", marks=[] if is_sample else pytest.mark.faults)
        for point, kinds in POINTS
        for killed in kinds
        for is_sample in [(point, killed) in EVERY_DAY]
    ]


@dataclass(frozen=True)
class Expected:
    restarts: int
    lost_calls: int


@pytest.mark.parametrize(("point", "killed"), cases())
def test_a_job_is_done_once_whoever_is_killed_wherever(world: World, job_id: str, point: str, killed: str) -> None:
    """It is in complete/, with one line in runs.jsonl; no finished stage ran again and no reply was bought twice."""
    world.drop(job_id)
    with StatusWatch(world.workspace, job_id) as watch:
        expected = KILLS[killed](world, job_id, point)
        world.wait_until_complete(job_id)
    assert watch.seen
    assert watch.faults == []
    assert faults_of(world, job_id, restarts=expected.restarts, lost_calls=expected.lost_calls) == []
    assert world.daemon is not None
    assert world.daemon.is_alive()


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


KILLS = {"job": kill_the_job, "daemon": kill_the_daemon, "everything": kill_everything}


def start_again(world: World, job_id: str) -> Expected:
    """Nothing has outlived the daemon; what stands in the files now says what the next start has to do."""
    world.wait_until_all_dead()
    was_running = world.turns(job_id)[-1:] == ["JobStarted"]
    lost_calls = world.calls_without_reply(job_id)
    assert lost_calls in {0, 1}  # this job makes one call at a time
    world.start()
    return Expected(restarts=int(was_running), lost_calls=lost_calls)
