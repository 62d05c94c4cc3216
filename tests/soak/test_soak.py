"""A short soak as a test: the same world, faults and oracle as `python -m tests.soak`, with fewer jobs."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.soak import plan
from tests.soak.soak import Soak
from tests.soak.world import World


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_every_promise_is_kept_while_everything_is_killed_at_random() -> None:
    """80 jobs, a provider that fails in every way, kills of jobs, workers, the forkserver and the daemon, a disk that
    fills up, gates, and commands at random. Where it fails, its folder stays: it may not fail a second time."""
    folder = Path(tempfile.mkdtemp(prefix="pop-soak-"))
    print(f"everything is kept in {folder}")
    with World(folder, max_running=8) as world:
        report = Soak(world, count=80, seed=3, mean_fault_seconds=0.4, say=False).run()
    assert not report.broken, "\n".join(report.broken)
    assert sum(report.summary["outcomes"].values()) == 80
    shutil.rmtree(folder)


def test_the_same_seed_gives_the_same_soak() -> None:
    """Jobs, faults and commands; another seed gives others."""

    def told(seed: int) -> tuple[list[plan.Planned], list[plan.Fault], list[plan.Command]]:
        faults, commands = plan.faults(seed, 1.0), plan.commands(seed, 1.0)
        return (
            plan.jobs(seed, 300, "traces"),
            [next(faults) for _ in range(100)],
            [next(commands) for _ in range(100)],
        )

    assert told(1) == told(1)
    assert told(1) != told(2)


def test_a_soak_has_jobs_of_every_kind_and_every_end() -> None:
    """So that nothing is left out by chance."""
    jobs = plan.jobs(5, 2000, "traces")
    assert {job.outcome for job in jobs} == {"done", "error", "rejected", "stopped"}
    assert {job.order for job in jobs} == {None, "approve", "reject", "stop", "halt", "again"}
    assert {job.reason for job in jobs} >= {None, "crashed", "quality", *plan.FAILURES, "duplicate_job", "too_large"}
    assert min(Counter(job.pipeline for job in jobs).values()) >= 10
    seeds = b"".join(job.seed for job in jobs).decode(errors="replace")
    scripts = (*plan.CALM, *plan.TRANSIENT, *plan.FATAL_ONCE, *plan.HOPELESS)
    assert [script for script in scripts if f'"{script}"' not in seeds] == []
