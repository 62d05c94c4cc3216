"""The daemon's parts and the tree they form:

    root (one-for-one): status-writer, gateway, scheduler, jobs, watcher, api

Started in this order and stopped in the reverse. Everything is made here and handed on; no other module knows more of
the whole than addresses.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pop_actors import logs
from pop_actors.actors import ChildSpec, Exited, Policy, Registry, Supervisor, Timers, supervisor, thread
from pop_actors.actors.hub import Hub
from pop_actors.actors.process_host import ProcessHost
from pop_actors.actors.worker import VOCABULARY
from pop_actors.api.actor import Api
from pop_actors.api.server import ApiServer
from pop_actors.config import Settings
from pop_actors.core.observations import Feed, ModeChanged
from pop_actors.core.pipeline import TaskDefaults
from pop_actors.errors import ActorError, Unavailable
from pop_actors.metrics import Metrics
from pop_actors.storage import recovery
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.left_behind import mark_of
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.control import DaemonControl
from pop_actors.system.disk_watch import DiskWatch
from pop_actors.system.gateway import GatewayActor, GatewayView, PromptLog
from pop_actors.system.job_specs import JobSpecs
from pop_actors.system.jobs import Jobs
from pop_actors.system.scheduler import Scheduler
from pop_actors.system.status_writer import StatusWriter
from pop_actors.system.watcher import Watcher
from pop_actors.telemetry.traces import open_tracer

PRELOADED = (
    "pop_actors.actors.worker",
    "pop_actors.runner.job",
    "pop_actors.runner.json_schema",
    "asyncio",
    "multiprocessing.popen_forkserver",
    "pkgutil",
    "pop_actors.runner.rehearsal",
)
"""What every process needs, what many tasks do, and what multiprocessing loads at each start: loaded once, shared."""

MOST_WARM_WORKERS = 4
START_SECONDS = 60.0
STOP_SECONDS = 15.0
KILL_SECONDS = 5.0
VIEW_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Daemon:
    """All the parts. `start` once, then `suspend`, then `stop`."""

    def __init__(
        self,
        settings: Settings,
        socket_path: Path,
        shut_down: Callable[[], None],
        read_settings: Callable[[], None],
        died: Callable[[str], None],
    ) -> None:
        """`shut_down` and `read_settings` are called when an operator asks for it, `died(reason)` when the tree has
        given up."""
        self._settings = settings
        self._socket_path = socket_path
        self._died = died
        self._feed = Feed(logs.on_observation)
        self._metrics = Metrics()
        self._feed.add(self._metrics.on_observation)
        self._tracer = open_tracer(settings.telemetry)
        if self._tracer is not None:
            self._feed.add(self._tracer.on_observation)
        self._timers = Timers()
        self._registry = Registry()
        self._board = Board()
        self._disk = DiskWatch(settings.data_dir, settings.jobs.disk_reserve_mb, self._disk_changed)
        self._hub = Hub(VOCABULARY, self._registry)
        self._host = ProcessHost(
            self._hub,
            PRELOADED,
            warm=min(settings.jobs.max_running, MOST_WARM_WORKERS),
            workspace=mark_of(settings.workspace),
        )
        self._catalogue = Catalogue(
            settings.workspace,
            TaskDefaults(
                settings.tasks.max_attempts, settings.tasks.max_refinements, settings.tasks.stage_timeout_seconds
            ),
        )
        self._control = DaemonControl(
            settings,
            self._board,
            self._catalogue,
            self._registry,
            tree=self.tree,
            gateway=lambda: self._registry.ref(m.GATEWAY).ask(GatewayView(), VIEW_SECONDS),
            faults=self.faults,
            shut_down=shut_down,
            read_settings=read_settings,
        )
        self._root: Supervisor | None = None
        self._stopping = False

    @property
    def port(self) -> int | None:
        """Where HTTP listens, if it does."""
        api = self._registry.find(m.API)
        port = api.snapshot().get("port") if isinstance(api, Api) else None
        return port if isinstance(port, int) else None

    def start(self) -> None:
        """Everything up, in order. StartRefused where a part does not start; what had started is stopped again."""
        workspace = self._settings.workspace
        killed = recovery.end_processes(workspace)
        if killed:
            _log.warning("%d job processes of an earlier start were still there and were killed", len(killed))
        self._disk.look()
        self._disk.start()
        self._hub.start()
        self._host.start()
        self._feed.publish(ModeChanged(self._settings.rollout.mode, claiming=True))
        try:
            self._root = Supervisor.start_and_wait(
                "root",
                self._registry,
                self._hear_of_root,
                timeout=START_SECONDS,
                specs=self._specs(),
                policy=Policy(max_restarts=5, period_seconds=60.0),
                feed=self._feed,
                timers=self._timers,
            )
        except ActorError:
            self.stop()
            raise

    def suspend(self, seconds: float) -> None:
        """Claim nothing more and have every job leave at its next stage boundary; those that take too long are killed
        with the tree and go on after the next start all the same."""
        try:
            self._registry.ref(m.SCHEDULER).ask(m.SuspendAll(), seconds + KILL_SECONDS)
        except ActorError:
            _log.warning("some jobs did not come to a stage boundary within %g s; they are ended now", seconds)

    def stop(self) -> None:
        """The tree in reverse order, then the processes, the hub and the timers. A second call does nothing."""
        self._stopping = True
        if self._root is not None and not self._root.stop_and_wait(STOP_SECONDS):
            _log.error("the tree did not stop within %g s", STOP_SECONDS)
        self._host.stop()
        self._hub.stop()
        self._disk.stop()
        self._timers.stop()
        if self._tracer is not None:
            self._tracer.close()

    def tree(self) -> dict[str, Any]:
        """The supervision tree, as `popctl tree` shows it."""
        assert self._root is not None
        return self._root.tree()

    def faults(self) -> list[str]:
        """Why no work should be sent here now; empty when all is well."""
        found = [f"{address} is down" for address in m.ACTORS if self._registry.find(address) is None]
        writer = self._registry.find(m.STATUS_WRITER)
        if self._disk.obstacle is not None:
            found.append(f"{self._disk.obstacle.reason}: {self._disk.obstacle.message}")
        elif isinstance(writer, StatusWriter) and writer.disk_refuses:
            found.append("the disk refuses writes; jobs wait until it takes them")
        if self._stopping:
            found.append("the service is stopping")
        return found

    def _disk_changed(self) -> None:
        """In the thread of whoever saw it."""
        self._board.disk_obstacle = self._disk.obstacle
        if self._disk.obstacle is None:
            with contextlib.suppress(Unavailable):  # a scheduler with that much to do looks for itself
                self._registry.ref(m.SCHEDULER).tell(m.DiskHasRoom())

    def is_alive(self) -> bool:
        """Whether the tree and the hub answer: what feeds the service manager's watchdog."""
        return self._root is not None and not self._root.wait_ended(0) and self._hub.is_turning()

    def _hear_of_root(self, notice: object) -> None:
        if isinstance(notice, Exited) and not self._stopping:
            self._died(str(notice.reason))

    def _specs(self) -> tuple[ChildSpec, ...]:
        settings, feed, timers = self._settings, self._feed, self._timers
        workspace, ref = settings.workspace, self._registry.ref
        status_writer, scheduler, jobs, watcher = map(ref, (m.STATUS_WRITER, m.SCHEDULER, m.JOBS, m.WATCHER))
        return (
            ChildSpec(
                m.STATUS_WRITER,
                thread(
                    StatusWriter,
                    workspace=workspace,
                    board=self._board,
                    feed=feed,
                    timers=timers,
                    disk=self._disk,
                    scheduler=scheduler,
                    watcher=watcher,
                ),
            ),
            ChildSpec(
                m.GATEWAY,
                thread(
                    GatewayActor,
                    settings=settings.gateway,
                    keys=settings.keys,
                    workspace=workspace,
                    feed=feed,
                    on_paid=lambda job_id, event: status_writer.leave(m.Note(job_id, event)),
                    prompts=_prompt_log(settings),
                ),
            ),
            ChildSpec(
                m.SCHEDULER,
                thread(
                    Scheduler,
                    max_running=settings.jobs.max_running,
                    board=self._board,
                    specs=JobSpecs(settings, self._catalogue),
                    is_complete=lambda job_id: workspace.finished(job_id).path.is_dir(),
                    status_writer=status_writer,
                    jobs=jobs,
                    watcher=watcher,
                    timers=timers,
                ),
            ),
            ChildSpec(
                m.JOBS,
                supervisor(
                    Jobs,
                    settings=settings.jobs,
                    workspace=workspace,
                    host=self._host,
                    board=self._board,
                    feed=feed,
                    timers=timers,
                    status_writer=status_writer,
                    scheduler=scheduler,
                    gateway=ref(m.GATEWAY),
                ),
                kind="supervisor",
                shutdown=STOP_SECONDS,
            ),
            ChildSpec(
                m.WATCHER,
                thread(
                    Watcher,
                    workspace=workspace,
                    settings=settings.jobs,
                    default_mode=settings.rollout.mode,
                    catalogue=self._catalogue,
                    feed=feed,
                    timers=timers,
                    scheduler=scheduler,
                    status_writer=status_writer,
                ),
            ),
            ChildSpec(m.API, thread(Api, make_server=self._make_server)),
        )

    def _make_server(self, on_death: Callable[[str], None]) -> ApiServer:
        return ApiServer(
            self._control,
            self._feed,
            self._metrics,
            self._settings.http,
            self._socket_path,
            max_body_bytes=self._settings.jobs.seed_max_bytes + 4096,
            on_death=on_death,
        )


def _prompt_log(settings: Settings) -> PromptLog | None:
    if not settings.logging.prompts:
        return None
    secrets = [key.secret.get_secret_value() for keys in settings.keys.values() for key in keys.keys]
    return PromptLog(settings.logging.redact, secrets)
