"""The service's shell and its tree: what a reload does, and that a job lives through the crash of any system actor."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pop_actors import config
from pop_actors.daemon import Daemon
from pop_actors.system import messages as m
from pop_actors.systemd import ServiceManager
from support import daemon as popd
from support.daemon import wait_until

SOON = 15.0
GATED = """
import os, time
def ingestion(ctx):
    ctx.io.write_tmp("runs", "x", mode="append")
    return {"output": 1}
def parsing(ctx):
    while not os.path.exists(GATE): time.sleep(0.005)
    return {"output": ctx.llm.chat([{"role": "user", "content": "hello"}]).content}
"""


class Poison:
    """No actor survives looking at it."""

    @property
    def __class__(self) -> type:
        raise RuntimeError("poison")


@pytest.fixture
def workspace(tmp_path: Path) -> popd.Workspace:
    workspace = popd.Workspace(tmp_path)
    workspace.settings("[http]\nenabled = false\n[jobs]\nmax_running = 1\n")
    workspace.add_pipeline("gated", {"only": f"GATE = {str(tmp_path / 'gate')!r}\n{GATED}"})
    return workspace


@pytest.fixture
def daemon(workspace: popd.Workspace) -> Iterator[Daemon]:
    """All of popd's parts, in this process."""
    settings = config.load(workspace.root, None, {})
    for folder in settings.workspace.folders:
        folder.mkdir(parents=True)
    died: list[str] = []
    daemon = Daemon(settings, settings.workspace.state / "popd.sock", lambda: None, lambda: None, died.append)
    daemon.start()
    yield daemon
    (workspace.root / "gate").touch()
    daemon.stop()
    assert died == []


@pytest.mark.parametrize("address", [m.STATUS_WRITER, m.GATEWAY, m.SCHEDULER, m.JOBS, m.WATCHER])
def test_a_job_lives_through_the_crash_of_a_system_actor(
    daemon: Daemon, workspace: popd.Workspace, address: str
) -> None:
    """It is started again; the running job completes without a finished stage run twice, and so does one that waits."""
    workspace.drop("runs")
    wait_until(lambda: (workspace.status("runs") or {}).get("currentStage") == "parsing", SOON, "the job to run")
    workspace.drop("waits")
    wait_until(lambda: workspace.state("waits") == "pending", SOON, "the other to be claimed")
    before = daemon._registry.find(address)
    assert before is not None
    before.tell(Poison())
    if address == m.JOBS:  # its last act is to have its jobs leave at a stage boundary
        (workspace.root / "gate").touch()
    wait_until(lambda: daemon._registry.find(address) not in (None, before), SOON, f"{address} to be back")
    (workspace.root / "gate").touch()
    for job_id in ("runs", "waits"):
        wait_until(lambda job_id=job_id: workspace.is_complete(job_id), SOON, f"{job_id} to complete")
        place = workspace.data / "complete" / job_id
        assert (place / "files" / "tmp" / "runs").read_text(encoding="utf-8") == "x"
    assert sorted(run["id"] for run in workspace.runs()) == ["runs", "waits"]
    assert daemon.is_alive()
    assert daemon.faults() == []


def test_a_reload_keeps_running_and_takes_over_what_it_can(workspace: popd.Workspace) -> None:
    """SIGHUP: logging is in force, the rest is named, wrong settings are refused; then SIGTERM ends it with 0."""
    with popd.Daemon(workspace) as running:
        assert running.process is not None
        workspace.settings("[http]\nenabled = false\n[jobs]\nmax_running = 7\n")
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "waiting for a restart: jobs" in running.text_of_log(), SOON, "the reload", running)
        workspace.settings("[jobs]\nmax_running = 0\n")
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "not taken over" in running.text_of_log(), SOON, "the refusal", running)
        assert running.ctl("list").returncode == 0
        assert running.stop() == 0


def test_the_service_manager_is_told_in_one_datagram(tmp_path: Path) -> None:
    """States joined by newlines; a path and an abstract name; silent where nobody listens."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(5)
        ServiceManager(str(path)).tell("READY=1", "STATUS=well")
        assert manager.recv(100) == b"READY=1\nSTATUS=well"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + str(path))
        manager.settimeout(5)
        ServiceManager("@" + str(path)).tell("STOPPING=1")
        assert manager.recv(100) == b"STOPPING=1"
    ServiceManager(str(path)).tell("WATCHDOG=1")
    ServiceManager(None).tell("WATCHDOG=1")
