"""What the API may ask of the daemon: reads from the board and the disk, commands to the scheduler.

Called in the API's worker threads; everything here is thread-safe and answers within moments.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pop_actors import __version__
from pop_actors.actors.registry import Registry
from pop_actors.config import Settings
from pop_actors.core.ids import is_job_id, is_task_name, timestamp
from pop_actors.core.observations import Gauges
from pop_actors.core.seed import parse_seed
from pop_actors.core.states import is_job_state
from pop_actors.core.status import Document, summary
from pop_actors.errors import DISK_FULL, Refused, SeedRejected
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.claims import drop_seed
from pop_actors.storage.files import read_json
from pop_actors.storage.jsonl import read_last_lines
from pop_actors.storage.layout import FILE_KINDS, JobDirectory
from pop_actors.storage.refusals import is_no_room
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.disk_watch import REASONS, space_of
from pop_actors.system.gateway.messages import BudgetView, Probe, SetLimits

ASK_SECONDS = 10.0
STOP_SECONDS = 15.0
PROBE_SECONDS = 25.0
MOST_RUNS = 10_000
OPERATOR = "operator"


class DaemonControl:
    """The daemon as its operators see it."""

    def __init__(
        self,
        settings: Settings,
        board: Board,
        catalogue: Catalogue,
        registry: Registry,
        tree: Callable[[], dict[str, Any]],
        gateway: Callable[[], list[dict[str, Any]]],
        faults: Callable[[], list[str]],
        shut_down: Callable[[], None],
        read_settings: Callable[[], None],
    ) -> None:
        """`tree`, `gateway` and `faults` tell the state of those parts; the last two ask the service to stop, and to
        read its settings again."""
        self._settings = settings
        self._workspace = settings.workspace
        self._board = board
        self._catalogue = catalogue
        self._scheduler = registry.ref(m.SCHEDULER)
        self._status_writer = registry.ref(m.STATUS_WRITER)
        self._registry = registry
        self._tree = tree
        self._gateway = gateway
        self._faults = faults
        self._shut_down = shut_down
        self._read_settings = read_settings
        self._started = time.time()

    # Reading

    def jobs(self, include_finished: bool, state: str | None, limit: int) -> list[Document]:
        """Summaries, newest first: of jobs not finished and seeds that wait; with `include_finished` also done ones."""
        if state is not None and not is_job_state(state):
            raise Refused("bad_request", f"{state!r} is no state of a job")
        wanted_done = include_finished or state == "done"
        found = [summary(job) for job in self._board.jobs() if wanted_done or job["state"] != "done"]
        found += [_waiting(seed) for seed in self._board.seeds()]
        if wanted_done:
            known = {job["id"] for job in found}
            found += [_finished(run) for run in self.runs(limit, None) if run["id"] not in known]
        found = [job for job in found if state is None or job["state"] == state]
        found.sort(key=lambda job: (job["createdAt"], job["id"]), reverse=True)
        return _first_of_each(found)[:limit]

    def job(self, job_id: str) -> Document:
        """The status of a job, finished or not, or of a seed that waits."""
        document = self._board.job(job_id)
        if document is not None:
            return document
        seed = self._board.seed(job_id)
        if seed is not None:
            return {
                **_waiting(seed),
                "tasks": {name: {"state": "pending"} for name in seed.pipeline.pipeline.task_names},
            }
        try:
            found: Document = read_json(self.job_directory(job_id) / "tasks-status.json")
        except FileNotFoundError:
            raise _no_job(job_id) from None
        return found

    def runs(self, limit: int, job_id: str | None) -> list[Document]:
        """Finished runs, newest first."""
        lines = read_last_lines(self._workspace.runs, limit if job_id is None else MOST_RUNS)
        return [run for run in lines if job_id is None or run.get("id") == job_id][:limit]

    def tree(self) -> dict[str, Any]:
        return self._tree()

    def gateway(self) -> list[dict[str, Any]]:
        return self._gateway()

    def budgets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask_gateway(BudgetView(), ASK_SECONDS)
        return found

    def set_limits(self, provider: str, limits: Mapping[str, float | None]) -> dict[str, Any]:
        found: dict[str, Any] = self._ask_gateway(SetLimits(provider, limits), ASK_SECONDS)
        return found

    def probe(self, provider: str | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask_gateway(Probe(provider, PROBE_SECONDS), PROBE_SECONDS + ASK_SECONDS)
        return found

    def _ask_gateway(self, question: object, seconds: float) -> Any:
        return self._registry.ref(m.GATEWAY).ask(question, seconds)

    def state(self) -> dict[str, Any]:
        """The service at a glance."""
        jobs = self._count_jobs()
        return {
            "state": "running" if not self.unready() else "degraded",
            "unready": self.unready(),
            "claiming": self._board.takes_seeds,
            "intakePaused": self._why_paused(),
            "jobs": jobs,
            "pendingSeeds": self._board.seed_count(),
            "maxRunning": self._settings.jobs.max_running,
            "mode": self._settings.rollout.mode,
            "orchestration": self._settings.workflow.orchestration,
            "startedAt": timestamp(self._started),
        }

    def meta(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "pid": os.getpid(),
            "root": str(self._settings.root),
            "dataDir": str(self._settings.data_dir),
            "startedAt": timestamp(self._started),
        }

    def concurrency(self) -> dict[str, Any]:
        running = self._count_jobs().get("running", 0)
        return {
            "limit": self._settings.jobs.max_running,
            "running": running,
            "available": max(0, self._settings.jobs.max_running - running),
            "queued": self._board.seed_count(),
        }

    def pipelines(self) -> list[dict[str, Any]]:
        return [self._catalogue.describe(slug) for slug in self._catalogue.slugs()]

    def pipeline(self, slug: str) -> dict[str, Any]:
        if slug not in self._catalogue.slugs():
            raise Refused("not_found", f"there is no pipeline {slug!r}; see: popctl pipelines")
        return self._catalogue.describe(slug)

    def job_directory(self, job_id: str) -> Path:
        """Where the job lies: in current/ or complete/. Refused `not_found`."""
        if is_job_id(job_id):
            for place in (self._workspace.current, self._workspace.complete):
                if (place / job_id).is_dir():
                    return place / job_id
        raise _no_job(job_id)

    def task_files(self, job_id: str, task: str, kind: str) -> list[str]:
        """The names a task wrote under files/{kind}/."""
        if kind not in FILE_KINDS:
            raise Refused("bad_request", f"type must be one of {', '.join(FILE_KINDS)}")
        tasks = self.job(job_id).get("tasks", {})
        if task not in tasks:
            raise Refused("not_found", f"job {job_id} has no task {task!r}; it has: {', '.join(tasks)}")
        names: list[str] = tasks[task].get("files", {}).get(kind, [])
        return names

    def task_file(self, job_id: str, task: str, kind: str, name: str) -> Path:
        """The path of a file that a task wrote. Refused `not_found` for any other name."""
        if not is_task_name(task) or name not in self.task_files(job_id, task, kind):
            raise Refused("not_found", f"task {task!r} of job {job_id} wrote no {kind} file {name!r}")
        return JobDirectory(self.job_directory(job_id)).files(kind) / name

    def gauges(self) -> Gauges:
        """Numbers sampled when metrics are scraped."""
        return {
            "jobs": self._count_jobs(),
            "damaged_jobs": len(self._damaged()),
            "pending_seeds": self._board.seed_count(),
            "intake_paused": {OPERATOR: not self._board.claims_seeds, **self._disk_obstacles()},
            "disk_free_bytes": self._free_bytes(),
            "mailboxes": {address: self._registry.depth(address) for address in m.ACTORS},
            "mailbox_ages": {address: self._registry.age(address) for address in m.ACTORS},
            "mailbox_dropped": {**dict.fromkeys(m.ACTORS, 0), **self._registry.undelivered.dropped()},
            "mailbox_refused": {**dict.fromkeys(m.ACTORS, 0), **self._registry.undelivered.refused()},
            "up": {address: self._registry.find(address) is not None for address in m.ACTORS},
        }

    def unready(self) -> list[str]:
        """Why the service should be sent no work now; empty when it is ready."""
        return self._faults()

    def unhealthy(self) -> list[str]:
        """Why the service should be restarted; empty while every actor is there."""
        return [f"{address} is down" for address in m.ACTORS if self._registry.find(address) is None]

    # Commands

    def submit(self, content: bytes, job_id: str | None) -> str:
        """Drop a seed into pending/, checked; its job id."""
        job_id = job_id or f"job-{os.urandom(6).hex()}"
        if not is_job_id(job_id):
            raise Refused("bad_request", f"{job_id!r} is no job id: letters, digits, _ and -, at most 128")
        try:
            seed = parse_seed(content, job_id, self._settings.jobs.seed_max_bytes)
            self._catalogue.pipeline_for(seed.pipeline)
            drop_seed(self._workspace, job_id, content)
        except SeedRejected as error:
            raise Refused(error.reason, error.message) from None
        except OSError as error:
            code = DISK_FULL if is_no_room(error) else "disk_error"
            raise Refused(code, f"the seed could not be written: {error.strerror}; see to the disk") from None
        return job_id

    def stop(self, job_id: str) -> None:
        self._scheduler.ask(m.StopJob(job_id), STOP_SECONDS)

    def restart(self, job_id: str, from_task: str | None, only: bool) -> dict[str, Any]:
        answer: dict[str, Any] = self._scheduler.ask(m.RestartJob(job_id, from_task, only), ASK_SECONDS)
        return answer

    def repair(self, job_id: str | None) -> Document:
        if job_id is not None:
            return {"repaired": [self._repair(job_id)], "failed": []}
        repaired, failed = [], []
        for document in self._damaged():
            try:
                repaired.append(self._repair(document["id"]))
            except Refused as error:
                failed.append({"id": document["id"], "message": error.message})
        return {"repaired": repaired, "failed": failed}

    def _repair(self, job_id: str) -> Document:
        answer: Document = self._status_writer.ask(m.RepairJob(job_id), ASK_SECONDS)
        return answer

    def _damaged(self) -> list[Document]:
        """Jobs that were set aside when the service started."""
        return [document for document in self._board.jobs() if document.get("damaged")]

    def decide_gate(self, job_id: str, approve: bool, note: str, task: str | None) -> Document:
        answer: Document = self._scheduler.ask(m.DecideGate(job_id, approve, note, task), ASK_SECONDS)
        return answer

    def pause_claiming(self) -> None:
        self._set_claiming(on=False)

    def resume_claiming(self) -> None:
        self._set_claiming(on=True)

    def shutdown(self) -> None:
        self._shut_down()

    def reload(self) -> None:
        self._read_settings()

    def _set_claiming(self, *, on: bool) -> None:
        self._scheduler.ask(m.SetClaiming(on), ASK_SECONDS)

    def _why_paused(self) -> str | None:
        """Why no seed is claimed now."""
        if self._board.disk_obstacle is not None:
            return f"{self._board.disk_obstacle.reason}: {self._board.disk_obstacle.message}"
        return None if self._board.claims_seeds else "an operator has paused it; popctl resume lets it go on"

    def _disk_obstacles(self) -> dict[str, bool]:
        obstacle = self._board.disk_obstacle
        return {reason: obstacle is not None and obstacle.reason == reason for reason in REASONS}

    def _free_bytes(self) -> int:
        try:
            return space_of(self._settings.data_dir).free_bytes
        except OSError:
            return 0

    def _count_jobs(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for document in self._board.jobs():
            counts[document["state"]] = counts.get(document["state"], 0) + 1
        return counts


def _no_job(job_id: str) -> Refused:
    return Refused("not_found", f"there is no job {job_id!r}; see: popctl list --all")


def _waiting(seed: m.SeedFound) -> Document:
    """The summary of a seed that waits in pending/."""
    at = timestamp(seed.file.mtime)
    return {
        "id": seed.job_id,
        "pipelineId": None,
        "name": seed.name,
        "pipeline": seed.pipeline.slug,
        "state": "pending",
        "mode": seed.mode,
        "current": None,
        "currentStage": None,
        "progress": 0,
        "createdAt": at,
        "lastUpdated": at,
        "costUsd": 0.0,
    }


def _finished(run: Document) -> Document:
    """The summary of a run that is in complete/."""
    keys = ("id", "pipelineId", "name", "pipeline", "mode", "costUsd")
    return {
        **{key: run.get(key) for key in keys},
        "state": "done",
        "current": None,
        "currentStage": None,
        "progress": 100,
        "createdAt": run.get("createdAt") or run.get("startedAt") or "",
        "lastUpdated": run.get("finishedAt") or "",
    }


def _first_of_each(jobs: list[Document]) -> list[Document]:
    seen: set[str] = set()
    return [job for job in jobs if job["id"] not in seen and not seen.add(job["id"])]  # type: ignore[func-returns-value]
