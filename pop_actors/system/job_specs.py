"""What a job's process is told to do, put together from the job's own files and the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pop_actors.config import Settings
from pop_actors.core.events import Code, Patch
from pop_actors.core.job_spec import JobSpec, LlmDefaults, LlmOverride, TaskEntry
from pop_actors.core.known_status import added_in
from pop_actors.core.pipeline import Pipeline
from pop_actors.core.seed import Seed, parse_seed
from pop_actors.core.status import Document
from pop_actors.errors import Damaged, Refused, SeedRejected, StorageError
from pop_actors.storage import fault_points
from pop_actors.storage.catalogue import Catalogue, ResolvedPipeline, file_and_function
from pop_actors.storage.files import read_json
from pop_actors.storage.layout import JobDirectory
from pop_actors.storage.task_code import CodeReader
from pop_actors.system import messages as m


@dataclass(frozen=True, slots=True)
class RestartBasis:
    """What a restart is planned on: the tasks in order, each with those it waits for, and which of them were added to
    the last run."""

    depends_on: Mapping[str, tuple[str, ...]]
    patches: tuple[Patch, ...] = ()

    @property
    def task_names(self) -> tuple[str, ...]:
        return tuple(self.depends_on)


class JobSpecs:
    """Builds specs. Asked by the scheduler only."""

    def __init__(self, settings: Settings, catalogue: Catalogue) -> None:
        self._settings = settings
        self._workspace = settings.workspace
        self._catalogue = catalogue
        self._code = CodeReader(settings.root)
        self._settled: tuple[Pipeline, tuple[TaskEntry, ...]] | None = None

    def fresh(self, seed: m.SeedFound, run_id: str) -> JobSpec:
        """For a job that was claimed this moment."""
        return self._spec(
            seed.job_id, run_id, seed.pipeline, seed.mode, seed.skip, seed.priority, seed.budget_usd, resumed=False
        )

    def resumed(self, document: Document) -> JobSpec:
        """For a job of current/, from its own copies of seed and pipeline and the task registry as it is now.

        SeedRejected or StorageError where these cannot be read any more.
        """
        job_id = document["id"]
        directory = self._workspace.job(job_id)
        pipeline = self._pipeline(directory, document["pipeline"])
        seed = self._seed(directory, job_id)
        return self._spec(
            job_id, document["pipelineId"], pipeline, document["mode"], tuple(seed.skip), seed.priority,
            seed.budget_usd, resumed=True,
        )  # fmt: skip

    def conflicts(self, job_id: str) -> tuple[str, ...]:
        """What a job of current/ must not share with another that runs; nothing where its seed cannot be read."""
        try:
            return tuple(self._seed(self._workspace.job(job_id), job_id).conflicts)
        except StorageError:
            return ()

    def for_restart(self, job_id: str, document: Document | None) -> RestartBasis:
        """For a new run of a job that ended. Refused where there is no such job, or its pipeline cannot run now."""
        directory = self._workspace.job(job_id) if document is not None else self._workspace.finished(job_id)
        try:
            if not directory.path.is_dir():
                raise Refused("not_found", f"there is no job {job_id}; see: popctl list --all")
            known = document or read_json(directory.status)
            patches = added_in(known)
            pipeline = self._pipeline(directory, known["pipeline"], patches)
        except FileNotFoundError as error:
            raise Refused("damaged", f"{error.filename}: no such file; popctl doctor says more") from None
        except (SeedRejected, StorageError) as error:
            raise Refused("invalid_pipeline", str(error)) from None
        return RestartBasis({entry.name: entry.depends_on for entry in pipeline.pipeline.tasks}, patches)

    def _code_of(self, pipeline: ResolvedPipeline, entries: tuple[TaskEntry, ...]) -> Code:
        modules = {entry.name: file_and_function(pipeline.task_modules[entry.task])[0] for entry in entries}
        return self._code.read(modules, pipeline.content)

    def _seed(self, directory: JobDirectory, job_id: str) -> Seed:
        try:
            return parse_seed(_read(directory.seed), job_id, self._settings.jobs.seed_max_bytes)
        except SeedRejected as error:
            raise Damaged(f"{directory.seed}: {error}") from None

    def _pipeline(self, directory: JobDirectory, slug: str, patches: tuple[Patch, ...] = ()) -> ResolvedPipeline:
        return self._catalogue.for_run(slug, _read(directory.pipeline), directory.pipeline, patches)

    def _spec(
        self,
        job_id: str,
        run_id: str,
        resolved: ResolvedPipeline,
        mode: str,
        skip: tuple[str, ...],
        priority: int,
        budget_usd: float | None,
        *,
        resumed: bool,
    ) -> JobSpec:
        pipeline = resolved.pipeline
        override = pipeline.llm_override
        entries = self._entries(pipeline)
        return JobSpec(
            job_id=job_id,
            run_id=run_id,
            directory=str(self._workspace.job(job_id).path),
            root=str(self._settings.root),
            pipeline=resolved.slug,
            task_modules=resolved.task_modules,
            entries=entries,
            defaults=self._catalogue.defaults,
            llm=LlmDefaults.model_validate(pipeline.llm.model_dump()),
            llm_override=LlmOverride() if override is None else LlmOverride.model_validate(override.model_dump()),
            mode=mode,
            skip=skip,
            resumed=resumed,
            code=None if resumed else self._code_of(resolved, entries),
            on_code_change=self._settings.jobs.on_code_change,
            retry_backoff_seconds=self._settings.tasks.retry_backoff_seconds,
            request_timeout=self._settings.gateway.request_timeout_seconds,
            priority=priority,
            budget_usd=budget_usd,
            fault_point=(fault_points.for_resumed if resumed else fault_points.for_runner)(self._settings.fault_point),
        )

    def _entries(self, pipeline: Pipeline) -> tuple[TaskEntry, ...]:
        """The tasks as the runner takes them; those of the pipeline asked for last are kept, for runs in a row."""
        if self._settled is None or self._settled[0] is not pipeline:
            wanted = set(TaskEntry.model_fields)
            entries = tuple(TaskEntry.model_validate(entry.model_dump(include=wanted)) for entry in pipeline.tasks)
            self._settled = (pipeline, entries)
        return self._settled[1]


def _read(path: object) -> bytes:
    try:
        with open(str(path), "rb") as file:
            return file.read()
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from None
