"""What a job may use, and what is said of one that uses more. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pop_actors.config import JobsSettings
from pop_actors.core.events import ErrorInfo

MB = 1024 * 1024
BURST_BYTES = 1024 * MB
"""How much a process may map beyond the job's memory limit before the kernel refuses more: the watch samples, and this
is the net below it. Roomy, for what is mapped is more than what is held: each thread maps 8 MB for its stack."""

Resource = Literal["memory", "disk", "processes"]


@dataclass(frozen=True, slots=True)
class Excess:
    """A job is over one of its limits."""

    resource: Resource
    error: ErrorInfo


@dataclass(frozen=True, slots=True)
class JobLimits:
    """Bytes, bytes and how many; None: no limit."""

    memory: int | None = None
    disk: int | None = None
    processes: int | None = None
    open_files: int = 1024

    @property
    def kernel_limits(self) -> Mapping[str, int]:
        """What the kernel enforces in each of the job's processes, by names of the `resource` module."""
        limits = {"RLIMIT_NOFILE": self.open_files}
        if self.memory is not None:
            limits["RLIMIT_DATA"] = self.memory + BURST_BYTES
        return limits

    def memory_excess(self, job_id: str, used: int) -> Excess | None:
        """`used`: bytes its processes hold together."""
        if self.memory is None or used <= self.memory:
            return None
        held = f"its processes hold {_mb(used)} of memory"
        return _excess("memory", "MemoryLimitExceeded", held, _mb(self.memory), "memory_limit_mb", job_id)

    def disk_excess(self, job_id: str, used: int) -> Excess | None:
        """`used`: bytes its directory takes."""
        if self.disk is None or used <= self.disk:
            return None
        held = f"its directory takes {_mb(used)}"
        return _excess("disk", "DiskLimitExceeded", held, _mb(self.disk), "disk_limit_mb", job_id)

    def processes_excess(self, job_id: str, used: int) -> Excess | None:
        """`used`: how many processes it is, zombies among them."""
        if self.processes is None or used <= self.processes:
            return None
        held = f"it has {used} processes"
        return _excess("processes", "ProcessLimitExceeded", held, f"{self.processes}", "processes_limit", job_id)


def limits_of(settings: JobsSettings) -> JobLimits:
    """The settings' limits in bytes."""
    return JobLimits(
        memory=None if settings.memory_limit_mb is None else settings.memory_limit_mb * MB,
        disk=None if settings.disk_limit_mb is None else settings.disk_limit_mb * MB,
        processes=settings.processes_limit,
        open_files=settings.open_files_limit,
    )


def _excess(resource: Resource, name: str, held: str, limit: str, setting: str, job_id: str) -> Excess:
    message = (
        f"{held}, the limit is {limit} (jobs.{setting}), so it was ended; have its tasks use less, or raise the limit "
        f"in pop.toml and start popd again, then: popctl restart {job_id}"
    )
    return Excess(resource, ErrorInfo(name=name, message=message))


def _mb(count: int) -> str:
    return f"{count / MB:.0f} MB"
