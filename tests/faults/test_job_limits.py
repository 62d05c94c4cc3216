"""A job that uses too much is ended, alone, with a reason that says what to do; and it does not come back by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fault_world import BEGIN, World
from odd_jobs import Steady, stages_of, wait_for_pids, wait_until_dead

from support.daemon import wait_until

# Half of the memory is held by a child, so that only both together are too much.
EATING = (
    BEGIN
    + """
import subprocess, sys, threading

HALF = 90 * 1024 * 1024
CHILD = f"held = b'x' * {HALF}; import signal; print(flush=True); signal.pause()"

def ingestion(ctx):
    begin(ctx, "ingestion")
    told = ctx.data["seed"]["data"]
    if "pids" in told and not os.path.exists(told["pids"]):
        child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
        child.stdout.readline()
        with open(told["pids"] + ".new", "w") as file:
            file.write(str(child.pid))
        os.rename(told["pids"] + ".new", told["pids"])
        held = b"x" * HALF
        threading.Event().wait(30)
    return {"output": {}}
"""
)
FILLING = (
    BEGIN
    + """
import threading

def ingestion(ctx):
    begin(ctx, "ingestion")
    for number in range(40):
        ctx.io.write_tmp(f"{number}.bin", "x" * 1024 * 1024)
    threading.Event().wait(30)
    return {"output": {}}
"""
)
FORKING = (
    BEGIN
    + """
import subprocess

def ingestion(ctx):
    begin(ctx, "ingestion")
    sleepers = [subprocess.Popen(["sleep", "600"]) for _ in range(30)]
    sleepers[0].wait()
    return {"output": {}}
"""
)
GREEDY = (
    BEGIN
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    return {"output": {"got": len(bytearray(4 * 1024**3))}}
"""
)
OPENING = (
    BEGIN
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    held = [open("/dev/null") for _ in range(200)]
    return {"output": {}}
"""
)
PRINTING = (
    BEGIN
    + """
import subprocess, threading

def ingestion(ctx):
    begin(ctx, "ingestion")
    told = ctx.data["seed"]["data"]
    print("from python")
    os.write(1, b"the first line of all\\n")
    subprocess.run("yes | head -c 30000000", shell=True, check=True)
    while not os.path.exists(told["release"]):
        threading.Event().wait(0.02)
    subprocess.run("yes | head -c 30000000", shell=True, check=True)
    return {"output": {}}
"""
)
# Each process lives longer than the period in which restarts are counted.
LATE_EXIT = (
    BEGIN
    + """
import threading

def ingestion(ctx):
    begin(ctx, "ingestion")
    threading.Event().wait(0.2)
    os._exit(3)
"""
)
STUMBLING = (
    BEGIN
    + """
import threading

def stumble(ctx, stage):
    begin(ctx, stage)
    threading.Event().wait(0.2)
    mark = ctx.data["seed"]["data"]["executions"] + "." + ctx.meta.task_name + "." + stage
    if not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(3)
    return {"output": {}}

def ingestion(ctx):
    return stumble(ctx, "ingestion")

def parsing(ctx):
    return stumble(ctx, "parsing")
"""
)


def error_of(world: World, job_id: str) -> dict[str, Any]:
    """Why it is in error, once it is."""
    wait_until(lambda: world.workspace.state(job_id) == "error", 20, f"{job_id} to be in error", world.daemon)
    wait_until(lambda: world.job_process(job_id) is None, 10, "its process to be gone", world.daemon)
    status = world.workspace.status(job_id)
    assert status is not None
    error: dict[str, Any] = status["error"]
    return error


def test_a_job_that_eats_memory_is_ended_with_all_it_started(make_world: Callable[..., World], job_id: str) -> None:
    """Its processes are counted together; the others go on; with a higher limit it can be run again."""
    world = make_world("[jobs]\nmemory_limit_mb = 150\n")
    hungry, steady = f"{job_id}-h", job_id
    ticking = Steady(world, steady)
    world.workspace.add_pipeline("eating", {"eat": EATING})
    pids = world.executions.with_name("pids")
    daemon = world.start()
    ticking.wait_until_it_ticks(world)
    world.drop(hungry, "eating", pids=str(pids))
    children = wait_for_pids(pids, world)
    error = error_of(world, hungry)
    assert (error["reason"], error["name"], error["task"]) == ("crashed", "MemoryLimitExceeded", "eat")
    assert "the limit is 150 MB (jobs.memory_limit_mb)" in error["message"]
    assert f"popctl restart {hungry}" in error["message"]
    wait_until_dead(children)
    assert stages_of(world, hungry) == ["ingestion"]
    ticking.release()
    world.wait_until_complete(steady)
    undisturbed = world.workspace.status(steady)
    assert undisturbed is not None
    assert undisturbed["restarts"] == 0
    daemon.ctl("restart", hungry)
    world.wait_until_complete(hungry)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("setting", "source", "name", "words"),
    [
        ("disk_limit_mb = 20", FILLING, "DiskLimitExceeded", "the limit is 20 MB (jobs.disk_limit_mb)"),
        ("processes_limit = 20", FORKING, "ProcessLimitExceeded", "the limit is 20 (jobs.processes_limit)"),
    ],
)
def test_a_job_that_takes_too_much_of_something_is_ended_once(
    make_world: Callable[..., World], job_id: str, setting: str, source: str, name: str, words: str
) -> None:
    """It is not tried again, for that would cost as much again."""
    world = make_world(f"[jobs]\n{setting}\n")
    world.workspace.add_pipeline("taking", {"take": source})
    world.drop(job_id, "taking")
    world.start()
    error = error_of(world, job_id)
    assert (error["reason"], error["name"]) == ("crashed", name)
    assert words in error["message"]
    assert stages_of(world, job_id) == ["ingestion"]
    wait_until(lambda: not [one for one in world.family() if one.name == "sleep"], 10, "its children to be gone")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("source", "name"), [(GREEDY, "MemoryError"), (OPENING, "OSError")], ids=["memory at once", "files"]
)
def test_what_the_kernel_refuses_is_the_tasks_own_error(
    make_world: Callable[..., World], job_id: str, source: str, name: str
) -> None:
    """A burst of memory no sample could catch, and too many open files: an exception in the task, no crash."""
    world = make_world("[jobs]\nmemory_limit_mb = 100\nopen_files_limit = 128\n[tasks]\nmax_attempts = 1\n")
    world.workspace.add_pipeline("refused", {"refused": source})
    world.drop(job_id, "refused")
    world.start()
    error = error_of(world, job_id)
    assert (error["reason"], error["name"], error["stage"]) == ("exception", name, "ingestion")
    assert [event["type"] for event in world.events(job_id)].count("ProcessDown") == 0


def test_what_subprocesses_print_is_bounded(make_world: Callable[..., World], job_id: str) -> None:
    """The beginning is kept, a last line says that there was more; while the job runs and when it has ended."""
    world = make_world()
    release = world.executions.with_name("release")
    world.workspace.add_pipeline("printing", {"print": PRINTING})
    world.drop(job_id, "printing", release=str(release))
    world.start()
    log = world.workspace.data / "current" / job_id / "files" / "logs" / "process.log"
    limit = 10 * 1024 * 1024
    wait_until(lambda: log.exists() and 0 < log.stat().st_size <= limit, 15, "the log to be cut", world.daemon)
    wait_until(lambda: b"[truncated: " in log.read_bytes()[-100:], 15, "the log to say so", world.daemon)
    release.touch()
    world.wait_until_complete(job_id)
    content = (world.workspace.data / "complete" / job_id / "files" / "logs" / "process.log").read_bytes()
    assert len(content) <= limit
    assert content.startswith(b"the first line of all\n")
    assert content.endswith(b"[truncated: a process log ends at 10 MiB, the rest is dropped]\n")


def test_a_job_that_crashes_slowly_for_ever_is_given_up(make_world: Callable[..., World], job_id: str) -> None:
    """However long the time between its crashes is: what counts is that nothing is finished between them."""
    world = make_world("[jobs]\nmax_restarts = 2\nrestart_period_seconds = 0.05\n")
    world.workspace.add_pipeline("exiting", {"exit": LATE_EXIT})
    world.drop(job_id, "exiting")
    world.start()
    error = error_of(world, job_id)
    assert (error["reason"], error["name"], error["stage"]) == ("crashed", "ProcessCrashed", "ingestion")
    assert "3 times before a stage or a task was finished" in error["message"]
    assert stages_of(world, job_id) == ["ingestion"] * 3


def test_a_job_that_gets_on_between_its_crashes_is_not_given_up(make_world: Callable[..., World], job_id: str) -> None:
    """Four crashes, a stage finished after each, with one restart allowed in a row."""
    world = make_world("[jobs]\nmax_restarts = 1\nrestart_period_seconds = 0.05\n")
    world.workspace.add_pipeline("stumbling", dict.fromkeys(("one", "two"), STUMBLING))
    world.drop(job_id, "stumbling")
    world.start()
    world.wait_until_complete(job_id)
    assert stages_of(world, job_id) == ["ingestion", "ingestion", "parsing", "parsing"] * 2
