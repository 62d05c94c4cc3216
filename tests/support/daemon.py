"""A real popd in a process of its own on a workspace of its own, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

READY_SECONDS = 40.0
NOT_PASSED_ON = ("PO_", "PYTHONDONTWRITEBYTECODE")  # compiled once, hundreds of starts are quick
NOOP_TASK = "def ingestion(ctx):\n    return {'output': {'task': ctx.meta.task_name}}\n"


class Workspace:
    """A root with pipelines, made for one test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "pipeline-data"
        (root / "pipeline-config").mkdir(parents=True, exist_ok=True)
        self._slugs: dict[str, Any] = {}
        (root / "pop.toml").write_text("[http]\nport = 0\n", encoding="utf-8")

    def add_pipeline(
        self, slug: str, tasks: Mapping[str, str], entries: list[Any] | None = None, **pipeline: Any
    ) -> None:
        """A pipeline whose tasks are these sources, in order; `entries` says more of them than their names."""
        folder = self.root / "pipeline-config" / slug / "tasks"
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in tasks.items():
            (folder / f"{name}.py").write_text(source, encoding="utf-8")
        index = "TASKS = " + repr({name: f"{name}.py" for name in tasks}) + "\n"
        (folder / "index.py").write_text(index, encoding="utf-8")
        document = {"name": slug, "version": "1", "tasks": entries or list(tasks), **pipeline}
        (folder.parent / "pipeline.json").write_text(json.dumps(document), encoding="utf-8")
        self._slugs[slug] = {"name": slug}
        registry = {"default": next(iter(self._slugs)), "pipelines": self._slugs}
        (self.root / "pipeline-config" / "registry.json").write_text(json.dumps(registry), encoding="utf-8")

    def add_noop_pipeline(self) -> None:
        """Four tasks that do nothing but return."""
        self.add_pipeline("noop", dict.fromkeys(("one", "two", "three", "four"), NOOP_TASK))

    def settings(self, text: str) -> None:
        """The whole of pop.toml."""
        (self.root / "pop.toml").write_text(text, encoding="utf-8")

    def drop(self, job_id: str, seed: Any | None = None) -> None:
        """Rename a seed into pending/, as a user would; bytes are dropped as they are."""
        (self.data / "pending").mkdir(parents=True, exist_ok=True)
        content = seed if isinstance(seed, bytes) else json.dumps({"data": {}} if seed is None else seed).encode()
        hidden = self.data / f".{job_id}.new"
        hidden.write_bytes(content)
        hidden.rename(self.data / "pending" / f"{job_id}-seed.json")

    def status(self, job_id: str) -> dict[str, Any] | None:
        """The job's status file, wherever the job is now; None while there is none."""
        for place in ("current", "complete"):
            with contextlib.suppress(FileNotFoundError):
                document: dict[str, Any] = json.loads((self.data / place / job_id / "tasks-status.json").read_bytes())
                return document
        return None

    def state(self, job_id: str) -> str | None:
        document = self.status(job_id)
        return None if document is None else str(document["state"])

    def is_complete(self, job_id: str) -> bool:
        return (self.data / "complete" / job_id).is_dir()

    def rejection(self, directory: str) -> dict[str, Any] | None:
        with contextlib.suppress(FileNotFoundError):
            document: dict[str, Any] = json.loads((self.data / "rejected" / directory / "rejection.json").read_bytes())
            return document
        return None

    def runs(self) -> list[dict[str, Any]]:
        with contextlib.suppress(FileNotFoundError):
            lines = (self.data / "complete" / "runs.jsonl").read_text(encoding="utf-8").splitlines()
            return [json.loads(line) for line in lines]
        return []

    def lines(self, path: Path) -> list[dict[str, Any]]:
        """The documents of a JSON-lines file."""
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Daemon:
    """One popd. Use it as a context; it is ready inside and stopped after."""

    def __init__(self, workspace: Workspace, environment: Mapping[str, str] | None = None) -> None:
        self.workspace = workspace
        self.log = workspace.root / "popd.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(NOT_PASSED_ON)},
            **(environment or {}),
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pop_actors", "--root", str(self.workspace.root)],
                stderr=log,
                stdout=log,
                env=self._environment,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        wait_until(lambda: self.ctl("status", check=False).returncode == 0, READY_SECONDS, "popd to be ready", self)

    def ctl(self, *arguments: str, check: bool = True, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run popctl against it."""
        command = [sys.executable, "-m", "pop_actors.cli", "--root", str(self.workspace.root), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=self._environment)
        if check and done.returncode != 0:
            raise AssertionError(f"popctl {' '.join(arguments)}: exit {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def kill(self) -> None:
        """kill -9 of the daemon alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self, seconds: float = 40.0) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def text_of_log(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Daemon:
        self.start()
        self.wait_until_ready()
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_alive():
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill()
                raise


def wait_until(condition: Callable[[], object], seconds: float, what: str = "it", daemon: Daemon | None = None) -> None:
    """Look again and again until it holds; AssertionError with the daemon's log where it does not in time."""
    deadline = time.monotonic() + seconds
    for pause in _pauses():
        if condition():
            return
        if time.monotonic() > deadline:
            log = f"\n{daemon.text_of_log()[-6000:]}" if daemon is not None else ""
            raise AssertionError(f"waited {seconds} s for {what}{log}")
        time.sleep(pause)


def _pauses() -> Iterator[float]:
    pause = 0.001
    while True:
        yield pause
        pause = min(0.05, pause * 1.5)
