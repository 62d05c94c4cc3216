"""The soak's surroundings: a workspace, a provider in a process of its own, and one daemon after the other."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.soak.pipelines import add_pipelines
from tests.soak.plan import SEED_MAX_BYTES
from tests.support import provider_server
from tests.support.daemon import Daemon, Workspace, wait_until
from tests.support.processes import Process, of_session, send

PROVIDER_SECONDS = 15.0
DEATH_SECONDS = 10.0  # on a busy machine; the kernel's part of it takes a millisecond
STOP_SECONDS = 60.0
MAX_RESTARTS = 5
NO_DAEMON = 3
ROOT = f"root-{'with-too-long-a-name-for-a-socket-in-it' * 2}"  # so that the socket's place is written down, too
LAST_LINES = 40

SETTINGS = """
[http]
port = 0
[jobs]
max_running = {max_running}
settle_seconds = 0.3
shutdown_grace_seconds = 20
max_restarts = {max_restarts}
seed_max_bytes = {seed_max_bytes}
[tasks]
retry_backoff_seconds = 0.1
[gateway]
default_provider = "openai"
request_timeout_seconds = 20
idle_timeout_seconds = 1
max_retries = 4
[gateway.providers.openai]
base_url = "http://127.0.0.1:{port}/v1"
api_key_env = "SOAK_KEY"
max_concurrency = 32
"""


@dataclass(frozen=True)
class Life:
    """One daemon's life, seconds since the epoch. `how` it ended: kill, stop, or what it said itself."""

    pid: int
    began: float
    ended: float
    how: str


class World:
    """Use it as a context; nothing it started is left alive after. The folder is the caller's to keep or remove."""

    def __init__(self, folder: Path, max_running: int) -> None:
        self.folder = folder
        self.workspace = Workspace(folder / ROOT)
        self.traces = folder / "traces.jsonl"
        self.traces.touch()
        self.calls = folder / "provider.jsonl"
        self.calls.touch()
        self.temporary = Path(tempfile.mkdtemp(prefix="pop-"))  # short: sockets are put there
        self.full = folder / "full"
        """While it is there, the disk of the daemon and its jobs is full."""
        self.orders: Counter[tuple[str, str]] = Counter()
        """How often popctl was told of a job to do something, whether or not an answer came."""
        self.lives: list[Life] = []
        self.faults: list[str] = []
        self.daemon: Daemon | None = None
        self._began = 0.0
        self._log_began = 0
        self._ending: str | None = None
        self._max_running = max_running
        self._provider: subprocess.Popen[bytes] | None = None
        add_pipelines(self.workspace)

    def __enter__(self) -> World:
        port_file = self.folder / "port"
        command = [sys.executable, provider_server.__file__, "--port-file", str(port_file), "--log", str(self.calls)]
        self._provider = subprocess.Popen(command)
        wait_until(port_file.exists, PROVIDER_SECONDS, "the provider to listen")
        self.workspace.settings(
            SETTINGS.format(
                max_running=self._max_running,
                max_restarts=MAX_RESTARTS,
                seed_max_bytes=SEED_MAX_BYTES,
                port=port_file.read_text(),
            )
        )
        self.start()
        assert self.daemon is not None
        self.daemon.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        if self.daemon is not None and self.daemon.process is not None:
            for process in self.family():
                send(process.pid, signal.SIGKILL)
            self.daemon.process.wait(DEATH_SECONDS)
        if self._provider is not None:
            self._provider.kill()
            self._provider.wait(DEATH_SECONDS)
        shutil.rmtree(self.temporary)

    @property
    def pid(self) -> int:
        assert self.daemon is not None
        return self.daemon.pid

    def start(self) -> None:
        """A daemon; it is not waited for."""
        environment = {
            "SOAK_KEY": "no-secret",
            "TMPDIR": str(self.temporary),
            "PO_FAULT_POINT": f"full-while={self.full}",
        }
        self.daemon = Daemon(self.workspace, environment)
        self._began, self._ending = time.time(), None
        self._log_began = self.daemon.log.stat().st_size if self.daemon.log.exists() else 0
        self.daemon.start()

    def family(self) -> list[Process]:
        """The daemon, its forkserver, its pool and its jobs."""
        return of_session(self.pid)

    def jobs(self) -> dict[str, Process]:
        """The job processes by job id."""
        marked = (process for process in self.family() if process.name.startswith("jobs/"))
        return {process.name.removeprefix("jobs/"): process for process in marked}

    def idle(self) -> list[Process]:
        return [process for process in self.family() if process.name == "popd: idle"]

    def forkserver(self) -> Process | None:
        """The child of the daemon that has children itself."""
        family = self.family()
        parents = {process.parent for process in family}
        return next((process for process in family if process.parent == self.pid and process.pid in parents), None)

    def popctl(self, *words: str) -> subprocess.Popen[str]:
        """A popctl under way."""
        command = [sys.executable, "-m", "pop_actors.cli", "--root", str(self.workspace.root), *words]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def let_go(self, job_id: str) -> None:
        """Have the stage end that waits for it, in the job's next run."""
        self._go(job_id).touch()

    def is_let_go(self, job_id: str) -> bool:
        return self._go(job_id).exists()

    def _go(self, job_id: str) -> Path:
        return Path(f"{self.traces}.{job_id}.go")

    def runs_of(self, job_id: str) -> int:
        """How many runs of that job runs.jsonl has."""
        wanted = f'"id":"{job_id}"'
        runs = self.workspace.data / "complete" / "runs.jsonl"
        return runs.read_text(encoding="utf-8").count(wanted) if runs.exists() else 0

    # How a daemon ends

    def kill_daemon(self) -> None:
        """kill -9 of the daemon alone."""
        self._ending = "kill"
        send(self.pid, signal.SIGKILL)

    def kill_all(self) -> None:
        """kill -9 of everything it consists of."""
        self._ending = "kill"
        for process in self.family():
            send(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, once: at the second one it leaves at once."""
        if self._ending is None:
            self._ending = "stop"
            send(self.pid, signal.SIGTERM)

    @property
    def is_ending(self) -> bool:
        """Whether it was told to end, or killed."""
        return self._ending is not None

    def shut_down(self) -> None:
        """`popctl shutdown`. Where the daemon does not hear it yet, it lives on."""
        self._ending = "stop"
        command = self.popctl("shutdown")
        command.communicate(timeout=STOP_SECONDS)
        if command.returncode == NO_DAEMON:
            self._ending = None

    def has_ended(self) -> bool:
        """Whether the daemon is gone; then it is accounted for, and nothing of it is left."""
        assert self.daemon is not None
        assert self.daemon.process is not None
        code = self.daemon.process.poll()
        if code is None:
            return False
        how = self._ending or f"exit {code}"
        self.lives.append(Life(self.pid, self._began, time.time(), how))
        if self._ending is None:
            self.faults.append(f"the daemon {self.pid} ended by itself with {code}{self._last_words()}")
        if self._ending == "stop" and code not in {0, -signal.SIGTERM}:  # which ends one that listens to none yet
            self.faults.append(f"the daemon {self.pid} was stopped politely and exited with {code}{self._last_words()}")
        self._wait_for_the_rest()
        return True

    def _last_words(self) -> str:
        """The end of what this daemon has put into its log, its standard error with it."""
        assert self.daemon is not None
        with self.daemon.log.open("rb") as log:
            log.seek(self._log_began)
            lines = log.read().decode(errors="replace").splitlines()
        return "; its log ends with" + "".join(f"\n      {line}" for line in lines[-LAST_LINES:])

    def _wait_for_the_rest(self) -> None:
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.family(), DEATH_SECONDS, "the daemon's processes to die")
            return
        left = self.family()
        self.faults.append(f"outlived the daemon {self.pid} by {DEATH_SECONDS} s: {left}")
        for process in left:
            send(process.pid, signal.SIGKILL)

    def stop_and_wait(self) -> None:
        """A polite stop at the end."""
        self.stop()
        assert self.daemon is not None
        assert self.daemon.process is not None
        try:
            self.daemon.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.faults.append(
                f"the daemon {self.pid} did not stop within {STOP_SECONDS} s after SIGTERM{self._last_words()}"
            )
            self.kill_all()
            self.daemon.process.wait(DEATH_SECONDS)
        self.has_ended()


def left_in(folder: Path) -> list[str]:
    """Everything under a folder, as relative paths."""
    found = (Path(place) / name for place, _, names in os.walk(folder) for name in names)
    return sorted(str(path.relative_to(folder)) for path in found)
