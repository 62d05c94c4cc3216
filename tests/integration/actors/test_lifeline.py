"""The rope: when the daemon is killed, every process it owns dies with it, whatever it is doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from process_world import SOON, ends

from pop_actors.actors.lifeline import Lifeline, hold
from support.daemon import wait_until

TESTS = Path(__file__).parents[2]
DEATH_SECONDS = 4.0


@pytest.fixture
def parent() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "support.lonely_parent"], cwd=TESTS, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.wait(SOON)
    assert process.stdout is not None
    process.stdout.close()


def test_a_killed_daemon_takes_everything_along(parent: subprocess.Popen[str]) -> None:
    """One in C code that holds the GIL, one stopped by SIGSTOP, its child, and an idle one: all within 2 s."""
    assert parent.stdout is not None
    spinning, stopped, grandchild, idle = map(int, parent.stdout.readline().split())
    assert not any(ends(pid, 0) for pid in (spinning, stopped, grandchild, idle))
    wait_until(lambda: state_of(stopped) == "T", SOON, "the stopped one to stop")
    parent.send_signal(signal.SIGKILL)
    for pid in (spinning, stopped, grandchild, idle):
        assert ends(pid, DEATH_SECONDS), pid


def state_of(pid: int) -> str:
    """Its letter in /proc: T is stopped."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_a_rope_that_is_cut_already_holds_nobody() -> None:
    """A process that takes hold after the daemon is gone ends at once."""
    lifeline = Lifeline()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        lifeline._writer.close()
        lifeline.reader.poll(SOON)  # until the parent has let go as well
        hold(lifeline.reader.fileno())
        os._exit(0)
    lifeline.close()
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_letting_go_twice_is_fine() -> None:
    """The daemon's stop may be called again."""
    lifeline = Lifeline()
    lifeline.close()
    lifeline.close()
    assert lifeline.reader.closed
