"""Whatever else dies, hangs or is stopped: jobs go on or end with a reason, and nothing outlives who started it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

import pytest
from fault_world import DEATH_SECONDS, World, is_alive, is_stopped, kill_9
from odd_jobs import (
    ESCAPING,
    EXITING,
    HANGING,
    PARENT,
    QUICK,
    Steady,
    stages_of,
    wait_for_pids,
    wait_until_dead,
)
from oracle import faults_of

from support.daemon import Daemon, wait_until


def state_in_tree(daemon: Daemon, name: str) -> str | None:
    """What `popctl tree` says of an actor; None where it is not there."""
    shown = daemon.ctl("tree", "--json", check=False)
    rows = [json.loads(shown.stdout)] if shown.returncode == 0 else []
    for row in rows:  # grows on the way
        rows += row["children"]
    return next((row["state"] for row in rows if row["name"] == name), None)


def test_a_polite_stop_suspends_a_job_at_its_next_stage(world: World, job_id: str) -> None:
    """After the next start it goes on there: no finished stage again, no restart counted, one line in runs.jsonl."""
    steady = Steady(world, job_id)
    daemon = world.start()
    steady.wait_until_it_ticks(world)
    os.kill(daemon.pid, signal.SIGTERM)
    wait_until(lambda: state_in_tree(daemon, f"jobs/{job_id}") == "stopping", 20, "the job to be told", daemon)
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


def escape(world: World, job_id: str) -> int:
    """Start a job that has a process escape; that one's pid."""
    pids = world.executions.with_name("pids")
    world.workspace.add_pipeline("escaping", {"escape": ESCAPING})
    world.drop(job_id, "escaping", pids=str(pids), release=str(world.executions.with_name("release")))
    if world.daemon is None:
        world.start()
    (escaped,) = wait_for_pids(pids, world)
    return escaped


def let_it_end(world: World, job_id: str) -> None:
    world.executions.with_name("release").touch()
    world.wait_until_complete(job_id)


def test_what_has_escaped_dies_with_the_daemon(world: World, job_id: str) -> None:
    """kill -9 of the daemon alone: the forkserver, which has adopted it, ends it before it ends itself."""
    escaped = escape(world, job_id)
    world.kill_daemon()
    world.wait_until_all_dead()
    wait_until_dead([escaped])


def test_what_has_escaped_from_everybody_is_ended_by_the_next_start(world: World, job_id: str) -> None:
    """kill -9 of all that the daemon has started, forkserver and job at once: only the mark it carries is left."""
    escaped = escape(world, job_id)
    forkserver = parent_of(world, world.wait_for_job_process(job_id).pid)
    os.kill(forkserver, signal.SIGSTOP)  # or it would end the others the moment it finds the daemon gone
    world.kill_everything()
    world.wait_until_all_dead()
    assert is_alive(escaped)
    world.start()
    wait_until_dead([escaped])  # by the mark, or by its cgroup, which any popd that starts here looks through
    let_it_end(world, job_id)


@pytest.mark.faults
def test_what_has_escaped_ends_with_its_job_after_the_forkserver_died(world: World, job_id: str) -> None:
    """The daemon adopts it then; the job goes on without it."""
    escaped = escape(world, job_id)
    pid = world.wait_for_job_process(job_id).pid
    forkserver = parent_of(world, pid)
    kill_9(forkserver)
    wait_until_dead([forkserver])
    kill_9(pid)
    wait_until_dead([escaped])
    let_it_end(world, job_id)
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


@pytest.mark.faults
@pytest.mark.timeout(180)
def test_a_system_actor_that_hangs_has_the_service_start_anew(world: World, job_id: str) -> None:
    """No thread can be killed: its heartbeat missed, popd stops what it can and exits 1. The next start goes on with
    the job that ran and takes up the seed the actor hung on."""
    steady, hung_on = job_id, f"{job_id}-h"
    ticking = Steady(world, steady)
    world.workspace.add_pipeline("quick", {"quick": QUICK})
    daemon = world.start()
    ticking.wait_until_it_ticks(world)
    index = world.workspace.root / "pipeline-config" / "quick" / "tasks" / "index.py"
    source = index.read_text()
    index.unlink()
    os.mkfifo(index)  # whoever opens it waits for a writer that never comes
    world.drop(hung_on, "quick")
    assert daemon.process is not None
    assert daemon.process.wait(90) == 1
    assert "no heartbeat" in daemon.text_of_log()
    world.wait_until_all_dead()
    index.unlink()
    index.write_text(source)
    ticking.release()
    world.start()
    world.wait_until_complete(steady, hung_on)
    assert stages_of(world, hung_on) == ["ingestion"]
    assert stages_of(world, steady) == ["ingestion", "ingestion", "integration"]
    assert sorted(run["id"] for run in world.workspace.runs()) == sorted([steady, hung_on])


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
