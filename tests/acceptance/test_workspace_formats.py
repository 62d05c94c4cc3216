"""A workspace of an older format goes on; one of a newer format is refused as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_world import GOOD, end_of, quick_workspace

from pop_actors.core.events import FORMAT
from support.daemon import Daemon, Workspace, wait_until

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"


def copy_of_format_1(root: Path) -> Workspace:
    """A workspace the first format's code left behind when it was killed with everything it ran."""
    shutil.copytree(FIXTURES / "workspace-format-1", root, dirs_exist_ok=True)
    settings = (root / "pop.toml").read_text(encoding="utf-8")
    workspace = Workspace(root)
    workspace.settings(settings)
    return workspace


def marker_of(workspace: Workspace) -> dict[str, object]:
    document: dict[str, object] = json.loads((workspace.data / "state" / "workspace.json").read_bytes())
    return document


def mark(workspace: Workspace, number: int) -> None:
    (workspace.data / "state").mkdir(parents=True, exist_ok=True)
    marker = {"format": number, "writtenBy": "9.0"}
    (workspace.data / "state" / "workspace.json").write_text(json.dumps(marker), encoding="utf-8")


def everything_in(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and bytes; folders with their times."""
    found = {}
    for path in sorted(root.rglob("*")):
        content = b"" if path.is_dir() else path.read_bytes()
        found[str(path)] = (path.stat().st_mtime_ns, content)
    return found


def popd(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PO_")}
    command = [sys.executable, "-m", "pop_actors", "--root", str(workspace.root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, env=kept)


def test_a_workspace_of_the_first_format_goes_on_where_it_was(tmp_path: Path) -> None:
    """Jobs killed in the middle and the waiting seed are done, no call is bought again, nothing finished runs again;
    who had ended stays ended and can be restarted; the past stays the past."""
    workspace = copy_of_format_1(tmp_path)
    paid = {
        job: (workspace.data / "current" / job / "llm-calls.jsonl").read_bytes() for job in ("middle-1", "middle-2")
    }
    with Daemon(workspace) as daemon:
        for job in ("middle-1", "middle-2", "waiting-1"):
            assert end_of(daemon, job) == "done"
        assert workspace.state("stopped-1") == "stopped"
        assert workspace.state("failed-1") == "error"
        for job, before in paid.items():
            assert (workspace.data / "complete" / job / "llm-calls.jsonl").read_bytes() == before
            status = workspace.status(job)
            assert status is not None
            assert {name: task["attempts"] for name, task in status["tasks"].items()} == {"research": 1, "writing": 1}
        daemon.ctl("restart", "stopped-1")
        assert end_of(daemon, "stopped-1") == "done"
        done = ["done-1", "done-2", "middle-1", "middle-2", "stopped-1", "waiting-1"]
        wait_until(lambda: sorted(run["id"] for run in workspace.runs()) == done, 10, "one line each", daemon)
    assert marker_of(workspace)["format"] == FORMAT


@pytest.mark.parametrize("arguments", [(), pytest.param(("--check",), marks=pytest.mark.faults)])
def test_a_newer_workspace_is_refused_untouched(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit 1 with both formats and what to do, and not a file, folder or lock is made."""
    workspace = copy_of_format_1(tmp_path)
    mark(workspace, FORMAT + 1)
    shutil.rmtree(workspace.data / "rejected")
    before = everything_in(tmp_path)
    done = popd(workspace, *arguments)
    assert done.returncode == 1
    assert f"format {FORMAT + 1}" in done.stderr
    assert "newer" in done.stderr
    assert "Traceback" not in done.stderr
    assert everything_in(tmp_path) == before


def test_a_format_too_old_to_bring_up_is_refused_with_the_way_there(tmp_path: Path) -> None:
    """A version in between can do it."""
    workspace = quick_workspace(tmp_path)
    mark(workspace, 0)
    done = popd(workspace)
    assert done.returncode == 1
    assert "a version in between" in done.stderr
    assert [path.name for path in workspace.data.iterdir()] == ["state"]


@pytest.mark.faults
def test_a_new_workspace_says_its_format_and_a_damaged_marker_stops_nobody(tmp_path: Path) -> None:
    """What the marker was is kept beside it."""
    workspace = quick_workspace(tmp_path)
    with Daemon(workspace):
        assert marker_of(workspace)["format"] == FORMAT
    (workspace.data / "state" / "workspace.json").write_bytes(b"\x00garbage")
    with Daemon(workspace) as daemon:
        assert marker_of(workspace)["format"] == FORMAT
        workspace.drop("goes", {"data": {}, "pipeline": GOOD})
        assert end_of(daemon, "goes") == "done"
    assert (workspace.data / "state" / "workspace.json.damaged-1").read_bytes() == b"\x00garbage"


def test_a_job_of_a_newer_format_is_shown_and_untouched(tmp_path: Path) -> None:
    """Beside jobs that run; its torn end is not even cut."""
    workspace = quick_workspace(tmp_path)
    job = workspace.data / "current" / "from-the-future"
    job.mkdir(parents=True)
    created = {"type": "JobCreated", "id": "from-the-future", "format": FORMAT + 1, "newThing": True}
    (job / "events.jsonl").write_bytes(json.dumps(created).encode() + b'\n{"type":"Unheard')
    before = everything_in(job)
    with Daemon(workspace) as daemon:
        workspace.drop("goes", {"data": {}, "pipeline": GOOD})
        assert end_of(daemon, "goes") == "done"
        shown = json.loads(daemon.ctl("--json", "status", "from-the-future").stdout)
        assert shown["state"] == "error"
        assert f"format {FORMAT + 1}" in shown["error"]["message"]
        assert everything_in(job) == before
