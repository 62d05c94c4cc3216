"""Epochs with real processes: however often the supervisor of jobs dies, no two processes of a job have the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pop_actors import config
from pop_actors.daemon import Daemon
from pop_actors.system import messages as m
from support import daemon as popd
from support.daemon import wait_until

SOON = 30.0
BLOCKED = """
import os, time
def ingestion(ctx):
    while not os.path.exists(RELEASE): time.sleep(0.005)
    return {"output": 1}
"""


class Poison:
    """No actor survives looking at it."""

    @property
    def __class__(self) -> type:
        raise RuntimeError("poison")


@pytest.fixture
def workspace(tmp_path: Path) -> popd.Workspace:
    workspace = popd.Workspace(tmp_path)
    workspace.settings("[http]\nenabled = false\n[jobs]\nmax_running = 1\nmax_restarts = 9\n")
    workspace.add_pipeline("blocked", {"only": f"RELEASE = {str(tmp_path / 'release')!r}\n{BLOCKED}"})
    return workspace


@pytest.fixture
def daemon(workspace: popd.Workspace) -> Iterator[Daemon]:
    """All of popd's parts, in this process."""
    settings = config.load(workspace.root, None, {})
    for folder in settings.workspace.folders:
        folder.mkdir(parents=True)
    daemon = Daemon(settings, settings.workspace.state / "popd.sock", lambda: None, lambda: None, lambda _: None)
    daemon.start()
    yield daemon
    (workspace.root / "release").touch()
    daemon.stop()


def crash(daemon: Daemon, address: str) -> None:
    """It fails, and the next one is there."""
    before = daemon._registry.find(address)
    assert before is not None
    before.tell(Poison())
    wait_until(lambda: daemon._registry.find(address) not in (None, before), SOON, f"{address} to be back")


@pytest.mark.parametrize("also", [None, m.SCHEDULER, m.STATUS_WRITER])
def test_no_epoch_is_had_twice(daemon: Daemon, workspace: popd.Workspace, also: str | None) -> None:
    """The supervisor dies the moment a process is up, before its start can have been recorded, and so does another."""
    pid_file = workspace.data / "current" / "a" / "runner.pid"
    workspace.drop("a")
    seen: set[str] = set()

    def is_new_process() -> bool:
        pid = pid_file.read_text() if pid_file.exists() else ""
        is_new = bool(pid) and pid not in seen
        seen.add(pid)
        return is_new

    for _ in range(2):
        wait_until(is_new_process, SOON, "a process of the job")
        if also is not None:
            crash(daemon, also)
        crash(daemon, m.JOBS)
    (workspace.root / "release").touch()
    wait_until(lambda: workspace.is_complete("a"), SOON, "the job to complete")
    events = workspace.lines(workspace.data / "complete" / "a" / "events.jsonl")
    started = [line["epoch"] for line in events if line["type"] == "JobStarted"]
    assert started == sorted(set(started))
    numbers = [(line["epoch"], line["seq"]) for line in events if line["epoch"]]
    assert numbers == sorted(set(numbers))
    ended = [line["ended"] for line in events if line["type"] == "ProcessDown"]
    assert all(epoch < started[-1] for epoch in ended)
    assert len(workspace.runs()) == 1
