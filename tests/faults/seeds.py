"""The seeds that bring a service to the points of the matrix, and what is to become of each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from fault_world import BAD_SEED, World
from oracle import (
    faults_of_controlled,
    faults_of_edited,
    faults_of_gated,
    faults_of_rejection,
    faults_of_second_run,
    places_of,
)

from support.daemon import Daemon, wait_until

SECONDS = 45.0


@dataclass(frozen=True)
class Seed:
    """`bring_about` does what is needed beyond the drop; popctl may then wait for a daemon that has been killed."""

    drop: Callable[[World, str], None]
    wait: Callable[[World, str], None]
    faults: Callable[[World, str], list[str]]
    bring_about: Callable[[Daemon, World, str], subprocess.Popen[bytes] | None] = lambda *_: None


def _wait_for_rejection(world: World, job_id: str) -> None:
    rejected = ["rejected"]
    wait_until(lambda: places_of(world.workspace.data, job_id) == rejected, SECONDS, "the rejection", world.daemon)


def _wait_for_runs(world: World, job_id: str) -> None:
    world.wait_until_complete(job_id)


def _run_again(daemon: Daemon, world: World, job_id: str) -> subprocess.Popen[bytes]:
    world.wait_until_complete(job_id)
    command = [sys.executable, "-m", "pop_actors.cli", "--root", str(world.workspace.root), "restart", job_id]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _state(world: World, job_id: str) -> str | None:
    """None also where a power cut tore the status, until a start writes it anew."""
    try:
        return world.workspace.state(job_id)
    except ValueError:
        return None


def _approve(world: World, job_id: str) -> subprocess.Popen[bytes]:
    wait_until(lambda: _state(world, job_id) == "waiting", SECONDS, "the gate", world.daemon)
    command = [sys.executable, "-m", "pop_actors.cli", "--root", str(world.workspace.root), "approve", job_id]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _approve_unless_killed(daemon: Daemon, world: World, job_id: str) -> subprocess.Popen[bytes] | None:
    wait_until(
        lambda: _state(world, job_id) == "waiting" or not daemon.is_alive() or world.has_stopped(),
        SECONDS, "the gate, or the fault before it", daemon,
    )  # fmt: skip
    is_there = _state(world, job_id) == "waiting" and daemon.is_alive() and not world.has_stopped()
    return _approve(world, job_id) if is_there else None


def _edit_and_approve(daemon: Daemon, world: World, job_id: str) -> subprocess.Popen[bytes] | None:
    wait_until(lambda: _state(world, job_id) == "waiting", SECONDS, "the gate", daemon)
    world.edit()
    return _approve(world, job_id)


def _wait_for_the_end(world: World, job_id: str) -> None:
    """An approval whose teller was killed with it is told once more, if it was not recorded."""
    states = {"waiting", "done"}
    wait_until(
        lambda: world.workspace.is_complete(job_id) or _state(world, job_id) in states, SECONDS,
        "the gate or the end", world.daemon,
    )  # fmt: skip
    if _state(world, job_id) == "waiting":
        assert world.daemon is not None
        world.daemon.wait_until_ready()
        world.daemon.ctl("approve", job_id, check=False)
    world.wait_until_complete(job_id)


SEEDS = {
    "gated": Seed(
        drop=lambda world, job_id: world.drop(job_id, "gated"),
        wait=_wait_for_the_end,
        faults=faults_of_gated,
        bring_about=_approve_unless_killed,
    ),
    "edited": Seed(
        drop=lambda world, job_id: world.drop(job_id, "edited"),
        wait=_wait_for_the_end,
        faults=faults_of_edited,
        bring_about=_edit_and_approve,
    ),
    "controlled": Seed(
        drop=lambda world, job_id: world.drop(job_id, "controlled"),
        wait=_wait_for_runs,
        faults=faults_of_controlled,
    ),
    "poor": Seed(
        drop=lambda world, job_id: world.drop(job_id, rejected=True),
        wait=_wait_for_rejection,
        faults=lambda world, job_id: faults_of_rejection(world.workspace.data, job_id, "quality"),
    ),
    "invalid": Seed(
        drop=lambda world, job_id: world.workspace.drop(job_id, BAD_SEED),
        wait=_wait_for_rejection,
        faults=lambda world, job_id: faults_of_rejection(world.workspace.data, job_id, "invalid_json"),
    ),
    "again": Seed(
        drop=lambda world, job_id: world.drop(job_id, "again"),
        wait=_wait_for_runs,
        faults=faults_of_second_run,
        bring_about=_run_again,
    ),
}
