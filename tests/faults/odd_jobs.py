"""Jobs that behave badly, and one that goes on ticking beside them."""

from __future__ import annotations

import itertools
from pathlib import Path

from fault_world import BEGIN, DEATH_SECONDS, World, is_alive

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
# Starts a process that leaves its session and whose parent is gone at once; its pid goes to seed.data.pids. Then it
# waits for the file seed.data.release.
ESCAPING = (
    BEGIN
    + """
import subprocess, threading

def ingestion(ctx):
    begin(ctx, "ingestion")
    told = ctx.data["seed"]["data"]
    pids = told["pids"]
    if not os.path.exists(pids):
        command = f"setsid sleep 600 > /dev/null 2>&1 & echo $! > {pids}.new; mv {pids}.new {pids}"
        subprocess.run(["/bin/sh", "-c", command], check=True)
    while not os.path.exists(told["release"]):
        threading.Event().wait(0.02)
    return {"output": {}}
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
