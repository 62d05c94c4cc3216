"""What jobs tell, and a status-writer that dies while they tell it: the logs have every event, once and in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from pop_actors.config import load
from pop_actors.daemon import Daemon
from pop_actors.storage.jsonl import read_lines
from pop_actors.system import messages as m
from support.daemon import Workspace, wait_until

SOON = 40.0
CRASHES = 4
FILES = 60
TASK = f"""
def work(ctx, stage):
    for number in range({FILES}):
        ctx.io.write_tmp(f"{{ctx.meta.task_name}}-{{stage}}-{{number}}", "x")
    return {{"output": stage}}

""" + "".join(
    f"def {name}(ctx):\n    return work(ctx, {name!r})\n\n"
    for name in ("ingestion", "pre_processing", "prompt_templating", "inference", "parsing", "integration")
)
JOBS = ("a", "b", "c")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path)
    made.settings("[http]\nenabled = false\n[jobs]\nmax_running = 3\n")
    made.add_pipeline("talkative", {"one": TASK, "two": TASK})
    return made


@pytest.fixture
def daemon(workspace: Workspace) -> Iterator[Daemon]:
    """The whole tree, in this process; its jobs have processes of their own."""
    settings = load(workspace.root, None, {})
    for folder in settings.workspace.folders:
        folder.mkdir(parents=True, exist_ok=True)
    deaths: list[str] = []
    made = Daemon(settings, workspace.root / "s", lambda: None, lambda: None, deaths.append)
    made.start()
    yield made
    made.stop()
    assert not deaths


def numbers(workspace: Workspace, job_id: str) -> dict[int, list[int]]:
    """The seqs of each epoch in a job's log, as they stand there."""
    found = defaultdict(list)
    for place in ("current", "complete"):
        log = workspace.data / place / job_id / "events.jsonl"
        if log.exists():
            for _, event in read_lines(log):
                found[event["epoch"]].append(event["seq"])
            break
    return {epoch: seqs for epoch, seqs in found.items() if epoch}


def count(workspace: Workspace) -> int:
    return sum(len(seqs) for job_id in JOBS for seqs in numbers(workspace, job_id).values())


def test_no_told_event_is_lost_with_the_status_writer(workspace: Workspace, daemon: Daemon) -> None:
    """Its mailbox dies with it, and what the jobs told it is sent again from where their logs end."""
    expected = len(JOBS) * 2 * (6 * (FILES + 2) + 4)
    for job_id in JOBS:
        workspace.drop(job_id)
    for crash in range(1, CRASHES + 1):
        wait_until(lambda n=crash: count(workspace) > expected * n / (CRASHES + 1), SOON, f"load for crash {crash}")
        daemon._registry.ref(m.STATUS_WRITER).tell("what no actor understands")
    for job_id in JOBS:
        wait_until(lambda j=job_id: workspace.is_complete(j), SOON, f"{job_id} to end")
        (seqs,) = numbers(workspace, job_id).values()
        assert seqs == list(range(1, len(seqs) + 1))
        status = workspace.status(job_id)
        assert status is not None
        assert len(status["files"]["tmp"]) == 2 * 6 * FILES
