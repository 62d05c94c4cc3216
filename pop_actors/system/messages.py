"""What the daemon's own actors tell each other. These never leave the process and so need no wire form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pop_actors.core.events import Event
from pop_actors.core.job_spec import JobSpec
from pop_actors.storage.catalogue import ResolvedPipeline
from pop_actors.storage.claims import SeedFile

STATUS_WRITER = "status-writer"
GATEWAY = "gateway"
SCHEDULER = "scheduler"
JOBS = "jobs"
WATCHER = "watcher"
API = "api"
ACTORS = (STATUS_WRITER, GATEWAY, SCHEDULER, JOBS, WATCHER, API)

TO_RUN = frozenset({"pending", "running"})
"""The states of a job that is to go on by itself."""


Rank = tuple[int, int, str]
"""The order of claiming: priority, the highest first, then age, then job id."""


@dataclass(frozen=True, slots=True)
class SeedFound:
    """Watcher → scheduler: a seed that can become a job lies in the drop box.

    `file` is the file that was read, without its content; `seen_at` is monotonic seconds.
    """

    job_id: str
    name: str
    priority: int
    mode: str
    skip: tuple[str, ...]
    depends_on: tuple[str, ...]
    conflicts: tuple[str, ...]
    pipeline: ResolvedPipeline
    file: SeedFile
    seen_at: float
    budget_usd: float | None = None

    @property
    def rank(self) -> Rank:
        return (-self.priority, self.file.mtime_ns, self.job_id)


@dataclass(frozen=True, slots=True)
class SeedsFound:
    """Watcher → scheduler: these lay there together, and are to be ranked before any of them is claimed."""

    seeds: tuple[SeedFound, ...]


@dataclass(frozen=True, slots=True)
class SeedGone:
    """Watcher → scheduler: a seed it was told of has left the drop box by other hands."""

    job_id: str


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Anyone → watcher: read this seed again (all of the drop box where `job_id` is None)."""

    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class TurnDown:
    """Watcher → status-writer: move this seed to rejected/. `reason` is one of the contract's."""

    job_id: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Scheduler → status-writer: make this seed a job's directory in current/. Answered by Claimed or ClaimFailed."""

    seed: SeedFound
    run_id: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """Status-writer → scheduler: the directory is there, durable, and its log has begun."""

    seed: SeedFound
    run_id: str


@dataclass(frozen=True, slots=True)
class ClaimFailed:
    """Status-writer → scheduler: it did not become a job now. `retry`: the seed still lies there, try it later."""

    job_id: str
    why: str
    retry: bool


@dataclass(frozen=True, slots=True)
class StatusWriterUp:
    """Status-writer → scheduler: it has started; claims it had not answered are undone."""


@dataclass(frozen=True, slots=True)
class Note:
    """Daemon → status-writer: this happened to a job. Asked, the answer comes when it is on disk."""

    job_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class BeginRun:
    """Scheduler → status-writer, asked: a new run of a job that ended; reopens it where it is in complete/.

    The answer is its status document. Refused `not_found` where there is no such job.
    """

    job_id: str
    event: Event


@dataclass(frozen=True, slots=True)
class StartJob:
    """Scheduler → jobs: run it in a process of its own. `epoch` is the first one this run's process may have."""

    spec: JobSpec
    epoch: int


@dataclass(frozen=True, slots=True)
class EndJob:
    """Scheduler → jobs: end its process; politely at the next stage boundary with `suspend`, else at once."""

    job_id: str
    suspend: bool


@dataclass(frozen=True, slots=True)
class JobEnded:
    """Jobs → scheduler: the job's process is gone for good and its slot is free."""

    job_id: str
    gave_up: bool


@dataclass(frozen=True, slots=True)
class JobDeparted:
    """Status-writer → scheduler: the job lies in complete/ or rejected/ now."""

    job_id: str


@dataclass(frozen=True, slots=True)
class JobsUp:
    """Jobs → scheduler: the supervisor of job processes is there; these run under it."""

    running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SchedulerUp:
    """Scheduler → jobs: it has started and does not know what runs. Answered by JobsUp."""


@dataclass(frozen=True, slots=True)
class StopJob:
    """Operator → scheduler, asked: stop a job, wherever it is. The answer is its state."""

    job_id: str


@dataclass(frozen=True, slots=True)
class RestartJob:
    """Operator → scheduler, asked: begin a new run. The answer is {id, pipelineId}."""

    job_id: str
    from_task: str | None = None
    only: bool = False


@dataclass(frozen=True, slots=True)
class RepairJob:
    """Operator → status-writer, asked: put a damaged job's files right. The answer is {id, state, done, copies}."""

    job_id: str


@dataclass(frozen=True, slots=True)
class JobRepaired:
    """Status-writer → scheduler: a job that was set aside can be used again; it goes on unless it has ended."""

    job_id: str


@dataclass(frozen=True, slots=True)
class DecideGate:
    """Operator → scheduler, asked: let a job that waits at a gate go on, or end it. The answer is {id, state}.

    `task` says whose gate it is meant for; None: whichever is closed now.
    """

    job_id: str
    approve: bool
    note: str = ""
    task: str | None = None


@dataclass(frozen=True, slots=True)
class SetClaiming:
    """Operator → scheduler: stop or start claiming seeds. Jobs that run go on."""

    on: bool


@dataclass(frozen=True, slots=True)
class DiskHasRoom:
    """Disk watch → scheduler: seeds may be claimed again."""


@dataclass(frozen=True, slots=True)
class SuspendAll:
    """Service → scheduler, asked: claim and start nothing more; the answer (None) comes when no job runs."""


@dataclass(frozen=True, slots=True)
class Flush:
    """Status-writer → itself: make what has gathered durable; with `statuses`, write every status file, too."""

    statuses: bool = False


def job_address(job_id: str) -> str:
    """The address of a job's actor."""
    return f"{JOBS}/{job_id}"


Answer = dict[str, Any] | None
