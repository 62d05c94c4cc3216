"""Everything the API may ask of the daemon, as one protocol. The daemon implements it; tests bring their own.

Every call is synchronous, safe from any thread, and may take milliseconds. A declared "no" is raised as `Refused`;
its code becomes the HTTP status (`api/envelope.py`). An unknown job, task, pipeline or file: `Refused("not_found", …)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pop_actors.core.observations import Gauges

Document = dict[str, Any]


class Control(Protocol):
    """What can be asked of, and told to, a running popd."""

    def jobs(self, include_finished: bool, state: str | None, limit: int) -> list[Document]:
        """Jobs as contract §8's `list` entries, newest first, at most `limit`."""

    def job(self, job_id: str) -> Document:
        """The status document of contract §5, of a job in current/ or complete/."""

    def runs(self, limit: int, job_id: str | None) -> list[Document]:
        """Lines of runs.jsonl, newest first."""

    def tree(self) -> Document:
        """The supervision tree: {name, kind, state, pid, restarts, mailbox, uptime, children}; uptime in seconds."""

    def gateway(self) -> list[Document]:
        """One entry per provider and model: {provider, model, …limits and state}."""

    def budgets(self) -> list[Document]:
        """One entry per daily budget: {scope, name, limitUsd, spentUsd, state, resetsAt}."""

    def set_limits(self, provider: str, limits: Mapping[str, float | None]) -> Document:
        """Other limits of a provider, or of one of its models (`provider:model`), until the next start; all of them.
        Refused bad_limit, unknown_provider."""

    def probe(self, provider: str | None) -> list[Document]:
        """One cheap call to that provider, or to each configured one: {provider, model, ok, ms, code, message,
        costUsd}. Refused unknown_provider."""

    def state(self) -> Document:
        """The service at a glance: {claiming, jobs: {state: count}, pendingSeeds, …}."""

    def meta(self) -> Document:
        """What runs here: {version, pid, startedAt, root, …}."""

    def concurrency(self) -> Document:
        """The slots: {limit, running, available, queued: [job id], active: [job id]}."""

    def pipelines(self) -> list[Document]:
        """The registry's pipelines: {slug, name, description, valid, faults}."""

    def pipeline(self, slug: str) -> Document:
        """One pipeline with its tasks."""

    def task_files(self, job_id: str, task: str, kind: str) -> list[str]:
        """The names under which a task wrote files of this kind (artifacts, logs, tmp)."""

    def task_file(self, job_id: str, task: str, kind: str, name: str) -> Path:
        """Where one of them lies."""

    def job_directory(self, job_id: str) -> Path:
        """The job's directory, in current/ or complete/."""

    def submit(self, content: bytes, job_id: str | None) -> str:
        """Drop a seed; the job id. Refused or SeedRejected where it cannot become a job."""

    def stop(self, job_id: str) -> None:
        """Stop a job for good; it stays in current/ as `stopped`."""

    def restart(self, job_id: str, from_task: str | None, only: bool) -> Document:
        """Begin a new run of a job that has ended; {id, pipelineId}."""

    def decide_gate(self, job_id: str, approve: bool, note: str, task: str | None) -> Document:
        """Let a job that waits at a gate go on, or end it in error; {id, state}. `task`: only where it is its gate."""

    def repair(self, job_id: str | None) -> Document:
        """Put the files of a damaged job right, or of all (None): {repaired: [{id, state, done, copies}], failed: [{id,
        message}]}. Refused where the one that is named cannot be, or need not."""

    def pause_claiming(self) -> None:
        """Claim no more seeds; running jobs go on."""

    def resume_claiming(self) -> None:
        """Claim seeds again."""

    def shutdown(self) -> None:
        """Begin to stop the daemon; returns at once."""

    def reload(self) -> None:
        """Read the settings again. Refused where they are wrong."""

    def gauges(self) -> Gauges:
        """The numbers sampled at a scrape."""

    def unready(self) -> list[str]:
        """Why this daemon should not be given work; empty: it is ready."""

    def unhealthy(self) -> list[str]:
        """Why this daemon should be replaced; empty: it is healthy."""
