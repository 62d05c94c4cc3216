"""`make demo`: starts popd on a copy of this folder, submits the three seeds, shows them run, and what came of it.

Exits 0 only when all three runs are in complete/.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

HERE = Path(__file__).resolve().parent
WORKSPACE = HERE.parent / "demo-run"
SEEDS = ("market-analysis", "content-generation", "data-processing")
READY_SECONDS = 30.0
RUN_SECONDS = 300.0
SHOWN_LINES = 12

console = Console(highlight=False)


def main() -> int:
    """The whole show; the exit code."""
    shutil.rmtree(WORKSPACE, ignore_errors=True)
    shutil.copytree(HERE, WORKSPACE, ignore=shutil.ignore_patterns("run.py", "__pycache__"))
    with (WORKSPACE / "popd.log").open("wb") as log:
        daemon = subprocess.Popen([sys.executable, "-m", "pop_actors", "--root", str(WORKSPACE)], stderr=log)
    try:
        wait_until_ready(daemon)
        console.print(f"popd runs on {WORKSPACE}", style="bold")
        jobs = submit(SEEDS)
        states = watch(jobs)
        for job in jobs:
            show(job)
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(60)
    if any(state != "done" for state in states.values()):
        console.print(f"[red]not every run is complete:[/red] {states}; see {WORKSPACE / 'popd.log'}")
        return 1
    say_what_next(jobs)
    return 0


def popctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One popctl command against the demo's workspace."""
    command = [sys.executable, "-m", "pop_actors.cli", "--root", str(WORKSPACE), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def wait_until_ready(daemon: subprocess.Popen[bytes]) -> None:
    """Return when popd answers; SystemExit with its log where it does not."""
    deadline = time.monotonic() + READY_SECONDS
    while popctl("status").returncode != 0:
        if daemon.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"popd did not start:\n{(WORKSPACE / 'popd.log').read_text()}")
        time.sleep(0.1)


def submit(names: Sequence[str]) -> list[str]:
    """Submit seeds, as a user would; the jobs' ids."""
    done = popctl("submit", *(str(WORKSPACE / "seeds" / f"{name}.json") for name in names))
    if done.returncode != 0:
        sys.exit(f"the seeds were refused: {done.stderr}")
    return done.stdout.split()


def status(job: str) -> dict[str, Any]:
    """The job's status, from its file: in current/ while it runs, in complete/ after."""
    for place in ("current", "complete"):
        try:
            content = (WORKSPACE / "pipeline-data" / place / job / "tasks-status.json").read_bytes()
        except FileNotFoundError:
            continue
        document: dict[str, Any] = json.loads(content)
        return document
    return {"state": "pending", "progress": 0, "current": None, "currentStage": None, "tasks": {}}


def watch(jobs: list[str]) -> dict[str, str]:
    """Show the jobs until all have ended; their last states."""
    deadline = time.monotonic() + RUN_SECONDS
    told: dict[str, str] = {}
    with Live(console=console, refresh_per_second=20) if console.is_terminal else nullcontext() as live:
        while True:
            documents = {job: status(job) for job in jobs}
            if live is not None:
                live.update(progress_of(documents))
            else:
                tell_changes(documents, told)
            if is_over(documents) or time.monotonic() > deadline:
                return {job: status(job)["state"] for job in jobs}
            time.sleep(0.02)


def is_over(documents: dict[str, dict[str, Any]]) -> bool:
    """Whether every job has failed, or lies in complete/."""
    return all(
        document["state"] in {"error", "stopped"} or (WORKSPACE / "pipeline-data" / "complete" / job).is_dir()
        for job, document in documents.items()
    )


def tell_changes(documents: dict[str, dict[str, Any]], told: dict[str, str]) -> None:
    """Where there is no terminal to draw on: a line whenever a job has come further."""
    for job, document in documents.items():
        line = f"{job}: {document['state']}, {document['progress']} %"
        if told.get(job) != line:
            told[job] = line
            console.print(f"  {line}{' · ' + document['current'] if document['current'] else ''}", markup=False)


def progress_of(documents: dict[str, dict[str, Any]]) -> Table:
    """One line a job: how far, and what it does now."""
    table = Table(box=None, pad_edge=False)
    for column in ("job", "state", "progress", "now"):
        table.add_column(column, style="bold" if column == "job" else "")
    for job, document in documents.items():
        done = document["progress"] // 5
        now = " · ".join(part for part in (document["current"], document["currentStage"]) if part)
        table.add_row(job, document["state"], f"{'█' * done}{'░' * (20 - done)} {document['progress']:3d} %", now)
    return table


def show(job: str) -> None:
    """Where a run lies, its tasks, and how its last artifact begins."""
    document = status(job)
    place = WORKSPACE / "pipeline-data" / "complete" / job
    console.print(f"\n[bold]{document.get('name', job)}[/bold]  {place}", soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for column in ("task", "state", "ms", "rounds", "tokens in", "out", "cost $"):
        table.add_column(column, justify="left" if column in {"task", "state"} else "right")
    for name, task in document["tasks"].items():
        usage = task["tokenUsage"]
        cost = sum(call[3] or 0 for call in usage)
        cells = (
            f"{task.get('executionTime', 0):.1f}",
            str(task["refinementAttempts"]),
            str(sum(call[1] for call in usage)),
            str(sum(call[2] for call in usage)),
            f"{cost:.4f}",
        )
        table.add_row(name, task["state"], *cells)
    console.print(table)
    models = sorted({call[0] for task in document["tasks"].values() for call in task["tokenUsage"]})
    console.print(f"[dim]answered by[/dim] {', '.join(models)}", soft_wrap=True)
    artifacts = document["files"]["artifacts"]
    if artifacts:
        path = place / "files" / "artifacts" / artifacts[-1]
        lines = path.read_text(encoding="utf-8").splitlines()
        console.print(f"[dim]{path.relative_to(place)} begins:[/dim]", soft_wrap=True)
        for line in lines[:SHOWN_LINES]:
            console.print(f"  │ {line}", markup=False, soft_wrap=True)


def say_what_next(jobs: list[str]) -> None:
    """The commands a newcomer would type now."""
    console.print(
        "\nAll three runs are complete. What to type next:\n"
        "  .venv/bin/popd --root demo-run                      serve it (Ctrl-C suspends its jobs and stops it)\n"
        f"  .venv/bin/popctl --root demo-run report {jobs[0]}\n"
        "  .venv/bin/popctl --root demo-run submit demo/seeds/market-analysis.json --wait\n"
        "  .venv/bin/popctl init my-work                       a workspace of your own\n",
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
