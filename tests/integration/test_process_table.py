"""What /proc tells of real processes, and how all of a family are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

from pop_actors import process_table
from pop_actors.system.job_usage import memory_of
from support.daemon import wait_until

SOON = 10.0
MINE = f"as mine {os.getpid()}"  # other tests run at the same time
MB = 1024 * 1024
# A child that starts another one, in a session of its own; each prints its pid.
FAMILY = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
print(os.getpid(), child.pid, flush=True)
signal.pause()
"""
HOLDING = "held = b'x' * (64 * 1024 * 1024); import signal; print(flush=True); signal.pause()"


@pytest.fixture
def family() -> Iterator[list[int]]:
    """The pids of a child and its child."""
    marked = {**os.environ, "MARKED": MINE}
    process = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, env=marked)
    assert process.stdout is not None
    pids = [int(word) for word in process.stdout.readline().split()]
    for pid in pids:  # the second may still be on its way into its program
        wait_until(lambda p=pid: process_table.carries(p, "MARKED", MINE), SOON, f"{pid} to carry the mark")
    yield pids
    for pid in pids:
        process_table.kill_if(pid, process_table.is_alive)
    process.stdout.close()
    process.wait(SOON)


def test_descendants_are_found_wherever_their_session_is(family: list[int]) -> None:
    """The nearer first; of a process that is not there, none."""
    parent, child = family
    found = process_table.descendants_of(os.getpid())
    assert found.index(parent) < found.index(child)
    assert process_table.children_of(parent) == [child]
    assert process_table.parent_of(child) == parent
    assert process_table.children_of(process_table_gap()) == []


def process_table_gap() -> int:
    """A pid that nobody has."""
    taken = set(process_table.everybody())
    return next(pid for pid in range(2, 4_000_000) if pid not in taken)


def test_a_mark_is_inherited_and_found(family: list[int]) -> None:
    """By its whole value, and never on the one that looks."""
    wait_until(lambda: set(process_table.carriers("MARKED", MINE)) == set(family), SOON, "both to be seen")
    assert process_table.carriers("MARKED", "as mine") == []
    own = os.environ.get("PATH", "")
    assert os.getpid() not in process_table.carriers("PATH", own)


def test_a_mark_is_found_on_a_process_that_executes_one_program_after_the_other() -> None:
    """Its environment is out of sight for a moment each time."""
    again = 'i=$((${1:-0} + 1)); [ $i -lt 300 ] && exec /bin/sh "$0" $i; exec sleep 600'
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
        script.write(again)
        script.flush()
        process = subprocess.Popen(["/bin/sh", script.name], env={**os.environ, "MARKED": f"again {MINE}"})
        try:
            wait_until(lambda: process_table.carries(process.pid, "MARKED", f"again {MINE}"), SOON, "it to start")
            missed = sum(not process_table.carries(process.pid, "MARKED", f"again {MINE}") for _ in range(5000))
            assert missed == 0
        finally:
            process.kill()
            process.wait(SOON)


def test_all_are_ended_and_zombies_count_as_dead(family: list[int]) -> None:
    """When it returns nobody lives; a second time there is nobody to end."""
    killed = process_table.end_all(lambda: process_table.carriers("MARKED", MINE), SOON)
    assert killed == set(family)
    assert [pid for pid in family if process_table.is_alive(pid)] == []
    assert process_table.end_all(lambda: family, SOON) == set()


def test_who_is_named_no_more_once_it_is_held_is_spared() -> None:
    """A pid may have changed hands between the look and the kill: whoever has it now is looked at again."""
    with subprocess.Popen(["sleep", "600"]) as stranger:
        looks = iter([[stranger.pid], [], []])
        assert process_table.end_all(lambda: next(looks), SOON) == set()
        assert not process_table.kill_if(stranger.pid, lambda _: False)
        assert process_table.is_alive(stranger.pid)
        assert process_table.kill_if(stranger.pid, process_table.is_alive)


def test_more_than_are_held_at_once_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """In rounds: what is held costs descriptors, which others need, too."""
    monkeypatch.setattr(process_table, "MOST_AT_ONCE", 2)
    many = [subprocess.Popen(["sleep", "600"], env={**os.environ, "MARKED": f"many {MINE}"}) for _ in range(7)]
    killed = process_table.end_all(lambda: process_table.carriers("MARKED", f"many {MINE}"), SOON)
    assert killed == {one.pid for one in many}
    for one in many:
        one.wait(SOON)


def test_what_forks_while_it_is_being_ended_is_ended_too() -> None:
    """A parent that has a new child all the time is no match for it."""
    forking = "while :; do sleep 600 & sleep 0.001; done"
    parent = subprocess.Popen(["/bin/sh", "-c", forking], env={**os.environ, "MARKED": f"fork {MINE}"})
    wait_until(lambda: len(process_table.carriers("MARKED", f"fork {MINE}")) > 20, SOON, "it to fork")
    process_table.end_all(lambda: process_table.carriers("MARKED", f"fork {MINE}"), SOON)
    assert process_table.carriers("MARKED", f"fork {MINE}") == []
    parent.wait(SOON)


def test_a_dead_child_is_reaped_once() -> None:
    """Its exit code is told; of somebody else's child, or a living one, nothing is."""
    child = os.fork()
    if child == 0:
        signal.pause()
    assert process_table.reap(child) is None
    os.kill(child, signal.SIGTERM)
    codes: list[int | None] = []
    wait_until(lambda: codes.append(process_table.reap(child)) or codes[-1] is not None, SOON, "it to die")
    assert codes[-1] == -signal.SIGTERM
    assert process_table.reap(child) is None
    assert process_table.reap(1) is None


def test_memory_is_what_processes_hold_together() -> None:
    """A bound where it is low enough, the exact sum where not; a process that is gone holds nothing."""
    holders = [subprocess.Popen([sys.executable, "-c", HOLDING], stdout=subprocess.PIPE) for _ in range(2)]
    try:
        for holder in holders:
            assert holder.stdout is not None
            holder.stdout.readline()
        pids = [holder.pid for holder in holders]
        exact, bound = memory_of(pids, 0), memory_of(pids, 1024 * MB)
        assert 128 * MB <= exact <= bound < 256 * MB
    finally:
        for holder in holders:
            holder.kill()
            assert holder.stdout is not None
            holder.stdout.close()
            holder.wait(SOON)
    assert memory_of(pids, 0) == 0
