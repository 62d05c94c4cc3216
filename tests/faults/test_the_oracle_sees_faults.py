"""The oracle that the other tests here trust finds nothing wrong with a good run, and each wrong that is done to it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fault_world import World
from oracle import Before, faults_after_a_power_cut, faults_of

Tamper = Callable[[World, Path], None]


def twice(path: Path, kind: str | None = None) -> None:
    """The last line (of that type) once more."""
    lines = [line for line in path.read_text().splitlines() if kind is None or json.loads(line)["type"] == kind]
    with path.open("a") as file:
        file.write(lines[-1] + "\n")


def changed(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def ran_again(world: World, stage: str) -> None:
    """A trace of the first task's stage, after it was over."""
    line = next(line for line in world.workspace.lines(world.executions) if line["stage"] == stage)
    with world.executions.open("a") as file:
        file.write(json.dumps(line | {"at": line["at"] + 3600}) + "\n")


WRONGS: dict[str, Tamper] = {
    "a second line of the run": lambda world, _: twice(world.workspace.data / "complete" / "runs.jsonl"),
    "a second end": lambda _, job: twice(job / "events.jsonl", "JobDone"),
    "a task done twice": lambda _, job: twice(job / "events.jsonl", "TaskDone"),
    "a stage finished twice": lambda _, job: twice(job / "tasks" / "write" / "checkpoint.jsonl"),
    "a finished stage ran again": lambda world, _: ran_again(world, "inference"),
    "a reply bought twice": lambda _, job: twice(job / "llm-calls.jsonl", "paid"),
    "a call lost": lambda _, job: twice(job / "llm-calls.jsonl", "sent"),
    "a call nobody journaled": lambda world, _: twice(world.provider.log),
    "a restart that was none": lambda _, job: changed(job / "tasks-status.json", restarts=1),
    "money not booked": lambda _, job: changed(job / "tasks-status.json", tokens={"input": 12, "output": 34}),
    "an artifact lost": lambda _, job: (job / "files" / "artifacts" / "write.md").unlink(),
    "a seed left behind": lambda world, job: world.workspace.drop(job.name),
    "half a claim left": lambda world, job: (world.workspace.data / "current" / f".claiming-{job.name}").mkdir(),
    "a job in two places": lambda world, job: (world.workspace.data / "complete" / f"{job.name}.2").mkdir(),
}


def test_the_oracle_finds_every_wrong_and_nothing_else(world: World, job_id: str) -> None:
    """A run without any kill has no fault; each of these wrongs, done to its files alone, is found."""
    world.drop(job_id)
    world.start()
    world.wait_until_complete(job_id)
    assert faults_of(world, job_id, restarts=0, lost_calls=0) == []
    seen = seen_by(world, WRONGS, job_id, lambda: faults_of(world, job_id, restarts=0, lost_calls=0))
    assert seen == set(WRONGS)


AFTER_A_POWER_CUT: dict[str, Tamper] = WRONGS | {
    "an artifact that is empty": lambda _, job: (job / "files" / "artifacts" / "write.md").write_text(""),
    "an output of zeros": lambda _, job: (job / "tasks" / "write" / "output.json").write_bytes(b"{}"),
}
NOT_PROMISED_THEN = {"a stage finished twice", "a restart that was none", "a call lost"}


def test_the_oracle_of_power_cuts_finds_what_was_promised(world: World, job_id: str) -> None:
    """Of a run whose power was cut when all was confirmed: the same wrongs, but for what nobody promised."""
    world.drop(job_id)
    world.start()
    world.wait_until_complete(job_id)
    arrived = Counter(model.rpartition("+")[2] for model in world.provider.calls(job_id))
    before = Before(world.traces(job_id), arrived, process_ended=True)
    assert faults_after_a_power_cut(world, job_id, before) == []
    seen = seen_by(world, AFTER_A_POWER_CUT, job_id, lambda: faults_after_a_power_cut(world, job_id, before))
    assert seen == set(AFTER_A_POWER_CUT) - NOT_PROMISED_THEN


def seen_by(world: World, wrongs: dict[str, Tamper], job_id: str, faults: Callable[[], list[str]]) -> set[str]:
    """Those of the wrongs, each done to the files of a good run, at which `faults` finds something."""
    root = world.workspace.root
    kept = root.with_name(f"{root.name}-kept")
    world.close()
    shutil.copytree(root, kept, ignore=shutil.ignore_patterns("state"))  # sockets cannot be copied
    journal = world.provider.log.read_bytes()
    seen = set()
    for name, tamper in wrongs.items():
        tamper(world, world.workspace.data / "complete" / job_id)
        try:
            found = bool(faults())
        except (KeyError, ValueError):  # what cannot be read at all is seen, too
            found = True
        if found:
            seen.add(name)
        shutil.rmtree(root)
        shutil.copytree(kept, root)
        world.provider.log.write_bytes(journal)
    return seen
