"""A real supervisor of jobs with real processes, between a recording scheduler and a status-writer the test plays."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from scheduler_world import AT, Recorder

from pop_actors import config
from pop_actors.actors import Registry, Timers
from pop_actors.actors.hub import Hub
from pop_actors.actors.process_host import ProcessHost
from pop_actors.actors.worker import VOCABULARY
from pop_actors.core import events as e
from pop_actors.core.messages import Record
from pop_actors.core.observations import Feed
from pop_actors.core.status import fold
from pop_actors.storage.catalogue import Catalogue
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.job_specs import JobSpecs
from pop_actors.system.jobs import Jobs
from support import daemon
from support.daemon import wait_until

SOON = 20.0
BLOCKED = """
import os, threading
def ingestion(ctx):
    while not os.path.exists(RELEASE): threading.Event().wait(0.01)
    return {"output": 1}
"""


class Writer(Recorder):
    """What jobs report is on disk at once; notes stay open until the test answers them."""

    def request(self, message: object) -> Future[Any]:
        if not isinstance(message, Record):
            return super().request(message)
        done: Future[Any] = Future()
        done.set_result(None)
        return done


class World:
    """One job, `a`. Use it as a context."""

    def __init__(self, root: Path, max_restarts: int = 3) -> None:
        files = daemon.Workspace(root)
        self._release = root / "release"
        files.add_pipeline("blocked", {"one": f"RELEASE = {str(self._release)!r}\n{BLOCKED}"})
        files.settings(f"[jobs]\nmax_restarts = {max_restarts}\n")
        self.settings = config.load(root, None, {})
        self.workspace = self.settings.workspace
        self.workspace.current.mkdir(parents=True)
        self._catalogue = Catalogue(self.workspace)
        self._specs = JobSpecs(self.settings, self._catalogue)
        self.board = Board()
        self.registry = Registry()
        self.timers = Timers()
        self.scheduler, self.writer, self.gateway = Recorder(), Writer(), Recorder()
        self.hub = Hub(VOCABULARY, self.registry)
        self.host = ProcessHost(self.hub, ("pop_actors.actors.worker", "pop_actors.runner.job"), 1)

    def __enter__(self) -> World:
        self.registry.register(m.STATUS_WRITER, self.writer)
        self.registry.register(m.SCHEDULER, self.scheduler)
        self.registry.register(m.GATEWAY, self.gateway)
        self.hub.start()
        self.host.start()
        ref = self.registry.ref
        self.jobs = Jobs.start_and_wait(
            m.JOBS,
            self.registry,
            settings=self.settings.jobs,
            workspace=self.workspace,
            host=self.host,
            board=self.board,
            feed=Feed(),
            timers=self.timers,
            status_writer=ref(m.STATUS_WRITER),
            scheduler=ref(m.SCHEDULER),
            gateway=ref(m.GATEWAY),
        )
        assert self.told() == m.JobsUp()
        return self

    def __exit__(self, *_: object) -> None:
        self._release.touch()
        assert self.jobs.stop_and_wait(SOON)
        self.host.stop()
        self.hub.stop()
        self.timers.stop()

    def told(self) -> Any:
        """The next thing the scheduler was told."""
        return self.scheduler.sent.get(timeout=SOON)[0]

    def note(self) -> tuple[e.Event, Future[Any]]:
        """The next thing the status-writer was asked to note, and how to answer."""
        note, done = self.writer.sent.get(timeout=SOON)
        while not isinstance(note, m.Note):
            note, done = self.writer.sent.get(timeout=SOON)
        return note.event, done

    def put_job(self, *events: e.Event) -> None:
        """Its status on the board, and the files a start reads."""
        created = e.JobCreated(
            at=AT, id="a", run_id="pl-a", name="a", pipeline="blocked", mode="production", tasks=("one",)
        )
        document = fold(None, created)
        for event in events:
            document = fold(document, event)
        self.board.put_job(document)
        directory = self.workspace.job("a")
        for folder in (directory.path, directory.files("logs"), directory.task("one").path):
            folder.mkdir(parents=True, exist_ok=True)
        directory.seed.write_bytes(b'{"data": {}}')
        directory.pipeline.write_bytes(self._catalogue.pipeline_for("blocked").content)

    def start(self, epoch: int) -> int:
        """Order it, and wait until its process is there: its pid."""
        document = self.board.job("a")
        assert document is not None
        spec = self._specs.resumed(document).model_copy(update={"resumed": False})
        self.jobs.tell(m.StartJob(spec, epoch))
        return self.wait_for_process()

    def wait_for_process(self) -> int:
        """Its pid, once it has said in its directory that it is at work."""
        path = self.workspace.job("a").runner_pid
        wait_until(lambda: self.pid() is not None and path.exists(), SOON, "a process")
        pid = self.pid()
        assert pid is not None
        return pid

    def pid(self) -> int | None:
        child = self.jobs.running("a")
        return None if child is None else child.pid

    def kill(self, pid: int) -> None:
        self.workspace.job("a").runner_pid.unlink()
        os.kill(pid, signal.SIGKILL)
