"""Where everything lies in a workspace. Paths only: nothing here touches the disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pop_actors.core.ids import seed_file_name

SEED = "seed.json"
PIPELINE = "pipeline.json"
STATUS = "tasks-status.json"
EVENTS = "events.jsonl"
CALLS = "llm-calls.jsonl"
RUNNER_PID = "runner.pid"
REJECTION = "rejection.json"
LETTER = "letter.json"
OUTPUT = "output.json"
EXECUTION_LOGS = "execution-logs.json"
CHECKPOINT = "checkpoint.jsonl"
FILE_KINDS = ("artifacts", "logs", "tmp")


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders of one root. `data` is `{root}/pipeline-data` unless PO_DATA_DIR says otherwise."""

    root: Path
    data: Path

    @property
    def config(self) -> Path:
        return self.root / "pipeline-config"

    @property
    def registry(self) -> Path:
        return self.config / "registry.json"

    @property
    def staging(self) -> Path:
        return self.data / "staging"

    @property
    def pending(self) -> Path:
        return self.data / "pending"

    @property
    def current(self) -> Path:
        return self.data / "current"

    @property
    def complete(self) -> Path:
        return self.data / "complete"

    @property
    def rejected(self) -> Path:
        return self.data / "rejected"

    @property
    def state(self) -> Path:
        return self.data / "state"

    @property
    def runs(self) -> Path:
        return self.complete / "runs.jsonl"

    @property
    def lock(self) -> Path:
        return self.state / "popd.lock"

    @property
    def marker(self) -> Path:
        """Says which format this workspace has."""
        return self.state / "workspace.json"

    @property
    def folders(self) -> tuple[Path, ...]:
        """Every folder popd makes where it is missing."""
        return (self.staging, self.pending, self.current, self.complete, self.rejected, self.state)

    def seed(self, job_id: str) -> Path:
        """The job's seed in the drop box."""
        return self.pending / seed_file_name(job_id)

    def claiming(self, job_id: str) -> Path:
        """Where a claim is built before it becomes the job's directory."""
        return self.current / f".claiming-{job_id}"

    def job(self, job_id: str) -> JobDirectory:
        """The directory of a job that is not finished."""
        return JobDirectory(self.current / job_id)

    def finished(self, job_id: str) -> JobDirectory:
        """The directory of a finished job."""
        return JobDirectory(self.complete / job_id)


@dataclass(frozen=True)
class JobDirectory:
    """The files of one job; contract §5. Paths are made when they are first asked for, and kept."""

    path: Path

    @cached_property
    def seed(self) -> Path:
        return self.path / SEED

    @cached_property
    def pipeline(self) -> Path:
        return self.path / PIPELINE

    @cached_property
    def status(self) -> Path:
        return self.path / STATUS

    @cached_property
    def events(self) -> Path:
        return self.path / EVENTS

    @cached_property
    def calls(self) -> Path:
        return self.path / CALLS

    @cached_property
    def runner_pid(self) -> Path:
        return self.path / RUNNER_PID

    @cached_property
    def tasks(self) -> Path:
        return self.path / "tasks"

    def task(self, name: str) -> TaskDirectory:
        found = self._tasks.get(name)
        return self._tasks.setdefault(name, TaskDirectory(self.tasks / name)) if found is None else found

    @cached_property
    def _tasks(self) -> dict[str, TaskDirectory]:
        return {}

    def files(self, kind: str) -> Path:
        """`kind` is artifacts, logs or tmp."""
        return self.path / "files" / kind


@dataclass(frozen=True)
class TaskDirectory:
    """The files of one task of a job."""

    path: Path

    @cached_property
    def letter(self) -> Path:
        return self.path / LETTER

    @cached_property
    def output(self) -> Path:
        return self.path / OUTPUT

    @cached_property
    def execution_logs(self) -> Path:
        return self.path / EXECUTION_LOGS

    @cached_property
    def checkpoint(self) -> Path:
        return self.path / CHECKPOINT

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """What the task's process writes there itself."""
        return (self.letter, self.output, self.execution_logs, self.checkpoint)

    @cached_property
    def control(self) -> Path:
        return self.path / "control.json"
