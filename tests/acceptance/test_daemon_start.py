"""How popd starts, refuses to start, and stops: settings, the lock, the port, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from acceptance_world import GOOD, assert_still_serves, end_of, quick_workspace, run

from support.daemon import NOOP_TASK, Daemon, Workspace, wait_until


def popd(workspace: Workspace, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run popd to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PO_")}
    command = [sys.executable, "-m", "pop_actors", "--root", str(workspace.root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, env={**kept, **environment})


WRONG_FILES = {
    "[jobs]\nmax_runing = 3\n": ("jobs.max_runing",),
    '[jobs]\nmax_running = "many"\n': ("jobs.max_running", "many", "integer"),
    "[job]\nmax_running = 3\n": ("job", "jobs"),
    '[workflow]\norchestration = "random"\n': ("workflow.orchestration", "random", "parallel", "sequential"),
    "[gateway.providers.openai]\nrpm = 3\n": ("gateway.providers.openai.rpm",),
    "[jobs\n": ("pop.toml",),
}


@pytest.mark.parametrize("text", WRONG_FILES)
def test_a_wrong_pop_toml_stops_the_start(tmp_path: Path, text: str) -> None:
    """Exit 2; the message names the key, the value and what is allowed."""
    workspace = quick_workspace(tmp_path)
    workspace.settings(text)
    done = popd(workspace)
    assert done.returncode == 2
    for piece in WRONG_FILES[text]:
        assert piece in done.stderr
    assert "Traceback" not in done.stderr


WRONG_VARIABLES = {
    ("PO_JOBS__MAX_RUNNING", "zero"): ("PO_JOBS__MAX_RUNNING", "zero", "integer"),
    ("PO_LOG_LEVEL", "loud"): ("PO_LOG_LEVEL", "loud", "debug"),
}


@pytest.mark.parametrize("variable", WRONG_VARIABLES)
def test_a_wrong_environment_stops_the_start(tmp_path: Path, variable: tuple[str, str]) -> None:
    """Exit 2; the message names the variable, the value and what is allowed."""
    done = popd(quick_workspace(tmp_path), **dict([variable]))
    assert done.returncode == 2
    for piece in WRONG_VARIABLES[variable]:
        assert piece in done.stderr


def test_a_settings_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    """`--config` names a file that must exist; exit 2."""
    done = popd(quick_workspace(tmp_path), "--config", str(tmp_path / "gone.toml"))
    assert (done.returncode, "gone.toml" in done.stderr) == (2, True)


def test_a_second_popd_on_the_same_root_exits_3_and_harms_nothing(tmp_path: Path) -> None:
    """The message names the owner's pid; the first one goes on."""
    with Daemon(quick_workspace(tmp_path)) as daemon:
        done = popd(daemon.workspace)
        assert done.returncode == 3
        assert str(daemon.pid) in done.stderr
        assert_still_serves(daemon, "second-popd")


def test_a_taken_port_stops_the_start(tmp_path: Path) -> None:
    """Exit 2, with the port and what to do; nothing is claimed."""
    workspace = quick_workspace(tmp_path)
    workspace.drop("waits")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        workspace.settings(f"[http]\nport = {port}\n")
        done = popd(workspace)
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert "http.port" in done.stderr
    assert (workspace.data / "pending" / "waits-seed.json").exists()


def test_check_reads_settings_and_pipelines_without_starting(tmp_path: Path) -> None:
    """0 where all is well, 2 with every fault where not; beside a running popd, too."""
    workspace = quick_workspace(tmp_path)
    done = popd(workspace, "--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert GOOD in done.stdout
    assert not workspace.data.exists()
    workspace.add_pipeline("faulty", {"a": NOOP_TASK}, ["a", "a", "zz"])
    done = popd(workspace, "--check")
    assert done.returncode == 2
    assert "/tasks/1/name" in done.stderr
    assert "/tasks/2" in done.stderr
    workspace.settings("[jobs]\nmax_running = 0\n")
    assert popd(workspace, "--check").returncode == 2


def test_a_seed_that_lay_there_before_the_start_runs(tmp_path: Path) -> None:
    """And the folders are made where they are missing."""
    workspace = quick_workspace(tmp_path)
    workspace.drop("early")
    with Daemon(workspace) as daemon:
        assert end_of(daemon, "early") == "done"
        present = {entry.name for entry in workspace.data.iterdir()}
        assert present >= {"staging", "pending", "current", "complete", "rejected", "state"}


SLOW = (
    "import os, time\ndef ingestion(ctx):\n    ctx.io.write_tmp('runs', 'x', mode='append')\n    return {'output': 1}\n"
    "def parsing(ctx):\n    while not os.path.exists(GATE): time.sleep(0.005)\n"
    "    time.sleep(0.5)\n    return {'output': 2}\n"
    "def integration(ctx):\n    return {'output': 3}\n"
)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.faults)])
def test_a_signal_drains_and_the_next_start_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    """Exit 0; a running job is left at a stage boundary, and no finished stage runs again; the run id stays."""
    workspace = quick_workspace(tmp_path)
    gate = tmp_path / "gate"
    workspace.add_pipeline("slow", {"slow": f"GATE = {str(gate)!r}\n{SLOW}"})
    with Daemon(workspace) as daemon:
        workspace.drop("interrupted", {"data": {}, "pipeline": "slow"})
        wait_until(lambda: (workspace.status("interrupted") or {}).get("currentStage") == "parsing", 10, "it", daemon)
        assert daemon.process is not None
        daemon.process.send_signal(number)
        wait_until(lambda: "stopping" in daemon.text_of_log(), 10, "the daemon to stop", daemon)
        gate.touch()
        assert daemon.process.wait(15) == 0
    status = workspace.status("interrupted")
    assert status is not None
    assert status["state"] in {"pending", "running"}
    with Daemon(workspace) as daemon:
        assert end_of(daemon, "interrupted") == "done"
    after = workspace.status("interrupted")
    assert after is not None
    assert (after["pipelineId"], after["tasks"]["slow"]["attempts"]) == (status["pipelineId"], 1)
    place = workspace.data / "complete" / "interrupted"
    assert (place / "files" / "tmp" / "runs").read_text(encoding="utf-8") == "x"
    assert len(workspace.runs()) == 1


def test_short_names_and_the_environment_win(tmp_path: Path) -> None:
    """PO_DATA_DIR moves the data; PO_HTTP__ENABLED=false leaves the control socket alone."""
    workspace = quick_workspace(tmp_path)
    workspace.data = tmp_path / "elsewhere"
    environment = {"PO_DATA_DIR": str(workspace.data), "PO_HTTP__ENABLED": "false", "PO_LOG_LEVEL": "debug"}
    with Daemon(workspace, environment) as daemon:
        assert run(daemon, "moved", GOOD)["state"] == "done"
        assert "http://" not in daemon.text_of_log()
    assert not (tmp_path / "pipeline-data").exists()


def test_a_job_whose_directory_somebody_removed_disturbs_nobody(tmp_path: Path) -> None:
    """`rm -rf current/JOB` of a running job costs that job alone: the service stays ready and serves the next."""
    workspace = quick_workspace(tmp_path)
    gate = str(tmp_path / "gate")
    waits = f"import os, time\ndef ingestion(ctx):\n    while not os.path.exists({gate!r}): time.sleep(0.01)\n"
    workspace.add_pipeline("waits", {"waits": waits + "    return {'output': 1}\n", "then": NOOP_TASK})
    with Daemon(workspace) as daemon:
        workspace.drop("doomed", {"data": {}, "pipeline": "waits"})
        wait_until(lambda: workspace.state("doomed") == "running", 10, "it to run", daemon)
        shutil.rmtree(workspace.data / "current" / "doomed")
        Path(gate).touch()
        run(daemon, "next", "good")
        wait_until(lambda: daemon.ctl("status", "doomed", check=False).returncode == 4, 20, "it to be given up", daemon)
        assert json.loads(daemon.ctl("--json", "status").stdout)["unready"] == []
