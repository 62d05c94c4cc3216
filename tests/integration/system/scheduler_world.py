"""A real scheduler between recording endpoints: what it told whom, in order."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pop_actors import config
from pop_actors.actors import Ping, Registry, Timers
from pop_actors.core import events as e
from pop_actors.core.status import fold
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.claims import SeedFile
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.job_specs import JobSpecs
from pop_actors.system.scheduler import Scheduler
from support import daemon

SOON = 5.0
AT = "2026-01-01T00:00:00.000Z"


class Recorder:
    """An endpoint that keeps what it is sent; an ask stays open until the test answers it."""

    def __init__(self) -> None:
        self.sent: queue.SimpleQueue[tuple[Any, Future[Any]]] = queue.SimpleQueue()

    def tell(self, message: object) -> None:
        self.sent.put((message, Future()))

    def request(self, message: object) -> Future[Any]:
        future: Future[Any] = Future()
        self.sent.put((message, future))
        return future

    def take(self) -> list[Any]:
        """What came since the last time."""
        return [message for message, _ in self.take_asked()]

    def take_asked(self) -> list[tuple[Any, Future[Any]]]:
        return [self.sent.get_nowait() for _ in range(self.sent.qsize())]


class World:
    """Use it as a context. `claim` and `run` play the status-writer and the jobs supervisor."""

    def __init__(self, root: Path, max_running: int = 2) -> None:
        workspace = daemon.Workspace(root)
        workspace.add_noop_pipeline()
        self.settings = config.load(root, None, {})
        self.workspace = self.settings.workspace
        self.workspace.current.mkdir(parents=True)
        self.catalogue = Catalogue(self.workspace)
        self.pipeline = self.catalogue.pipeline_for("noop")
        self.board = Board()
        self.complete: set[str] = set()
        self.registry = Registry()
        self.timers = Timers()
        self.writer, self.jobs, self.watcher = Recorder(), Recorder(), Recorder()
        for address, endpoint in ((m.STATUS_WRITER, self.writer), (m.JOBS, self.jobs), (m.WATCHER, self.watcher)):
            self.registry.register(address, endpoint)
        self._max_running = max_running
        self._age = 0

    def __enter__(self) -> World:
        self.start()
        self.tell(m.JobsUp())
        return self

    def __exit__(self, *_: object) -> None:
        assert self.scheduler.stop_and_wait(SOON)
        self.timers.stop()

    def start(self) -> None:
        self.launch()
        assert self.jobs.take() == [m.SchedulerUp()]
        assert self.watcher.take() == [m.LookAgain()]

    def launch(self) -> None:
        ref = self.registry.ref
        self.scheduler = Scheduler.start_and_wait(
            m.SCHEDULER,
            self.registry,
            max_running=self._max_running,
            board=self.board,
            specs=JobSpecs(self.settings, self.catalogue),
            is_complete=self.complete.__contains__,
            status_writer=ref(m.STATUS_WRITER),
            jobs=ref(m.JOBS),
            watcher=ref(m.WATCHER),
            timers=self.timers,
        )
        self.settle()

    def settle(self) -> None:
        """Until it has dealt with everything it was sent."""
        while self.registry.ref(m.SCHEDULER).ask(Ping(), SOON):
            continue

    def tell(self, *messages: object) -> None:
        for message in messages:
            self.scheduler.tell(message)
        self.settle()

    def ask(self, message: object) -> Future[Any]:
        future = self.scheduler.request(message)
        self.settle()
        return future

    def seed(self, job_id: str, priority: int = 0, depends_on: Any = (), conflicts: Any = ()) -> m.SeedFound:
        self._age += 1
        file = SeedFile(b"", self._age, 1, 1, self._age)
        return m.SeedFound(
            job_id, job_id, priority, "production", (), tuple(depends_on), tuple(conflicts), self.pipeline, file, 0.0
        )

    def find(self, *seeds: m.SeedFound) -> None:
        self.tell(m.SeedsFound(seeds))

    def claims(self) -> list[str]:
        """The jobs it had claimed since the last time, in order."""
        self._claims = [message for message in self.writer.take() if isinstance(message, m.Claim)]
        return [claim.seed.job_id for claim in self._claims]

    def starts(self) -> list[str]:
        return [message.spec.job_id for message in self.jobs.take() if isinstance(message, m.StartJob)]

    def claimed(self, seed: m.SeedFound) -> None:
        """The status-writer's answer: the job is there."""
        self.put_job(seed.job_id)
        self.tell(m.Claimed(seed, f"pl-{seed.job_id}"))

    def run(self, *seeds: m.SeedFound) -> None:
        """These were found and claimed, and run where there is a slot."""
        self.find(*seeds)
        for seed in seeds:
            self.claimed(seed)
            document = self.board.job(seed.job_id)
            assert document is not None
            if seed.job_id in self.starts():
                self.put_job(seed.job_id, e.JobStarted(at=AT, epoch=1, seq=1, pid=1))
        self.writer.take()

    def put_job(self, job_id: str, *events: e.Event, conflicts: tuple[str, ...] | None = ()) -> None:
        """Its status on the board, and the files a start reads."""
        created = e.JobCreated(
            at=AT, id=job_id, run_id=f"pl-{job_id}", name=job_id, pipeline="noop", mode="production", tasks=("one",),
            conflicts=conflicts,
        )  # fmt: skip
        document = fold(None, created)
        for event in events:
            document = fold(document, event)
        self.board.put_job(document)
        directory = self.workspace.job(job_id)
        directory.path.mkdir(exist_ok=True)
        directory.seed.write_bytes(b'{"data": {}}')
        directory.pipeline.write_bytes(self.pipeline.content)

    def end(self, job_id: str) -> None:
        """It is done and lies in complete/."""
        self.complete.add(job_id)
        self.board.drop_job(job_id)
        self.tell(m.JobEnded(job_id, gave_up=False), m.JobDeparted(job_id))
