"""What the acceptance tests share: quick settings, small pipelines, and waiting for a job's end."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.daemon import NOOP_TASK, Daemon, Workspace, wait_until

QUICK = """
[http]
port = 0
[jobs]
settle_seconds = 0.2
max_restarts = 1
[tasks]
retry_backoff_seconds = 0.05
"""
END_SECONDS = 45.0
GOOD = "good"


def quick_workspace(root: Path, settings: str = "") -> Workspace:
    """A workspace whose default pipeline, `good`, is one task that does nothing."""
    workspace = Workspace(root)
    workspace.settings(QUICK + settings)
    workspace.add_pipeline(GOOD, {"only": NOOP_TASK})
    return workspace


def end_of(daemon: Daemon, job_id: str, seconds: float = END_SECONDS) -> str:
    """Wait until the job has ended: `done`, `error`, `stopped` or `rejected`."""
    workspace = daemon.workspace
    found: list[str] = []

    def ended() -> bool:
        if workspace.is_complete(job_id):
            found.append("done")
        elif workspace.rejection(job_id) is not None:
            found.append("rejected")
        elif workspace.state(job_id) in {"error", "stopped"}:
            found.append(str(workspace.state(job_id)))
        return bool(found)

    wait_until(ended, seconds, f"the end of {job_id}", daemon)
    return found[0]


def run(daemon: Daemon, job_id: str, pipeline: str, **seed: Any) -> dict[str, Any]:
    """Drop a seed for that pipeline and wait for its end; the status document it left."""
    daemon.workspace.drop(job_id, {"data": {}, "pipeline": pipeline, **seed})
    end_of(daemon, job_id)
    status = daemon.workspace.status(job_id)
    assert status is not None, f"{job_id} has no status: {daemon.workspace.rejection(job_id)}"
    return status


def assert_still_serves(daemon: Daemon, after: str) -> None:
    """The daemon is alive, and a good job goes through it."""
    job_id = f"{after}-after"
    assert run(daemon, job_id, GOOD)["state"] == "done"
    assert daemon.is_alive()


def place_of(workspace: Workspace, job_id: str) -> Path:
    """The job's directory, in current/ or complete/."""
    for name in ("complete", "current"):
        place = workspace.data / name / job_id
        if place.is_dir():
            return place
    raise AssertionError(f"there is no job {job_id}")


def output_of(workspace: Workspace, job_id: str, task: str) -> Any:
    """The final output of one of the job's tasks."""
    path = place_of(workspace, job_id) / "tasks" / task / "output.json"
    return json.loads(path.read_bytes())[task]["content"]


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def http_port(daemon: Daemon) -> int:
    """Where its TCP listener is, as its log says."""
    found: list[str] = []
    wait_until(lambda: found.extend(_ports(daemon)) or found, 10, "the port in the log", daemon)
    return int(found[0])


def _ports(daemon: Daemon) -> list[str]:
    return re.findall(r"http://127\.0\.0\.1:(\d+)", daemon.text_of_log())


def get_tcp(daemon: Daemon, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Status and body of a GET on the TCP listener."""
    return _get(http.client.HTTPConnection("127.0.0.1", http_port(daemon), timeout=10), path, headers)


def get_socket(daemon: Daemon, path: str) -> tuple[int, bytes]:
    """Status and body of a GET on the control socket."""
    return _get(_UnixConnection(control_socket(daemon.workspace)), path, None)


def control_socket(workspace: Workspace) -> str:
    """The path of the control socket: where the contract puts it, or where its note says."""
    beside = workspace.data / "state" / "popd.sock.path"
    if beside.exists():
        return beside.read_text(encoding="utf-8").strip()
    return str(workspace.data / "state" / "popd.sock")


def _get(connection: http.client.HTTPConnection, path: str, headers: Mapping[str, str] | None) -> tuple[int, bytes]:
    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self._path)
