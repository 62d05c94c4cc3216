"""A job's process that is frozen past its heartbeat is dead before its successor starts, and a thaw changes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

import pytest
from fault_world import BEGIN, StatusWatch, World, is_alive
from odd_jobs import HANGING, Steady, stages_of, wait_for_pids
from oracle import faults_of

from pop_actors.storage import fault_points
from support.daemon import wait_until

SHORT_DEADLINE = "[jobs]\nheartbeat_deadline_seconds = 5\n"
NOT_PASSED = {"runner.code-changed", "runner.gate-reached", "runner.control-taken"}  # by a plain job nobody edits
POINTS = [name for name in fault_points.POINTS if name.startswith(fault_points.IN_RUNNER) and name not in NOT_PASSED]

# Forks a copy that keeps every descriptor, leaves the session, and writes to all of them when seed.data.thawed is
# there. The copy's pid goes to seed.data.pids; then the process stops itself.
HAUNTED = (
    BEGIN
    + """
import signal, threading

def haunt(told):
    os.setsid()
    while not os.path.exists(told["thawed"]):
        threading.Event().wait(0.02)
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith(told["job"]):
                os.write(int(descriptor), b"from the grave")
        except OSError:
            pass
    os._exit(0)

def ingestion(ctx):
    begin(ctx, "ingestion")
    return {"output": {}}

def parsing(ctx):
    begin(ctx, "parsing")
    told = ctx.data["seed"]["data"]
    if not os.path.exists(told["pids"]):
        copy = os.fork()
        if copy == 0:
            haunt(told)
        with open(told["pids"] + ".new", "w") as file:
            file.write(str(copy))
        os.rename(told["pids"] + ".new", told["pids"])
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to this thread, or it would run on for a moment
    return {"output": {}}
"""
)


def thaw_all(pids: list[int]) -> None:
    """SIGCONT to whoever could still be there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def runners(world: World, job_id: str) -> list[int]:
    return [process.pid for process in world.family() if process.name == f"jobs/{job_id}"[-15:]]


@pytest.mark.faults
@pytest.mark.parametrize("point", POINTS)
def test_a_frozen_job_is_replaced_and_its_thaw_changes_nothing(
    make_world: Callable[..., World], job_id: str, point: str
) -> None:
    """Never are there two of it; the job is done once, and no reply is bought twice."""
    world = make_world(SHORT_DEADLINE)
    world.drop(job_id)
    with StatusWatch(world.workspace, job_id) as watch:
        world.start(f"{point}:stop")
        frozen = world.wait_until_stopped()
        was_done = "JobDone" in world.turns(job_id)
        together: list[list[int]] = []

        def is_replaced() -> bool:
            together.append(runners(world, job_id))
            return frozen not in together[-1]

        wait_until(is_replaced, 20, "the frozen one to be gone", world.daemon)
        thaw_all([frozen])
        world.wait_until_complete(job_id)
        thaw_all([frozen, *(process.pid for process in world.family())])
    assert [pids for pids in together if len(pids) > 1] == []
    assert not is_alive(frozen)
    assert watch.faults == []
    assert faults_of(world, job_id, restarts=0 if was_done else 1, lost_calls=0) == []
    causes = [event["cause"] for event in world.events(job_id) if event["type"] == "ProcessDown"]
    assert causes == ([] if was_done else ["hung"])


@pytest.mark.faults
def test_a_copy_of_the_old_process_writes_nothing_the_new_one_reads(
    make_world: Callable[..., World], job_id: str
) -> None:
    """It fled to a session of its own, holds the job's files open and is frozen; it never wakes up again."""
    world = make_world(SHORT_DEADLINE)
    world.workspace.add_pipeline("haunted", {"haunted": HAUNTED})
    pids, thawed = world.executions.with_name("pids"), world.executions.with_name("thawed")
    job = world.workspace.data / "current" / job_id
    world.drop(job_id, "haunted", pids=str(pids), thawed=str(thawed), job=str(job))
    world.start()
    (copy,) = wait_for_pids(pids, world)
    os.kill(copy, signal.SIGSTOP)
    world.wait_until_complete(job_id)
    thawed.touch()
    thaw_all([copy])
    assert not is_alive(copy)
    assert stages_of(world, job_id) == ["ingestion", "parsing", "parsing"]
    complete = world.workspace.data / "complete" / job_id
    haunted = [path for path in complete.rglob("*") if path.is_file() and b"from the grave" in path.read_bytes()]
    assert [path for path in haunted if path.name != "haunted.py"] == []


@pytest.mark.faults
def test_a_job_that_holds_the_gil_is_found_by_its_heartbeat(make_world: Callable[..., World], job_id: str) -> None:
    """Long before its stage's timeout; where no restart is allowed it is in error at once. The others go on."""
    world = make_world("[jobs]\nheartbeat_deadline_seconds = 5\nmax_restarts = 0\n")
    holding, steady = f"{job_id}-h", job_id
    ticking = Steady(world, steady)
    world.workspace.add_pipeline("hang", {"hang": HANGING})
    world.start()
    ticking.wait_until_it_ticks(world)
    world.drop(holding, "hang")
    wait_until(lambda: world.workspace.state(holding) == "error", 25, "the hanging one to be found", world.daemon)
    status = world.workspace.status(holding)
    assert status is not None
    assert (status["error"]["reason"], status["error"]["stage"]) == ("crashed", "ingestion")
    assert "no heartbeat" in status["error"]["message"]
    assert runners(world, holding) == []
    ticking.release()
    world.wait_until_complete(steady)
    assert stages_of(world, steady) == ["ingestion", "integration"]
