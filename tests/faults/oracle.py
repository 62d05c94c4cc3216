"""What must be true of a job that was killed, or whose power was cut, and has completed: told from files and the
provider's own log alone.

After kills nothing may be missing (`faults_of`). A power cut takes what was not synced, so `faults_after_a_power_cut`
asks for less:

- no job is lost, doubled or run again once it has ended: one place, one directory, one line in runs.jsonl;
- a task whose end was confirmed (the next one began, or the job's process was told) does not run again, and its output
  and artifacts are there;
- a reply that reached the task is not bought again, and each call that was paid stands in the journal once, is booked
  once, and the provider got no more calls than that and those that were under way;
- a finished stage may run again: its calls replay, so that costs nothing;
- what people read (letter, execution logs, checkpoint, stage logs) may lack the last seconds; events.jsonl, runs.jsonl,
  llm-calls.jsonl, the status and outputs may not hold a broken line.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fault_world import Provider, World

# What each task of the traced pipeline goes through: (attempt, round, stage), once each. The first attempt of the first
# task fails in its last stage; the second task refines once.
PLAN = {
    "research": [(attempt, 0, stage) for attempt in (1, 2) for stage in ("ingestion", "inference", "integration")],
    "write": [
        *((1, 0, stage) for stage in ("ingestion", "inference", "validateQuality")),
        *((1, 1, stage) for stage in ("refine", "validateQuality", "integration")),
    ],
}
CALLS = {"research-1-0", "research-2-0", "write-1-0", "write-1-1"}  # task, attempt, round
ATTEMPTS = {"research": 2, "write": 1}
TOKENS_PER_CALL = {"input": 12, "output": 34}
ENDS = {"TaskDone", "TaskFailed", "TaskSkipped", "JobDone", "JobFailed"}
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
    """Each task ended once, in the attempt it was to, and nothing of it ran after that."""
    found = []
    for task in PLAN:
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
        if (entry["state"], entry["attempts"]) != ("done", ATTEMPTS[task]):
            found.append(f"{task} is {entry['state']} after {entry['attempts']} attempts")
        if not (job / "tasks" / task / "output.json").is_file():
            found.append(f"{task} has no output.json")
    return found


def _stages(job: Path, traces: list[Any]) -> list[str]:
    """Each stage finished once, and the time it finished is the last time it ran."""
    found = []
    for task, plan in PLAN.items():
        lines = _lines(job / "tasks" / task / "checkpoint.jsonl")
        if [_step(line) for line in lines] != plan:
            found.append(f"{task}: checkpoints are {[_step(line) for line in lines]}")
        for line in lines:
            began = _seconds(line["startedAt"]) - CLOCK_SLACK_SECONDS
            runs = [trace["at"] for trace in traces if (trace["task"], *_step(trace)) == (task, *_step(line))]
            last = [at for at in runs if at >= began]
            if len(last) != 1:
                found.append(f"{task} {_step(line)}: ran {len(runs)} times, {len(last)} of them since it finished")
    return found


def _money(status: Any, data: Path, job_id: str, calls: list[Any], provider: Provider, lost_calls: int) -> list[str]:
    """Each call was paid once and booked once; what the provider got beyond that was in flight."""
    found = []
    sent = Counter(call["key"] for call in calls if call["type"] == "sent")
    paid = Counter(call["key"] for call in calls if call["type"] == "paid")
    models = {call["key"]: call["model"] for call in calls}
    if len(paid) != len(CALLS) or set(paid.values()) != {1} or sent.keys() != paid.keys():
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
    return found + _booked(status, data, job_id, len(paid))


def _booked(status: Any, data: Path, job_id: str, paid: int) -> list[str]:
    """What was paid is what status and history say."""
    booked = {kind: count * paid for kind, count in TOKENS_PER_CALL.items()}
    lines = [line for line in _lines(data / "complete" / "runs.jsonl") if line["id"] == job_id]
    told = (("the status", status["tokens"]), *(("runs.jsonl", line["tokens"]) for line in lines))
    return [f"{where} has booked {tokens}, paid were {booked}" for where, tokens in told if tokens != booked]


def _papers(job: Path, status: Any) -> list[str]:
    """The files of tasks and seed are there, and indexed."""
    wanted = {"attached.csv", *(f"{task}.md" for task in PLAN)}
    there = set(os.listdir(job / "files" / "artifacts"))
    found = [f"artifacts are {sorted(there)}"] if there != wanted else []
    if sorted(status["files"]["artifacts"]) != sorted(wanted):
        found.append(f"artifacts are indexed as {status['files']['artifacts']}")
    return found + [f"left in the job: {name}" for name in ("runner.pid",) if (job / name).exists()]


def places_of(data: Path, job_id: str) -> list[str]:
    """The folder of each entry that is this job's seed or directory; second ones and half moves with their names."""
    prefixes = (f"{job_id}.", f".claiming-{job_id}", f".rejecting-{job_id}")
    return [
        folder if name in {job_id, f"{job_id}-seed.json"} else f"{folder}/{name}"
        for folder in ("pending", "current", "complete", "rejected")
        for name in (os.listdir(data / folder) if (data / folder).is_dir() else ())
        if name in {job_id, f"{job_id}-seed.json"} or name.startswith(prefixes)
    ]


def faults_of_rejection(data: Path, job_id: str, reason: str) -> list[str]:
    """A seed, or a job, that is to be rejected for that reason is so, once, and nothing else is left of it."""
    places = places_of(data, job_id)
    if places != ["rejected"]:
        return [f"is in {places}"]
    rejection = json.loads((data / "rejected" / job_id / "rejection.json").read_bytes())
    return [] if rejection["reason"] == reason else [f"was rejected for {rejection}"]


def faults_of_gated(world: World, job_id: str) -> list[str]:
    """A job with a gate behind its first task went through it once, approved, and ran each task once."""
    return _faults_of_ends(world, job_id, done=("first", "then"))


def faults_of_edited(world: World, job_id: str, told: tuple[int, ...] = (1,)) -> list[str]:
    """A job whose second task was edited while it waited at a gate ran the new code, and told of it so many times."""
    found = _faults_of_ends(world, job_id, done=("first", "then"))
    if found:
        return found
    job = world.workspace.data / "complete" / job_id
    output = json.loads((job / "tasks" / "then" / "output.json").read_bytes())["then"]["content"]
    if output != {"edited": True}:
        found.append(f"the second task put out {output}")
    times = sum(event["type"] == "CodeChanged" for event in _lines(job / "events.jsonl"))
    return found if times in told else [*found, f"told {times} times that its code changed"]


def faults_of_controlled(world: World, job_id: str) -> list[str]:
    """What the first task wanted of its run was done, once: one task left out, one added, which ran in its place."""
    found = _faults_of_ends(world, job_id, done=("plan", "extra", "print"), skipped=("draw",))
    if found:
        return found
    job = world.workspace.data / "complete" / job_id
    tasks = list(json.loads((job / "tasks-status.json").read_bytes())["tasks"])
    if tasks != ["plan", "extra", "draw", "print"]:
        found.append(f"the status has the tasks {tasks}")
    begun = [event["task"] for event in _lines(job / "events.jsonl") if event["type"] == "TaskStarted"]
    if list(dict.fromkeys(begun)) != ["plan", "extra", "print"]:
        found.append(f"tasks began in the order {begun}")
    return found


def _faults_of_ends(world: World, job_id: str, *, done: tuple[str, ...], skipped: tuple[str, ...] = ()) -> list[str]:
    """It is in complete/, each of these tasks ended once, and no other; its run has one line."""
    data = world.workspace.data
    if places_of(data, job_id) != ["complete"]:
        return [f"is in {places_of(data, job_id)}"]
    events = _lines(data / "complete" / job_id / "events.jsonl")
    ends = Counter((event["type"], event.get("task")) for event in events if event["type"] in ENDS)
    once = Counter(
        [*(("TaskDone", task) for task in done), *(("TaskSkipped", task) for task in skipped), ("JobDone", None)]
    )
    found = [] if ends == once else [f"ended {dict(ends)}, not {dict(once)}"]
    runs = [run for run in world.workspace.runs() if run["id"] == job_id]
    return found if len(runs) == 1 else [*found, f"runs.jsonl has {runs}"]


def faults_of_second_run(world: World, job_id: str) -> list[str]:
    """A job that completed and was told to run again has, or was never told; each run has its line."""
    data = world.workspace.data
    runs = [run["pipelineId"] for run in world.workspace.runs() if run["id"] == job_id]
    places = places_of(data, job_id)
    if places != ["complete"]:
        return [f"is in {places}"]
    begun = [event["runId"] for event in _lines(data / "complete" / job_id / "events.jsonl") if "runId" in event]
    return [] if runs == begun and len(set(runs)) == len(runs) <= 2 else [f"began {begun}, runs.jsonl has {runs}"]


@dataclass(frozen=True)
class Before:
    """What was seen of a job until the power was cut, from outside of its workspace."""

    traces: list[Any]
    arrived: Counter[str]
    process_ended: bool
    """Whether its process was told that the run's end is on disk."""

    def confirmed(self) -> list[str]:
        """The tasks that must not run again."""
        begun = [task for task in PLAN if any(line["task"] == task for line in self.traces)]
        return list(PLAN) if self.process_ended else begun[:-1]

    def answered(self) -> set[str]:
        """The calls whose replies the tasks got: task, attempt, round."""
        return {_call(line) for line in self.traces if line["stage"] == "answered"}


def faults_after_a_power_cut(world: World, job_id: str, before: Before) -> list[str]:
    """Every broken promise to a job that is to complete; empty where all were kept."""
    data = world.workspace.data
    job = data / "complete" / job_id
    if not job.is_dir():
        return [f"{job_id} is not in complete/"]
    status = json.loads((job / "tasks-status.json").read_bytes())
    events = _lines(job / "events.jsonl")
    traces = [line for line in _lines(world.executions) if line["job"] == job_id][len(before.traces) :]
    calls = _lines(job / "llm-calls.jsonl")
    with contextlib.suppress(OSError):
        (data / "staging" / job_id).rmdir()  # empty, it may be back
    return [
        *_places(data, job_id),
        *_run(data, job_id, status, events, status["restarts"]),
        *_ends(job, status, events, before, traces),
        *_money_after_a_power_cut(status, data, job_id, calls, before, world.provider),
        *_papers(job, status),
    ]


def _ends(job: Path, status: Any, events: list[Any], before: Before, traces: list[Any]) -> list[str]:
    found = [
        f"{line['task']}: {line['stage']} ran again after the task was confirmed"
        for line in traces
        if line["task"] in before.confirmed()
    ]
    for task in PLAN:
        ends = [event["type"] for event in events if event.get("task") == task and event["type"] == "TaskDone"]
        entry = status["tasks"][task]
        if (len(ends), entry["state"], entry["attempts"]) != (1, "done", ATTEMPTS[task]):
            found.append(f"{task}: {len(ends)} times TaskDone, {entry['state']} after {entry['attempts']} attempts")
        text = json.loads((job / "tasks" / task / "output.json").read_bytes())[task]["content"]["text"]
        artifact = job / "files" / "artifacts" / f"{task}.md"
        if not text or not artifact.is_file() or artifact.read_text() != text:
            found.append(f"{task}: its artifact is not its output {text!r}")
    return found


def _money_after_a_power_cut(
    status: Any, data: Path, job_id: str, calls: list[Any], before: Before, provider: Provider
) -> list[str]:
    paid = Counter(call["key"] for call in calls if call["type"] == "paid")
    models = [call["model"].rpartition("+")[2] for call in calls if call["type"] == "paid"]
    found = [] if sorted(models) == sorted(CALLS) and set(paid.values()) == {1} else [f"paid in the journal: {models}"]
    arrived = Counter(model.rpartition("+")[2] for model in provider.calls(job_id))
    for call in sorted(CALLS):
        most = 1 if call in before.answered() else 1 + before.arrived[call]
        if not 1 <= arrived[call] <= most:
            found.append(f"the provider got {call} {arrived[call]} times; at most {most} can be")
    return found + _booked(status, data, job_id, len(paid))


def _call(line: Any) -> str:
    return f"{line['task']}-{line['attempt']}-{line['round']}"


def _step(line: Any) -> tuple[int, int, str]:
    return line["attempt"], line["round"], line["stage"]


def _lines(path: Path) -> list[Any]:
    """The documents of a JSON-lines file; every line must be whole."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
