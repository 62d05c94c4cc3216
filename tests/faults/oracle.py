"""What must be true of a job that was killed and has completed, told from files and the provider's own log alone."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from fault_world import TASKS, Provider, World

STAGES = ("ingestion", "inference", "integration")
TOKENS_PER_CALL = {"input": 12, "output": 34}
CLOCK_SLACK_SECONDS = 0.002  # timestamps have milliseconds, cut


def faults_of(world: World, job_id: str, *, restarts: int, lost_calls: int) -> list[str]:
    """Every broken promise; empty where all were kept.

    `restarts`: how often the run was taken up again. `lost_calls`: calls in flight when the daemon was killed.
    """
    data = world.workspace.data
    job = data / "complete" / job_id
    if not job.is_dir():
        return [f"{job_id} is not in complete/"]
    status = json.loads((job / "tasks-status.json").read_bytes())
    events = _lines(job / "events.jsonl")
    traces = [line for line in _lines(world.executions) if line["job"] == job_id]
    calls = _lines(job / "llm-calls.jsonl")
    return [
        *_places(data, job_id),
        *_run(data, job_id, status, events, restarts),
        *_tasks(job, status, events, traces),
        *_stages(job, traces),
        *_money(status, data, job_id, calls, world.provider, lost_calls),
        *_papers(job, status),
    ]


def _places(data: Path, job_id: str) -> list[str]:
    """One place holds the job, and no half move is left."""
    found = []
    for folder in ("pending", "current", "rejected", "staging"):
        own = {job_id, f"{job_id}-seed.json"}
        left = [name for name in os.listdir(data / folder) if name in own or name.startswith(".")]
        found += [f"left in {folder}/: {name}" for name in left]
    twice = [name for name in os.listdir(data / "complete") if name.startswith(f"{job_id}.")]
    return found + [f"a second directory: {name}" for name in twice]


def _run(data: Path, job_id: str, status: Any, events: list[Any], restarts: int) -> list[str]:
    """One run from beginning to end, recorded once."""
    found = []
    kinds = Counter(event["type"] for event in events)
    for kind, wanted in (("JobCreated", 1), ("JobDone", 1), ("JobRestarted", 0), ("JobFailed", 0)):
        if kinds[kind] != wanted:
            found.append(f"{kinds[kind]} times {kind} in events.jsonl")
    runs = [line for line in _lines(data / "complete" / "runs.jsonl") if line["id"] == job_id]
    if [line["pipelineId"] for line in runs] != [status["pipelineId"]]:
        found.append(f"runs.jsonl has {[line['pipelineId'] for line in runs]}, the run is {status['pipelineId']}")
    if (status["state"], status["progress"]) != ("done", 100):
        found.append(f"the status says {status['state']}, {status['progress']} %")
    if status["restarts"] != restarts:
        found.append(f"restarts is {status['restarts']}, not {restarts}")
    return found


def _tasks(job: Path, status: Any, events: list[Any], traces: list[Any]) -> list[str]:
    """Each task ended once, in its first attempt, and nothing of it ran after that."""
    found = []
    for task in TASKS:
        kinds = [event["type"] for event in events if event.get("task") == task]
        if kinds.count("TaskDone") != 1:
            found.append(f"{task}: {kinds.count('TaskDone')} times TaskDone")
            continue
        (done,) = [
            _seconds(event["at"]) for event in events if (event["type"], event.get("task")) == ("TaskDone", task)
        ]
        late = [line["stage"] for line in traces if line["task"] == task and line["at"] > done + CLOCK_SLACK_SECONDS]
        found += [f"{task}: {stage} ran after the task was done" for stage in late]
        if any(kind in {"TaskStarted", "StageStarted"} for kind in kinds[kinds.index("TaskDone") :]):
            found.append(f"{task} was started after it was done")
        entry = status["tasks"][task]
        if (entry["state"], entry["attempts"]) != ("done", 1):
            found.append(f"{task} is {entry['state']} after {entry['attempts']} attempts")
        if not (job / "tasks" / task / "output.json").is_file():
            found.append(f"{task} has no output.json")
    return found


def _stages(job: Path, traces: list[Any]) -> list[str]:
    """Each stage finished once, and the time it finished is the last time it ran."""
    found = []
    for task in TASKS:
        lines = _lines(job / "tasks" / task / "checkpoint.jsonl")
        if [line["stage"] for line in lines] != list(STAGES):
            found.append(f"{task}: checkpoints are {[line['stage'] for line in lines]}")
        for line in lines:
            began = _seconds(line["startedAt"]) - CLOCK_SLACK_SECONDS
            runs = [trace["at"] for trace in traces if (trace["task"], trace["stage"]) == (task, line["stage"])]
            last = [at for at in runs if at >= began]
            if len(last) != 1:
                found.append(f"{task}.{line['stage']}: ran {len(runs)} times, {len(last)} of them since it finished")
    return found


def _money(status: Any, data: Path, job_id: str, calls: list[Any], provider: Provider, lost_calls: int) -> list[str]:
    """Each call was paid once and booked once; what the provider got beyond that was in flight."""
    found = []
    sent = Counter(call["key"] for call in calls if call["type"] == "sent")
    paid = Counter(call["key"] for call in calls if call["type"] == "paid")
    models = {call["key"]: call["model"] for call in calls}
    if len(paid) != len(TASKS) or set(paid.values()) != {1} or sent.keys() != paid.keys():
        found.append(f"llm-calls.jsonl: sent {dict(sent)}, paid {dict(paid)}")
    lost = sum(sent.values()) - len(paid)
    if lost != lost_calls:
        found.append(f"{lost} calls stand as sent without paid, not {lost_calls}")
    arrived = Counter(provider.calls(job_id))
    for key, model in models.items():
        if not 1 <= arrived[model] <= sent[key]:
            found.append(f"the provider got {model} {arrived[model]} times, the journal sent it {sent[key]} times")
    if set(arrived) != set(models.values()):
        found.append(f"the provider knows {sorted(arrived)}, the journal {sorted(models.values())}")
    booked = {kind: count * len(paid) for kind, count in TOKENS_PER_CALL.items()}
    lines = [line for line in _lines(data / "complete" / "runs.jsonl") if line["id"] == job_id]
    for where, tokens in (("the status", status["tokens"]), *(("runs.jsonl", line["tokens"]) for line in lines)):
        if tokens != booked:
            found.append(f"{where} has booked {tokens}, paid were {booked}")
    return found


def _papers(job: Path, status: Any) -> list[str]:
    """The files of tasks and seed are there, and indexed."""
    wanted = {"attached.csv", *(f"{task}.md" for task in TASKS)}
    there = set(os.listdir(job / "files" / "artifacts"))
    found = [f"artifacts are {sorted(there)}"] if there != wanted else []
    if sorted(status["files"]["artifacts"]) != sorted(wanted):
        found.append(f"artifacts are indexed as {status['files']['artifacts']}")
    return found + [f"left in the job: {name}" for name in ("runner.pid",) if (job / name).exists()]


def _lines(path: Path) -> list[Any]:
    """The documents of a JSON-lines file; every line must be whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
