"""What doctor looks at, and in which order: format, settings, pipelines, folders, jobs, seeds, the past.

Reads the workspace by itself, whether a popd runs or not. Prints nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pop_actors.cli.daemon import listens
from pop_actors.cli.failure import not_found
from pop_actors.cli.options import Options
from pop_actors.core.ids import is_job_id
from pop_actors.errors import SeedRejected, SettingsError
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.findings import Finding
from pop_actors.storage.history_inspection import inspect_history
from pop_actors.storage.inspection import inspect_format, inspect_workspace
from pop_actors.storage.job_inspection import inspect_job
from pop_actors.storage.layout import Workspace
from pop_actors.storage.queue_inspection import inspect_queue
from pop_actors.storage.workspace_lock import is_owned

if TYPE_CHECKING:
    from pop_actors.config import Settings

MEGABYTE = 1 << 20
RESERVE_MB = 16
SEED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a popd is there: it answers, or at least holds the workspace's lock."""

    answers: bool
    owns: bool

    @property
    def is_live(self) -> bool:
        return self.answers or self.owns


def presence(options: Options) -> Presence:
    """Who is at work in this workspace."""
    return Presence(listens(options.socket_path), is_owned(options.workspace))


def examine(options: Options, present: Presence, job_id: str | None, *, everything: bool) -> list[Finding]:
    """Everything there is to say; about one job, where one is named. CommandFailed where there is no such job."""
    workspace = options.workspace
    found = inspect_format(workspace)
    if any(finding.severity == "error" for finding in found):
        return found
    if job_id is not None:
        return _about_job(workspace, job_id, live=present.is_live)
    settings, faults = _settings(workspace)
    reserve = settings.jobs.disk_reserve_mb if settings is not None else None
    seed_bytes = settings.jobs.seed_max_bytes if settings is not None else SEED_BYTES
    catalogue = Catalogue(workspace)
    return [
        *found,
        *faults,
        *_about_service(options, present),
        *_pipelines(workspace, catalogue),
        *inspect_workspace(workspace, (RESERVE_MB if reserve is None else reserve) * MEGABYTE, live=present.is_live),
        *(finding for name in _jobs(workspace) for finding in inspect_job(workspace, name, live=present.is_live)),
        *inspect_queue(workspace, catalogue, seed_bytes, live=present.is_live),
        *inspect_history(workspace, everything=everything),
    ]


def _about_job(workspace: Workspace, job_id: str, *, live: bool) -> list[Finding]:
    if is_job_id(job_id):
        if os.path.lexists(workspace.job(job_id).path):
            return inspect_job(workspace, job_id, live=live)
        for place, what in (
            (workspace.finished(job_id).path, "is done"),
            (workspace.seed(job_id), "is a seed that waits; popctl doctor says why"),
            (workspace.rejected / job_id, "was rejected; its rejection.json says why"),
        ):
            if os.path.lexists(place):
                return [Finding("note", str(place), what, "", job_id)]
    raise not_found(f"there is no job {job_id!r}; see: popctl list --all")


def _settings(workspace: Workspace) -> tuple[Settings | None, list[Finding]]:
    from pop_actors import config  # pydantic's models of every setting: only doctor pays for them

    try:
        return config.load(workspace.root, None), []
    except SettingsError as error:
        todo = "correct it, then: popd --check"
        return None, [Finding("error", str(workspace.root / "pop.toml"), str(error), todo)]


def _about_service(options: Options, present: Presence) -> Iterator[Finding]:
    if not present.is_live:
        yield Finding("note", "popd", "is not running", f"popd --root {options.workspace.root}")
    elif not present.answers:
        what = f"a process holds {options.workspace.lock}, and nobody listens at {options.socket_path}"
        yield Finding("warning", "popd", what, "it may be starting: try again; else look at its log")


def _pipelines(workspace: Workspace, catalogue: Catalogue) -> Iterator[Finding]:
    try:
        described = [catalogue.describe(slug) for slug in catalogue.slugs()]
    except SeedRejected as error:
        todo = "correct it, or begin with: popctl init"
        yield Finding("error", str(workspace.registry), error.message, todo)
        return
    for pipeline in described:
        for fault in pipeline["faults"]:
            yield Finding("error", f"pipeline {pipeline['slug']}", fault, "correct it, then: popd --check")


def _jobs(workspace: Workspace) -> list[str]:
    try:
        return sorted(filter(is_job_id, os.listdir(workspace.current)))
    except OSError:
        return []
