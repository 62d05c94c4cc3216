"""What the forkserver does before it forks: a task is run some times, so that every job's process finds it prepared."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

from pop_actors.runner.rehearsal import NAME, rehearse


def test_a_rehearsal_is_a_task_run_to_its_end(tmp_path: Path) -> None:
    """Else it would prepare how things fail; what fails in it is passed over, and would be noticed by nobody."""
    rehearse(tmp_path, 3)
    letters = [json.loads(path.read_bytes()) for path in tmp_path.rglob("letter.json")]
    assert [letter["state"] for letter in letters] == ["done"] * 3


def test_a_rehearsal_leaves_nothing_behind(tmp_path: Path) -> None:
    """No thread, since the forkserver forks; no module or path that a job's own code could meet."""
    threads, path, modules = threading.enumerate(), sys.path[:], set(sys.modules)
    rehearse(tmp_path, 1)
    assert (threading.enumerate(), sys.path) == (threads, path)
    assert not any(NAME in name for name in set(sys.modules) - modules)
