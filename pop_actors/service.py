"""popd's outer shell: arguments, settings, the lock, signals, what the service manager is told, exit codes.

Exit codes: 0 clean stop, 2 bad settings, 3 another popd owns this root, 1 anything else.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType

from pop_actors import __version__, config, logs
from pop_actors.api.sockets import bind_tcp
from pop_actors.daemon import Daemon
from pop_actors.environment_block import blot_out, close_memory
from pop_actors.errors import FormatRefused, PopError, RootTaken, SeedRejected, SettingsError
from pop_actors.storage import control_socket, fault_points, workspace_format
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.disk import make_folder
from pop_actors.storage.files import sync_directory
from pop_actors.storage.temporary_folder import temporary_folder
from pop_actors.storage.workspace_lock import WorkspaceLock
from pop_actors.systemd import ServiceManager
from pop_actors.telemetry import traces

CLEAN, FAILED, BAD_SETTINGS, ROOT_TAKEN = 0, 1, 2, 3
SWITCH_INTERVAL_SECONDS = 0.0005  # the hub must not wait 5 ms for the GIL behind one busy thread
STOP, RELOAD, DIED = "stop", "reload", "died"

_log = logging.getLogger(__name__)


def run(arguments: Sequence[str]) -> int:
    """The whole life of popd; its exit code."""
    options = _parse(arguments)
    try:
        settings = config.load(options.root, options.config)
        fault_points.arm(settings.fault_point)
        if options.check:
            return _check(settings)
        logs.configure(settings.logging, sys.stderr, settings.surroundings.journal_stream)
        return Service(settings, options).run()
    except SettingsError as error:
        print(f"popd: {error}", file=sys.stderr)  # noqa: T201  (there may be no log yet)
        return BAD_SETTINGS
    except RootTaken as error:
        print(f"popd: {error}", file=sys.stderr)  # noqa: T201
        return ROOT_TAKEN
    except (PopError, OSError) as error:
        _log.error("popd cannot run: %s", error)
        return FAILED


class Service:
    """One run of the daemon, from the lock to the end."""

    def __init__(self, settings: config.Settings, options: argparse.Namespace) -> None:
        self._settings = settings
        self._options = options
        self._manager = ServiceManager(settings.surroundings.notify_socket)
        self._asked: SimpleQueue[tuple[str, str]] = SimpleQueue()

    def run(self) -> int:
        """Start, serve until told otherwise, stop. RootTaken, SettingsError, PopError where it cannot start."""
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        workspace_format.check(self._settings.workspace)
        self._make_folders()
        with WorkspaceLock(self._settings.workspace):
            blot_out(config.take_keys_out_of(os.environ, self._settings))
            close_memory()
            _check_port(self._settings.http)
            workspace_format.bring_up(self._settings.workspace)
            daemon = Daemon(
                self._settings,
                self._choose_socket(),
                shut_down=lambda: self._asked.put((STOP, "an operator asked for it")),
                read_settings=lambda: self._asked.put((RELOAD, "an operator asked for it")),
                died=lambda reason: self._asked.put((DIED, reason)),
            )
            self._listen_to_signals()
            with temporary_folder(self._settings.workspace.state):
                daemon.start()
                self._say_ready(daemon)
                gc.collect()
                gc.freeze()  # what is loaded now stays; to look through it again and again would stop all for 50 ms
                return self._serve(daemon)

    def _serve(self, daemon: Daemon) -> int:
        while True:
            try:
                asked, why = self._asked.get(timeout=self._settings.surroundings.watchdog_seconds)
            except Empty:
                if daemon.is_alive():
                    self._manager.tell("WATCHDOG=1")
                continue
            if asked == RELOAD:
                self._reload()
            elif asked == STOP:
                return self._stop(daemon, why)
            else:
                _log.critical("the supervision tree has given up: %s; the service manager is to start popd again", why)
                daemon.stop()
                return FAILED

    def _stop(self, daemon: Daemon, why: str) -> int:
        _log.info("stopping (%s): running jobs leave at their next stage boundary and go on after the next start", why)
        self._manager.tell("STOPPING=1", f"STATUS=stopping: {why}")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _leave_at_once)
        daemon.suspend(self._settings.jobs.shutdown_grace_seconds)
        daemon.stop()
        _log.info("stopped")
        return CLEAN

    def _reload(self) -> None:
        """Settings are read again and checked; what can change while running does, the rest is named."""
        self._manager.tell("RELOADING=1")
        try:
            fresh = config.load(self._options.root, self._options.config)
        except SettingsError as error:
            _log.error("the settings are not taken over: %s", error)
        else:
            logs.configure(fresh.logging, sys.stderr, self._settings.surroundings.journal_stream)
            changed = [name for name in config.TABLES if getattr(fresh, name) != getattr(self._settings, name)]
            waiting = ", ".join(name for name in changed if name != "logging") or "nothing else"
            _log.info("settings read again: logging is in force; changed and waiting for a restart: %s", waiting)
        self._manager.tell("READY=1")

    def _make_folders(self) -> None:
        for folder in self._settings.workspace.folders:
            try:
                make_folder(folder)
            except OSError as error:
                raise SettingsError(f"{folder}: cannot be made: {error.strerror}; see --root and PO_DATA_DIR") from None
        for folder in (self._settings.workspace.data, self._settings.workspace.data.parent):
            sync_directory(folder)  # a job is not durable in a folder that is not

    def _choose_socket(self) -> Path:
        return control_socket.take(
            self._settings.workspace.state,
            self._settings.control.socket,
            self._settings.surroundings.runtime_dir,
            tempfile.gettempdir(),
        )

    def _listen_to_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda got, _: self._asked.put((STOP, signal.Signals(got).name)))
        signal.signal(signal.SIGHUP, lambda *_: self._asked.put((RELOAD, "SIGHUP")))

    def _say_ready(self, daemon: Daemon) -> None:
        port = daemon.port
        where = f"http://{self._settings.http.host}:{port}" if port is not None else "the control socket only"
        _log.info("popd %s is ready: root %s, %s", __version__, self._settings.root, where)
        self._manager.tell("READY=1", f"STATUS=serving {self._settings.root}, {where}", f"MAINPID={os.getpid()}")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="popd", description="Runs LLM pipelines from a folder of seeds, for months.")
    parser.add_argument("--root", type=Path, help="the workspace (default: PO_ROOT, else the current directory)")
    parser.add_argument("--config", type=Path, help="settings (default: pop.toml in the root)")
    parser.add_argument("--check", action="store_true", help="check settings and pipelines, and exit")
    parser.add_argument("--version", action="version", version=f"popd {__version__}")
    return parser.parse_args(arguments)


def _check(settings: config.Settings) -> int:
    """Print every fault of the pipelines, or that the workspace is not for this version; the settings are fine or we
    would not be here."""
    traces.check(settings.telemetry)
    try:
        workspace_format.check(settings.workspace)
    except FormatRefused as error:
        print(f"popd: {error}", file=sys.stderr)  # noqa: T201  (the command's answer)
        return FAILED
    catalogue = Catalogue(settings.workspace)
    try:
        described = [catalogue.describe(slug) for slug in catalogue.slugs()]
    except SeedRejected as error:
        raise SettingsError(error.message) from None
    faulty = False
    for pipeline in described:
        for fault in pipeline["faults"]:
            faulty = True
            print(f"{pipeline['slug']}: {fault}", file=sys.stderr)  # noqa: T201  (the command's answer)
        if not pipeline["faults"]:
            print(f"{pipeline['slug']}: fine, {len(pipeline['tasks'])} tasks")  # noqa: T201
    return BAD_SETTINGS if faulty else CLEAN


def _check_port(http: config.HttpSettings) -> None:
    """A taken port stops the start, with what to do about it, before anything else has begun."""
    if http.enabled:
        bind_tcp(http.host, http.port).close()


def _leave_at_once(_number: int, _frame: FrameType | None) -> None:
    """A second signal: the lifeline takes the job processes along, and the next start resumes them."""
    os._exit(FAILED)
