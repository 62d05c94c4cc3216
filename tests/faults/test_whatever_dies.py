"""Whatever else dies, hangs or is stopped: jobs go on or end with a reason, and nothing outlives who started it."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from fault_world import BEGIN, DEATH_SECONDS, World, is_alive, is_stopped, kill_9
from oracle import faults_of

from support.daemon import wait_until

# Runs until the file seed.data.release is there, with a line each 20 ms in seed.data.ticks.
STEADY = (
    BEGIN
    + """
import threading

def ingestion(ctx):
    begin(ctx, "ingestion")
    told = ctx.data["seed"]["data"]
    with open(told["ticks"], "a") as ticks:
        while not os.path.exists(told["release"]):
            threading.Event().wait(0.02)
            print(time.monotonic(), file=ticks, flush=True)
    return {"output": {}}

def integration(ctx):
    begin(ctx, "integration")
    return {"output": {}}
"""
)
# Holds the GIL in C code for ages; a later attempt does not, where seed.data.once says so.
HANGING = (
    BEGIN
    + """
import re

def ingestion(ctx):
    begin(ctx, "ingestion")
    if ctx.meta.attempt == 1 or not ctx.data["seed"]["data"].get("once"):
        re.match(r"(a+)+$", "a" * 60 + "b")
    return {"output": {}}
"""
)
# Starts a child, and through it a grandchild that lets go of its parent; their pids go to seed.data.pids.
PARENT = (
    BEGIN
    + """
import subprocess

def ingestion(ctx):
    begin(ctx, "ingestion")
    pids = ctx.data["seed"]["data"]["pids"]
    if not os.path.exists(pids):
        subprocess.Popen(["/bin/sh", "-c", f"sleep 600 & echo $$ $! > {pids}.new; mv {pids}.new {pids}; wait"]).wait()
    return {"output": {}}
"""
)
EXITING = (
    BEGIN
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    os._exit(3)
"""
)
QUICK = BEGIN + "def ingestion(ctx):\n    begin(ctx, 'ingestion')\n    return {'output': {}}\n"


class Steady:
    """A job that ticks until it is released."""

    def __init__(self, world: World, job_id: str) -> None:
        self.ticks, self._release = world.executions.with_name(f"{job_id}.ticks"), world.executions.with_name("release")
        world.workspace.add_pipeline("steady", {"steady": STEADY})
        world.drop(job_id, "steady", ticks=str(self.ticks), release=str(self._release))

    def wait_until_it_ticks(self, world: World) -> None:
        wait_until(lambda: self.ticks.exists() and self.ticks.stat().st_size, 15, "the job to tick", world.daemon)

    def release(self) -> None:
        self._release.touch()

    def longest_gap(self) -> float:
        moments = [float(line) for line in self.ticks.read_text().splitlines()]
        return max(later - earlier for earlier, later in itertools.pairwise(moments))


def stages_of(world: World, job_id: str) -> list[str]:
    return [line["stage"] for line in world.traces(job_id)]


def wait_for_pids(path: Path, world: World) -> list[int]:
    wait_until(path.exists, 15, "the task to start its children", world.daemon)
    return [int(word) for word in path.read_text().split()]


def wait_until_dead(pids: list[int]) -> None:
    wait_until(lambda: not any(map(is_alive, pids)), DEATH_SECONDS, f"{pids} to die")


def test_a_polite_stop_suspends_a_job_at_its_next_stage(world: World, job_id: str) -> None:
    """After the next start it goes on there: no finished stage again, no restart counted, one line in runs.jsonl."""
    steady = Steady(world, job_id)
    daemon = world.start()
    steady.wait_until_it_ticks(world)
    os.kill(daemon.pid, signal.SIGTERM)
    wait_until(lambda: "stopping (" in daemon.text_of_log(), 10, "popd to hear of it", daemon)
    steady.release()
    assert daemon.process is not None
    assert daemon.process.wait(15) == 0
    world.wait_until_all_dead()
    assert (world.workspace.state(job_id), stages_of(world, job_id)) == ("pending", ["ingestion"])
    world.start()
    world.wait_until_complete(job_id)
    assert stages_of(world, job_id) == ["ingestion", "integration"]
    assert [(run["id"], run["restarts"]) for run in world.workspace.runs()] == [(job_id, 0)]


@pytest.mark.faults
def test_a_job_that_hangs_in_c_code_is_ended_and_disturbs_nobody(make_world: Callable[..., World], job_id: str) -> None:
    """The stage's timeout holds where no Python code runs any more: the attempt failed with reason timeout."""
    world = make_world("[tasks]\nretry_backoff_seconds = 0\n")
    for slug, attempts in (("hopeless", 1), ("recovering", 2)):
        entry = {"name": "hang", "stageTimeout": 1, "maxAttempts": attempts}
        world.workspace.add_pipeline(slug, {"hang": HANGING}, entries=[entry])
    steady, hopeless, recovering = job_id, f"{job_id}-h", f"{job_id}-r"
    ticking = Steady(world, steady)
    world.start()
    ticking.wait_until_it_ticks(world)
    world.drop(hopeless, "hopeless")
    world.drop(recovering, "recovering", once=True)
    wait_until(lambda: world.workspace.state(hopeless) == "error", 15, "the hopeless one to fail", world.daemon)
    world.wait_until_complete(recovering)
    ticking.release()
    world.wait_until_complete(steady)

    status = world.workspace.status(hopeless)
    assert status is not None
    assert (status["error"]["reason"], status["error"]["task"], status["error"]["stage"]) == (
        "timeout", "hang", "ingestion",
    )  # fmt: skip
    recovered = world.workspace.status(recovering)
    assert recovered is not None
    assert (recovered["state"], recovered["tasks"]["hang"]["attempts"]) == ("done", 2)
    assert stages_of(world, recovering) == ["ingestion", "ingestion"]
    undisturbed = world.workspace.status(steady)
    assert undisturbed is not None
    assert (undisturbed["state"], undisturbed["restarts"]) == ("done", 0)
    assert ticking.longest_gap() < 1.0


def test_what_a_task_started_dies_with_its_process(world: World, job_id: str) -> None:
    """kill -9 of a job's process takes its children and grandchildren along; the job goes on without them."""
    world.workspace.add_pipeline("parent", {"parent": PARENT})
    pids = world.executions.with_name("pids")
    world.drop(job_id, "parent", pids=str(pids))
    world.start()
    started = wait_for_pids(pids, world)
    assert all(map(is_alive, started))
    kill_9(world.wait_for_job_process(job_id).pid)
    wait_until_dead(started)
    world.wait_until_complete(job_id)
    assert stages_of(world, job_id) == ["ingestion", "ingestion"]


def test_nothing_outlives_the_daemon(world: World, job_id: str) -> None:
    """Two seconds after kill -9 of the daemon all are gone: who hangs in C, who is stopped, and who has children."""
    world.workspace.add_pipeline("hang", {"hang": HANGING})
    world.workspace.add_pipeline("parent", {"parent": PARENT})
    pids = world.executions.with_name("pids")
    hanging, parent, stopped = f"{job_id}-h", f"{job_id}-p", f"{job_id}-s"
    steady = Steady(world, stopped)
    world.drop(hanging, "hang")
    world.drop(parent, "parent", pids=str(pids))
    world.start()
    children = wait_for_pids(pids, world)
    steady.wait_until_it_ticks(world)
    wait_until(lambda: world.traces(hanging), 15, "the third to hang", world.daemon)
    asleep = world.wait_for_job_process(stopped).pid
    os.kill(asleep, signal.SIGSTOP)
    wait_until(lambda: is_stopped(asleep), 5, "it to stop")
    world.kill_daemon()
    world.wait_until_all_dead(DEATH_SECONDS)
    wait_until_dead(children)


def parent_of(world: World, pid: int) -> int:
    return next(process.parent for process in world.family() if process.pid == pid)


@pytest.mark.faults
def test_jobs_survive_the_death_of_the_forkserver(world: World, job_id: str) -> None:
    """The one that runs is done once, and so is one that comes after."""
    steady, later = f"{job_id}-s", job_id
    ticking = Steady(world, steady)
    daemon = world.start()
    ticking.wait_until_it_ticks(world)
    forkserver = parent_of(world, world.wait_for_job_process(steady).pid)
    assert forkserver != daemon.pid
    kill_9(forkserver)
    wait_until_dead([forkserver])
    for process in world.family():
        if process.name == "popd: idle":
            kill_9(process.pid)
    world.drop(later)
    world.wait_until_complete(later)
    assert faults_of(world, later, restarts=0, lost_calls=0) == []
    ticking.release()
    world.wait_until_complete(steady)
    assert stages_of(world, steady)[-1] == "integration"
    assert [run["id"] for run in world.workspace.runs()] == [later, steady]


@pytest.mark.faults
def test_jobs_survive_the_death_of_all_but_the_daemon(world: World, job_id: str) -> None:
    """Forkserver, pool and job are killed at once while a call is under way; the daemon starts them anew."""
    daemon = world.start("runner.asked:stop")
    world.drop(job_id)
    world.wait_until_stopped()
    for process in world.family():
        if process.pid != daemon.pid:
            kill_9(process.pid)
    world.wait_until_complete(job_id)
    assert faults_of(world, job_id, restarts=1, lost_calls=0) == []


def test_a_job_that_always_crashes_is_given_up(make_world: Callable[..., World], job_id: str) -> None:
    """Its restart budget spent, it is in error with reason crashed, and its slot is free for the next."""
    world = make_world("[jobs]\nmax_running = 1\nmax_restarts = 1\n")
    world.workspace.add_pipeline("exiting", {"exit": EXITING})
    world.workspace.add_pipeline("quick", {"quick": QUICK})
    doomed, next_one = f"{job_id}-x", job_id
    world.start()
    world.drop(doomed, "exiting")
    wait_until(lambda: world.traces(doomed), 15, "the doomed one to start", world.daemon)
    world.drop(next_one, "quick")
    wait_until(lambda: world.workspace.state(doomed) == "error", 15, "the doomed one to be given up", world.daemon)
    world.wait_until_complete(next_one)
    status = world.workspace.status(doomed)
    assert status is not None
    assert (status["error"]["reason"], status["error"]["task"], status["error"]["stage"]) == (
        "crashed", "exit", "ingestion",
    )  # fmt: skip
    assert stages_of(world, doomed) == ["ingestion", "ingestion"]
    assert world.job_process(doomed) is None
    assert (world.workspace.data / "current" / doomed).is_dir()


KILLED_AT = (
    "claim.linked:2", "claim.renamed", "writer.appended:2", "call.sent:2", "writer.synced:2", "call.paid:3",
    "writer.appended:9", "finish.run-line", "finish.status-written", "finish.renamed",
)  # fmt: skip


def dies_at(world: World, point: str, jobs: list[str]) -> bool:
    """Start a daemon that is armed; whether it died there, or (then it is killed) all jobs were done without it."""
    daemon = world.start(point)
    wait_until(
        lambda: not daemon.is_alive() or all(map(world.workspace.is_complete, jobs)),
        25,
        f"popd to die at {point}",
        daemon,
    )
    died = not daemon.is_alive()
    world.kill_daemon()
    world.wait_until_all_dead()
    return died


@pytest.mark.faults
def test_four_jobs_survive_one_death_after_the_other(world: World, job_id: str) -> None:
    """The daemon dies ten times, mostly a bit further on than before; every job is done exactly once in the end."""
    jobs = [f"{job_id}-{number}" for number in range(4)]
    for job in jobs:
        world.drop(job)
    died_at = [point for point in KILLED_AT if dies_at(world, point, jobs)]
    assert len(died_at) >= len(KILLED_AT) - 3  # a few may find nothing left to do there
    lost = {job: world.calls_without_reply(job) for job in jobs}
    world.start()
    world.wait_until_complete(*jobs)
    for job in jobs:
        downs = [event for event in world.events(job) if event["type"] == "ProcessDown"]
        assert faults_of(world, job, restarts=len(downs), lost_calls=lost[job]) == []
