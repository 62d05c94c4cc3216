"""What is said of a job that uses too much, and how crashes without progress are counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pop_actors.config import JobsSettings
from pop_actors.core import events as e
from pop_actors.core.observations import JobChanged
from pop_actors.system.crash_streaks import CrashStreaks
from pop_actors.system.job_limits import BURST_BYTES, MB, JobLimits, limits_of
from pop_actors.system.job_usage import disk_of

AT = "2026-01-01T00:00:00.000Z"
ERROR = e.ErrorInfo(name="ValueError", message="boom")


def test_without_limits_nothing_is_too_much() -> None:
    """The default: only the number of open files is bounded."""
    limits = limits_of(JobsSettings())
    assert limits == JobLimits()
    assert limits.kernel_limits == {"RLIMIT_NOFILE": 1024}
    huge = 10**15
    assert [
        limits.memory_excess("a", huge), limits.disk_excess("a", huge), limits.processes_excess("a", huge)
    ] == [None] * 3  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "limit", "kind", "name"),
    [
        ("memory_limit_mb", 100 * MB, "memory", "MemoryLimitExceeded"),
        ("disk_limit_mb", 100 * MB, "disk", "DiskLimitExceeded"),
        ("processes_limit", 100, "processes", "ProcessLimitExceeded"),
    ],
)
def test_more_than_the_limit_is_too_much(setting: str, limit: int, kind: str, name: str) -> None:
    """The limit itself is not; the words name figure, limit, setting and what to type."""
    limits = limits_of(JobsSettings.model_validate({setting: 100}))
    look = getattr(limits, f"{kind}_excess")
    assert look("job-1", limit) is None
    excess = look("job-1", limit * 3)
    assert (excess.resource, excess.error.name) == (kind, name)
    for words in ("300", "100", f"jobs.{setting}", "popctl restart job-1"):
        assert words in excess.error.message


def test_a_memory_limit_has_a_net_below_it() -> None:
    """What a process may map is more than what it may hold, and not without end."""
    limits = limits_of(JobsSettings(memory_limit_mb=100, open_files_limit=64))
    assert limits.kernel_limits == {"RLIMIT_NOFILE": 64, "RLIMIT_DATA": 100 * MB + BURST_BYTES}


def test_a_directory_takes_what_its_blocks_take(tmp_path: Path) -> None:
    """Holes do not count, nor second names, nor what links lead to; what is below does."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "full").write_bytes(b"x" * 3 * MB)
    (tmp_path / "second").hardlink_to(tmp_path / "a" / "b" / "full")
    (tmp_path / "away").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MB)
    assert 3 * MB <= disk_of(str(tmp_path)) < 4 * MB
    assert disk_of(str(tmp_path / "gone")) == 0


PROGRESS = {
    "a stage": e.StageFinished(at=AT, task="t", stage="parsing"),
    "a failed attempt": e.AttemptFailed(
        at=AT, task="t", attempt=1, stage="parsing", reason="exception", error=ERROR, retry_in=1
    ),
    "a task": e.TaskDone(at=AT, task="t", attempt=1, execution_time=1),
    "a skipped task": e.TaskSkipped(at=AT, task="t", reason="why not"),
}
NO_PROGRESS = {
    "a module loaded": e.StageFinished(at=AT, task="t", stage="load"),
    "a stage that failed": e.StageFinished(at=AT, task="t", stage="parsing", ok=False),
    "a start": e.JobStarted(at=AT, pid=1),
    "a stage begun": e.StageStarted(at=AT, task="t", stage="parsing"),
}


@pytest.mark.parametrize("what", [*PROGRESS, *NO_PROGRESS])
def test_only_progress_ends_a_streak_of_crashes(what: str) -> None:
    """And only that job's."""
    streaks = CrashStreaks()
    assert [streaks.crashed("a"), streaks.crashed("a"), streaks.crashed("b")] == [1, 2, 1]
    streaks.on_observation(JobChanged("a", {**PROGRESS, **NO_PROGRESS}[what], {}))
    assert streaks.crashed("a") == (1 if what in PROGRESS else 3)
    assert streaks.crashed("b") == 2
    streaks.forget("a")
    assert streaks.crashed("a") == 1
