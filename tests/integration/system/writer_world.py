"""A real status writer on a real folder, with jobs claimed from real seeds."""

from __future__ import annotations

import json
import queue
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from scheduler_world import AT, Recorder

from pop_actors.actors import Registry, Timers
from pop_actors.config import load
from pop_actors.core import observations as seen
from pop_actors.core.messages import Record
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.claims import read_seed
from pop_actors.storage.jsonl import read_lines
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.disk_watch import DiskWatch
from pop_actors.system.status_writer import StatusWriter
from support import daemon

SOON = 5.0


class World:
    """Use it as a context."""

    def __init__(self, root: Path) -> None:
        self._files = daemon.Workspace(root)
        self._files.add_noop_pipeline()
        self.workspace = load(root, None, {}).workspace
        for folder in self.workspace.folders:
            folder.mkdir(parents=True, exist_ok=True)
        self.board = Board()
        self.seen: queue.SimpleQueue[seen.Observation] = queue.SimpleQueue()
        self.feed = seen.Feed(self.seen.put)
        self.registry = Registry()
        self.timers = Timers()
        self.disk = DiskWatch(self.workspace.data, None)
        self.scheduler, self.watcher = Recorder(), Recorder()
        self.registry.register(m.SCHEDULER, self.scheduler)
        self.registry.register(m.WATCHER, self.watcher)

    def __enter__(self) -> World:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.writer.stop_and_wait(SOON)
        self.timers.stop()

    def start(self) -> None:
        self.writer = StatusWriter.start_and_wait(
            m.STATUS_WRITER,
            self.registry,
            workspace=self.workspace,
            board=self.board,
            feed=self.feed,
            timers=self.timers,
            disk=self.disk,
            scheduler=self.registry.ref(m.SCHEDULER),
            watcher=self.registry.ref(m.WATCHER),
        )
        assert self.heard() == m.StatusWriterUp()

    def heard(self) -> Any:
        """The next thing the scheduler was told."""
        return self.scheduler.sent.get(timeout=SOON)[0]

    def claim(self, job_id: str) -> None:
        """Drop a seed and have it made a job."""
        self._files.drop(job_id)
        self.writer.tell(m.Claim(self.seed(job_id), f"pl-{job_id}"))
        heard = self.heard()
        assert isinstance(heard, m.Claimed), heard

    def seed(self, job_id: str) -> m.SeedFound:
        pipeline = Catalogue(self.workspace).pipeline_for("noop")
        file = read_seed(self.workspace.seed(job_id), 10_000)
        return m.SeedFound(job_id, job_id, 0, "production", (), (), (), pipeline, file, 0.0)

    def tell(self, job_id: str, *events: tuple[int, int, str, dict[str, Any]]) -> None:
        self.writer.tell(record(job_id, *events))

    def ask(self, job_id: str, *events: tuple[int, int, str, dict[str, Any]]) -> Future[Any]:
        return self.writer.request(record(job_id, *events))

    def log(self, job_id: str) -> list[tuple[str, int, int]]:
        """Type, epoch and seq of each line of the job's log."""
        path = self.workspace.job(job_id).events
        return [(line["type"], line["epoch"], line["seq"]) for _, line in read_lines(path)]

    def status(self, job_id: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.workspace.job(job_id).status.read_bytes())
        return document


def record(job_id: str, *events: tuple[int, int, str, dict[str, Any]]) -> Record:
    """Events as (epoch, seq, type, fields)."""
    documents = tuple(
        {"type": kind, "at": AT, "epoch": epoch, "seq": seq, **fields} for epoch, seq, kind, fields in events
    )
    return Record(job_id, f"pl-{job_id}", 1, documents)


def started(epoch: int = 1, seq: int = 1) -> tuple[int, int, str, dict[str, Any]]:
    return epoch, seq, "JobStarted", {"pid": 1}


def stage(seq: int, name: str = "ingestion", epoch: int = 1) -> tuple[int, int, str, dict[str, Any]]:
    return epoch, seq, "StageStarted", {"task": "one", "stage": name, "timeout": 5.0}
