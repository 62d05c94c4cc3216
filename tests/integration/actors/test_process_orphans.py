"""Nothing a process actor starts outlives it: not what left its group, its session and its parent."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_world import SOON, World, ends

from pop_actors import process_table
from pop_actors.actors import cgroup
from pop_actors.actors.worker import ADDRESS
from support.daemon import wait_until


@pytest.fixture
def world() -> Iterator[World]:
    with World() as world:
        yield world


@pytest.mark.parametrize("way", ["execute", "fork"])
@pytest.mark.parametrize("end", ["killed", "leave", "raise", "end"])
def test_what_has_escaped_ends_with_its_process(world: World, end: str, way: str) -> None:
    """In a session of its own, its parent dead: it is found all the same, however its process ends."""
    world.start()
    escaped = world.ask("escape", way)
    assert process_table.parent_of(escaped) == world.pid()
    if end == "killed":
        os.kill(world.pid(), signal.SIGKILL)
    else:
        world.tell(end)
    assert ends(escaped, SOON)


def test_a_successor_meets_nothing_of_its_predecessor(world: World) -> None:
    """Even what is stopped, and a whole family of it: all are dead before the next one starts."""
    world.start()
    pid = world.pid()
    escaped = [world.ask("escape", way) for way in ("execute", "fork")] + [world.ask("grandchild")]
    for one in escaped:
        os.kill(one, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    assert world.next_exit()[:2] == ("a", 1)
    assert [one for one in (pid, *escaped) if process_table.is_alive(one)] == []
    assert world.ask("who")["epoch"] == 2


def test_only_the_dead_ones_orphans_are_ended(world: World) -> None:
    """Those of the others live on, and so does the pool."""
    world.start("a")
    world.start("b")
    (idle,) = world.wait_idle(1)
    theirs = world.ask("escape", "execute", name="b")
    escaped = world.ask("escape", "execute", name="a")
    os.kill(world.pid("a"), signal.SIGKILL)
    assert ends(escaped, SOON)
    assert world.ask("who", name="a")["epoch"] == 2
    assert process_table.is_alive(theirs)
    assert world.ask("who", name="b")["epoch"] == 1
    assert world.pid("a") == idle


def test_zombies_that_nobody_waits_for_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of the daemon's own left a process behind, which was adopted and has ended: it is reaped after a while,
    when no owner can be meant to wait for it any more. At first it is let be."""

    def next_life() -> None:
        os.kill(world.pid(), signal.SIGKILL)
        assert world.next_exit()[0] == "a"
        world.ask("who")

    with World(workspace=str(tmp_path), max_restarts=9) as world:
        world.start()
        command = ["/bin/sh", "-c", "exec 3<&0; cat <&3 > /dev/null & echo $!"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
            assert program.stdout is not None
            adopted = int(program.stdout.readline())
            assert program.wait(SOON) == 0
        wait_until(lambda: not process_table.is_alive(adopted), SOON, "it to end")
        for _ in range(2):
            next_life()
        assert adopted in process_table.children_of(os.getpid())
        monkeypatch.setattr("pop_actors.actors.forkserver.UNCLAIMED_SECONDS", 0.0)
        monkeypatch.setattr("pop_actors.actors.forkserver.LOOK_SECONDS", 0.0)
        next_life()
        assert adopted not in process_table.children_of(os.getpid())


def test_what_an_actor_starts_knows_whose_it_is(world: World) -> None:
    """By a variable of its environment, which is the actor's address."""
    world.start()
    assert world.ask("environment", ADDRESS) == "a"
    assert process_table.carries(world.ask("escape", "execute"), ADDRESS, "a")


def test_limits_are_set_before_the_actor_is_there(world: World) -> None:
    """And are hard ones, so that they cannot be lifted from within without privilege."""
    world.start(limits={"RLIMIT_NOFILE": 333})
    assert world.ask("limits")["RLIMIT_NOFILE"] == [333, 333]


@pytest.mark.faults
def test_a_process_that_blocks_after_its_good_bye_is_ended(world: World) -> None:
    """Its end was told already, and nobody watches it any more: a flush that never returns does not keep it."""
    world.start()
    pid = world.pid()
    world.tell("hang_at_exit")
    _, _, reason, will_restart = world.next_exit()
    assert (reason.kind, will_restart) == ("normal", False)
    assert ends(pid, SOON)


@pytest.fixture
def cgroup_world(tmp_path: Path) -> Iterator[World]:
    """A world whose workers have cgroups."""
    made = cgroup.prepare(str(tmp_path))
    if made is None:
        pytest.skip("no cgroup v2 is delegated to this process")
    made.close()
    with World(workspace=str(tmp_path)) as world:
        yield world


def members(folder: str) -> list[int]:
    return [int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()]


def test_a_worker_has_a_cgroup_that_goes_with_it(cgroup_world: World) -> None:
    """With whatever it has started, wherever that fled to; one write ends them all, and the folder is removed."""
    cgroup_world.start()
    pid = cgroup_world.pid()
    escaped = cgroup_world.ask("escape", "fork")
    (folder,) = [one.cgroup for one in cgroup_world.host._all if one.pid == pid]
    assert folder is not None
    assert sorted(members(folder)) == sorted([pid, escaped])
    cgroup.kill(folder)
    assert ends(escaped, SOON)
    assert cgroup_world.ask("who")["epoch"] == 2
    wait_until(lambda: not os.path.isdir(folder), SOON, "the cgroup to be removed")


def test_a_cgroup_goes_with_those_that_were_made_in_it(cgroup_world: World) -> None:
    """As containers make some: who sits there dies, and nothing of it is left."""
    cgroup_world.start(restart="temporary")
    pid = cgroup_world.pid()
    (folder,) = [one.cgroup for one in cgroup_world.host._all if one.pid == pid]
    escaped = cgroup_world.ask("escape", "execute")
    inner = Path(folder or "", "container", "init")
    inner.mkdir(parents=True)
    Path(inner, "cgroup.procs").write_text(str(escaped))
    os.kill(pid, signal.SIGKILL)
    assert ends(escaped, SOON)
    wait_until(lambda: not os.path.isdir(folder or ""), SOON, "the cgroup to be removed")


def test_cgroups_of_a_killed_host_are_ended_by_the_next(tmp_path: Path) -> None:
    """Of whatever workspace: those who still sit there die, and the folders are gone."""
    left = cgroup.prepare(str(tmp_path / "another"))
    if left is None:
        pytest.skip("no cgroup v2 is delegated to this process")
    folder = left.make()
    assert folder is not None
    sleeper = subprocess.Popen(["sleep", "600"])
    Path(folder, "cgroup.procs").write_text(str(sleeper.pid))
    beside = cgroup.prepare(str(tmp_path / "beside"))
    assert beside is not None
    assert os.path.isdir(folder)  # its host lives
    assert left._lock is not None
    os.close(left._lock)  # as the kernel does it for a process that is killed
    again = cgroup.prepare(str(tmp_path))
    assert again is not None
    assert (sleeper.wait(SOON), os.path.isdir(left.folder)) == (-signal.SIGKILL, False)
    assert os.path.isdir(beside.folder)
    beside.close()
    again.close()
    again.close()
    assert not os.path.isdir(again.folder)


def test_a_host_that_stops_leaves_no_cgroup(tmp_path: Path) -> None:
    """Neither of the pool nor of actors, nor the folder they were in."""
    with World(warm=2, workspace=str(tmp_path)) as world:
        if world.host._cgroups is None:
            pytest.skip("no cgroup v2 is delegated to this process")
        world.start()
        world.wait_idle(2)
        folder = world.host._cgroups.folder
        assert len([name for name in os.listdir(folder) if name.startswith("worker-")]) == 3
    assert not os.path.isdir(folder)
