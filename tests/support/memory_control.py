"""The double of the seam between API and daemon: a `Control` that keeps its jobs in memory, and a server around it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from pop_actors.api.control import Gauges
from pop_actors.api.server import ApiServer
from pop_actors.config import HttpSettings
from pop_actors.core import events as e
from pop_actors.core.observations import Feed, JobChanged
from pop_actors.core.status import fold, run_line, summary
from pop_actors.errors import Refused
from pop_actors.metrics import Metrics
from pop_actors.storage.control_socket import take
from pop_actors.storage.layout import Workspace

DEADLINE_SECONDS = 10.0
AT = "2026-01-02T03:04:05.678Z"


def eventually(holds: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> Any:
    """The first true value of `holds()`; AssertionError when none comes in time."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < deadline:
        found = holds()
        if found:
            return found
        pause.wait(0.005)
    raise AssertionError(f"not within {seconds} s: {holds}")


class MemoryControl:
    """Jobs as folds of the events told to `happen`; every order given is kept in `orders`."""

    def __init__(self, workspace: Workspace, feed: Feed) -> None:
        self.workspace = workspace
        self.feed = feed
        self.documents: dict[str, dict[str, Any]] = {}
        self.orders: list[tuple[Any, ...]] = []
        self.reasons: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def create(self, job_id: str, *tasks: str) -> None:
        """A job exists."""
        names = tasks or ("research", "write")
        self.happen(
            job_id,
            e.JobCreated(at=AT, id=job_id, run_id="pl-1", name=job_id, pipeline="demo", mode="production", tasks=names),
        )

    def happen(self, job_id: str, *events: e.Event) -> None:
        """Events are folded and published, as the status writer does."""
        for event in events:
            self.documents[job_id] = fold(self.documents.get(job_id), event)
            self.feed.publish(JobChanged(job_id, event, self.documents[job_id]))

    def jobs(self, include_finished: bool, state: str | None, limit: int) -> list[dict[str, Any]]:
        self.hold.wait(DEADLINE_SECONDS)
        found = [one for one in self.documents.values() if include_finished or one["state"] != "done"]
        return [summary(one) for one in found if state in {None, one["state"]}][:limit]

    def job(self, job_id: str) -> dict[str, Any]:
        if job_id not in self.documents:
            raise Refused("not_found", f"there is no job {job_id!r}")
        return self.documents[job_id]

    def runs(self, limit: int, job_id: str | None) -> list[dict[str, Any]]:
        done = [one for one in self.documents.values() if one["state"] == "done" and job_id in {None, one["id"]}]
        return [run_line(one, AT) for one in done][:limit]

    def tree(self) -> dict[str, Any]:
        leaf = {"kind": "thread", "state": "running", "pid": None, "restarts": 1, "mailbox": 0, "uptime": 75.0}
        children = [{"name": name, **leaf, "children": []} for name in ("status-writer", "gateway")]
        return {"name": "root", **leaf, "kind": "supervisor", "children": children}

    def gateway(self) -> list[dict[str, Any]]:
        limits = {"requestsPerMinute": 60, "tokensPerMinute": None, "maxConcurrency": 4}
        return [
            {
                "provider": "offline", "model": "echo", "requests": 7, "failed": 1, "waiting": 2, "inFlight": 0,
                "limits": limits, "used": {"requestsPerMinute": 3, "tokensPerMinute": 120, "concurrency": 0},
                "circuit": "closed", "spentTodayUsd": 0.25, "dailyBudgetUsd": 1.0, "keys": [],
                "lastError": {"code": "server", "message": "HTTP 500", "at": "2026-11-21T00:00:00.000Z"},
            }
        ]  # fmt: skip

    def budgets(self) -> list[dict[str, Any]]:
        return [
            {"scope": "global", "name": "", "limitUsd": 2.0, "spentUsd": 0.25, "state": "ok",
             "resetsAt": "2026-11-22T00:00:00.000Z"},
        ]  # fmt: skip

    def set_limits(self, provider: str, limits: Mapping[str, float | None]) -> dict[str, Any]:
        if provider == "nobody":
            raise Refused("unknown_provider", "no provider 'nobody'")
        self.orders.append(("set_limits", provider, dict(limits)))
        return {"requestsPerMinute": limits.get("requests_per_minute")}

    def probe(self, provider: str | None) -> list[dict[str, Any]]:
        self.orders.append(("probe", provider))
        answered = {"model": "echo", "ok": True, "ms": 1.5, "code": None, "message": None, "costUsd": 0.0}
        silent = {"model": "m", "ok": False, "ms": 9.0, "code": "auth", "message": "HTTP 401", "costUsd": 0.0}
        found = [{"provider": "offline", **answered}, {"provider": "openai", **silent}]
        return [row for row in found if provider in {None, row["provider"]}]

    def state(self) -> dict[str, Any]:
        return {"claiming": True, "jobs": {"running": len(self.documents)}, "pendingSeeds": 0}

    def meta(self) -> dict[str, Any]:
        return {"version": "0", "root": str(self.workspace.root)}

    def concurrency(self) -> dict[str, Any]:
        return {"limit": 4, "running": 0, "available": 4, "queued": []}

    def pipelines(self) -> list[dict[str, Any]]:
        return [{"slug": "demo"}]

    def pipeline(self, slug: str) -> dict[str, Any]:
        if slug != "demo":
            raise Refused("not_found", f"there is no pipeline {slug!r}")
        return {"slug": slug}

    def task_files(self, job_id: str, task: str, kind: str) -> list[str]:
        names: list[str] = self.job(job_id)["tasks"][task]["files"][kind]
        return names

    def task_file(self, job_id: str, task: str, kind: str, name: str) -> Path:
        return self.job_directory(job_id) / "files" / kind / name

    def job_directory(self, job_id: str) -> Path:
        return self.workspace.job(job_id).path

    def write_file(self, job_id: str, task: str, kind: e.FileKind, name: str, content: bytes) -> Path:
        """A task wrote a file."""
        path = self.task_file(job_id, task, kind, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.happen(job_id, e.FileWritten(at=AT, task=task, kind=kind, name=name))
        return path

    def submit(self, content: bytes, job_id: str | None) -> str:
        self.orders.append(("submit", content, job_id))
        return job_id or "made-up"

    def stop(self, job_id: str) -> None:
        self.job(job_id)
        self.orders.append(("stop", job_id))

    def restart(self, job_id: str, from_task: str | None, only: bool) -> dict[str, Any]:
        if self.job(job_id)["state"] == "running":
            raise Refused("wrong_state", f"{job_id} runs; stop it first")
        self.orders.append(("restart", job_id, from_task, only))
        return {"id": job_id, "pipelineId": "pl-2"}

    def decide_gate(self, job_id: str, approve: bool, note: str, task: str | None) -> dict[str, Any]:
        if self.job(job_id)["state"] != "waiting":
            raise Refused("not_waiting", f"{job_id} waits at no gate")
        self.orders.append(("gate", job_id, approve, note, task))
        return {"id": job_id, "state": "pending" if approve else "error"}

    def repair(self, job_id: str | None) -> dict[str, Any]:
        self.orders.append(("repair", job_id))
        return {"repaired": [], "failed": []}

    def pause_claiming(self) -> None:
        self.orders.append(("pause",))

    def resume_claiming(self) -> None:
        self.orders.append(("resume",))

    def shutdown(self) -> None:
        self.orders.append(("shutdown",))

    def reload(self) -> None:
        self.orders.append(("reload",))

    def gauges(self) -> Gauges:
        return {
            "jobs": {"running": len(self.documents)},
            "pending_seeds": 3,
            "mailboxes": {"gateway": 2, "jobs/job-1": 1, "jobs/job-1/research": 4},
            "up": {"gateway": True, "watcher": False},
        }

    def unready(self) -> list[str]:
        return self.reasons

    def unhealthy(self) -> list[str]:
        return self.reasons


class Service:
    """A real ApiServer around a MemoryControl, on a workspace of its own."""

    def __init__(self, root: Path, *, allow_mutations: bool = False, heartbeat_seconds: float = 15.0) -> None:
        self.workspace = Workspace(root, root / "pipeline-data")
        for folder in (*self.workspace.folders, self.workspace.config):
            folder.mkdir(parents=True)
        self.feed = Feed()
        self.control = MemoryControl(self.workspace, self.feed)
        self.server = ApiServer(
            self.control,
            self.feed,
            Metrics(),
            HttpSettings(port=0, allow_mutations=allow_mutations),
            take(self.workspace.state, None, None, "/tmp"),
            heartbeat_seconds=heartbeat_seconds,
        )

    def __enter__(self) -> Self:
        self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.control.hold.set()
        self.server.stop()
