"""The tasks of a run as its process has them: those of its pipeline.json, and those its tasks have added since.

Used by the job's actor. Reads the run's own pipeline.json, and only where something is added to it; never writes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pop_actors.core.events import Patch
from pop_actors.core.job_spec import JobSpec, TaskEntry
from pop_actors.core.patch import Plan
from pop_actors.core.strict_json import parse
from pop_actors.errors import ControlInvalid, Damaged, InvalidJson, PipelineInvalid
from pop_actors.runner.task_modules import split_target
from pop_actors.storage.disk import make_folder
from pop_actors.storage.files import sync_directory
from pop_actors.storage.layout import JobDirectory


class RunTasks:
    """`entries` in the pipeline's order, `by_name` too; `spec` is the run's, with these."""

    def __init__(self, spec: JobSpec, directory: JobDirectory) -> None:
        self.spec = spec
        self._directory = directory
        self._patches: tuple[Patch, ...] = ()
        self.entries = spec.entries
        self.by_name: Mapping[str, TaskEntry] = {entry.name: entry for entry in spec.entries}

    def plan(self) -> Plan:
        """What a further patch is held against. Damaged where the run's pipeline.json cannot be read any more."""
        path = self._directory.pipeline
        try:
            document = parse(path.read_bytes())
        except OSError as error:
            raise Damaged(f"{path}: cannot be read: {error.strerror}") from None
        except InvalidJson as error:
            raise Damaged(f"{path}: {error}") from None
        return Plan(document, self._patches, self.spec.task_modules, self.spec.defaults)

    def refuse_missing_files(self, patch: Patch) -> None:
        """ControlInvalid where the file of a task that is to be added is not there any more."""
        modules = self.spec.task_modules
        files = [split_target(modules[entry.get("task", entry["name"])])[0] for entry in patch.add]
        faults = [
            f"/patch/add/{index}: its file is not there any more: {file}"
            for index, file in enumerate(files)
            if not file.is_file()
        ]
        if faults:
            raise ControlInvalid(faults)

    def make_folders(self, patch: Patch) -> None:
        """As a claim does for the others: an output is no more durable than the name of the folder it is in."""
        for name in patch.names:
            make_folder(self._directory.task(name).path)
        sync_directory(self._directory.tasks)

    def add(self, *patches: Patch) -> None:
        """From now on these belong to the run. Damaged where they do not fit its pipeline.json any more."""
        plan = self.plan()
        for patch in patches:
            plan = plan.with_patch(patch)
        try:
            tasks = plan.tasks()
        except PipelineInvalid as error:
            raise Damaged(f"{self._directory.pipeline}: {error}") from None
        wanted = set(TaskEntry.model_fields)
        self._patches = plan.patches
        self.entries = tuple(TaskEntry.model_validate(task.model_dump(include=wanted)) for task in tasks)
        self.by_name = {entry.name: entry for entry in self.entries}
        self.spec = self.spec.model_copy(update={"entries": self.entries, "code": None})
