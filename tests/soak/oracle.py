"""What must be true when a soak is over, told from the files, the tasks' own traces and the provider's log alone."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from pop_actors.storage.files import TEMPORARY
from tests.soak.plan import Planned
from tests.soak.world import Life, World

CLOCK_SLACK_SECONDS = 0.002  # timestamps have milliseconds, cut
# From a request's arrival to its reply's line in the journal: the slowest script, and a busy machine.
ON_ITS_WAY_SECONDS = 6.0
ENDS = ("TaskDone", "TaskFailed", "TaskSkipped")
MONEY_SLACK = 1e-9


@dataclass(frozen=True)
class Evidence:
    """All that is known, by job."""

    data: Path
    traces: dict[str, list[dict[str, Any]]]
    calls: dict[str, list[dict[str, Any]]]
    runs: dict[str, list[dict[str, Any]]]
    kills: tuple[float, ...]
    orders: Counter[tuple[str, str]]
    """How often popctl was told so of a job: a command whose answer is lost with the daemon is given again."""


def faults_of(world: World, planned: list[Planned]) -> list[str]:
    """Every broken promise; empty where all were kept."""
    data = world.workspace.data
    evidence = Evidence(
        data,
        _by_job(world.traces, lambda line: line["job"]),
        _by_job(world.calls, lambda line: line["prompt"].partition("/")[0]),
        _by_job(data / "complete" / "runs.jsonl", lambda line: line["id"]),
        _kills(world.lives),
        world.orders,
    )
    found = [*_folders(evidence, planned), *_conflicts(evidence, planned)]
    for job in planned:
        found += [f"{job.job_id} ({job.pipeline}): {fault}" for fault in _of_job(evidence, job)]
    known = {job.job_id for job in planned}
    found += [f"the provider was asked for an unknown job {name}" for name in evidence.calls.keys() - known]
    return found


def _kills(lives: list[Life]) -> tuple[float, ...]:
    return tuple(life.ended for life in lives if life.how == "kill")


# The workspace as a whole


def _folders(evidence: Evidence, planned: list[Planned]) -> Iterator[str]:
    """Nothing is in two places, and no half step is left."""
    done = {job.job_id for job in planned if job.outcome == "done"}
    stay = {job.job_id for job in planned if job.outcome in {"error", "stopped"}}
    wanted = {"pending": set(), "staging": set(), "current": stay, "complete": done | {"runs.jsonl"}}
    for folder, names in wanted.items():
        there = set(os.listdir(evidence.data / folder))
        yield from (f"{folder}/ holds {name}, which does not belong there" for name in sorted(there - names))
        yield from (f"{folder}/ does not hold {name}" for name in sorted(names - there))
    turned_down = Counter((job.duplicate_of or job.job_id, job.seed) for job in planned if job.outcome == "rejected")
    folder = evidence.data / "rejected"
    there = Counter((name.partition(".")[0], (folder / name / "seed.json").read_bytes()) for name in os.listdir(folder))
    for (job_id, _), count in (there - turned_down).items():
        yield f"rejected/ holds {job_id} {count} times too often"
    for (job_id, _), count in (turned_down - there).items():
        yield f"rejected/ lacks {job_id} {count} times"
    for place, _, names in os.walk(evidence.data):
        for name in names:
            yield from _of_file(Path(place) / name)


def _of_file(path: Path) -> Iterator[str]:
    if path.name.startswith(".") or TEMPORARY in path.name or path.name.endswith(".new") or path.name == "runner.pid":
        yield f"left over: {path}"
    if path.suffix not in {".json", ".jsonl"} or path.name == "seed.json":
        return
    content = path.read_bytes()
    documents = content.split(b"\n")[:-1] if path.suffix == ".jsonl" else [content]
    if path.suffix == ".jsonl" and content and not content.endswith(b"\n"):
        yield f"{path}: its last line is torn"
    for number, document in enumerate(documents, 1):
        try:
            json.loads(document)
        except ValueError as error:
            yield f"{path}, document {number}: {error}"


def _conflicts(evidence: Evidence, planned: list[Planned]) -> Iterator[str]:
    """Jobs that conflict never ran at the same time, from the first to the last stage that was begun."""
    spans = defaultdict(list)
    for job in planned:
        moments = [line["at"] for line in evidence.traces.get(job.job_id, ())]
        if job.lock is not None and moments:
            spans[job.lock].append((min(moments), max(moments), job.job_id))
    for lock, held in spans.items():
        for (_, ended, first), (began, _, second) in pairwise(sorted(held)):
            if began < ended:
                yield f"{first} and {second} ran at the same time and conflict over {lock}"


# One job


def _of_job(evidence: Evidence, job: Planned) -> Iterator[str]:
    if job.outcome == "rejected":
        yield from _turned_down(evidence, job)
        if job.pipeline == "none":
            return
    folder = _folder(evidence, job)
    if not (folder / "tasks-status.json").is_file():
        yield "has no status where it belongs"
        return
    status = json.loads((folder / "tasks-status.json").read_bytes())
    events = _lines(folder / "events.jsonl")
    traces = evidence.traces.get(job.job_id, [])
    journal = _lines(folder / "llm-calls.jsonl") if (folder / "llm-calls.jsonl").exists() else []
    yield from _end(evidence, job, status, events)
    yield from _tasks(job, status, events, traces)
    yield from _stages(folder, status, traces)
    yield from _money(evidence, job, status, journal)
    yield from _papers(folder, status)


def _folder(evidence: Evidence, job: Planned) -> Path:
    place = {"done": "complete", "error": "current", "stopped": "current", "rejected": "rejected"}[job.outcome]
    return evidence.data / place / job.job_id


def _turned_down(evidence: Evidence, job: Planned) -> Iterator[str]:
    """Its rejection says why, and its bytes are what was dropped."""
    name = job.duplicate_of or job.job_id
    folder = evidence.data / "rejected"
    for place in os.listdir(folder):
        if place.partition(".")[0] == name and (folder / place / "seed.json").read_bytes() == job.seed:
            document = json.loads((folder / place / "rejection.json").read_bytes())
            if (document["reason"], document["jobId"]) != (job.reason, name):
                yield f"was rejected as {document['jobId']} for {document['reason']}, not {job.reason}"
            return
    yield "is not in rejected/ with the bytes that were dropped"


def _end(evidence: Evidence, job: Planned, status: Any, events: list[Any]) -> Iterator[str]:
    """It ended once, as planned, and a run that was completed stands in runs.jsonl once."""
    kinds = Counter(event["type"] for event in events)
    for kind, (least, most) in _turns(job, evidence.orders).items():
        if not least <= kinds[kind] <= most:
            yield f"{kinds[kind]} times {kind} in events.jsonl, not {least} to {most}"
    begun = [event["runId"] for event in events if "runId" in event]
    complete = list(_complete_runs(events))
    runs = [line["pipelineId"] for line in evidence.runs.get(job.job_id, ())]
    if runs != complete or begun[-1:] != [status["pipelineId"]]:
        yield f"runs.jsonl has {runs}, complete are {complete}, the run is {status['pipelineId']}"
    state = "error" if job.outcome == "rejected" else job.outcome
    if status["state"] != state:
        yield f"the status says {status['state']}, not {state}"
    reason = (status["error"] or {}).get("reason")
    if reason != (job.reason if state == "error" else None):
        yield f"the status gives the reason {reason}, not {job.reason}: {status['error']}"
    down = sum(event["type"] == "ProcessDown" for event in _last_run(events))
    if status["restarts"] != down:
        yield f"restarts is {status['restarts']}, its process went down {down} times in that run"
    if status["restarts"] < job.crashes - _kills_while_it_ran(evidence, job):
        yield f"restarts is {status['restarts']}, it crashes {job.crashes} times by itself"
    if job.depends_on is not None:
        yield from _dependency(evidence, job)


def _kills_while_it_ran(evidence: Evidence, job: Planned) -> int:
    """A start that was not on disk when the daemon was killed is no start to the next one."""
    moments = [line["at"] for line in evidence.traces.get(job.job_id, ())]
    return sum(min(moments) <= kill <= max(moments) for kill in evidence.kills) if moments else 0


def _turns(job: Planned, orders: Counter[tuple[str, str]]) -> dict[str, tuple[int, int]]:
    """How often each of these has happened to a job, at least and at most, when all is over."""
    last = {"done": "JobDone", "error": "JobFailed", "rejected": "JobRejected", "stopped": "JobStopped"}[job.outcome]
    kinds = ("JobCreated", "JobDone", "JobFailed", "JobRejected", "JobRestarted", "JobStopped", "GateApproved")
    once = {kind: (int(kind in {"JobCreated", last}),) * 2 for kind in kinds}
    restarts, stops = orders[job.job_id, "restart"], orders[job.job_id, "stop"]
    more = {
        "again": {"JobRestarted": (1, restarts), "JobDone": (2, 1 + restarts)},
        "halt": {"JobStopped": (1, stops), "JobRestarted": (1, restarts), "JobDone": (1, restarts)},
        "approve": {"GateApproved": (1, 1)},
    }
    return once | more.get(str(job.order), {})


def _complete_runs(events: list[Any]) -> Iterator[str]:
    run = ""
    for event in events:
        run = event.get("runId", run)
        if event["type"] == "JobDone":
            yield run


def _last_run(events: list[Any]) -> list[Any]:
    begun = [at for at, event in enumerate(events) if event["type"] == "JobRestarted"]
    return events[begun[-1] :] if begun else events


def _dependency(evidence: Evidence, job: Planned) -> Iterator[str]:
    begun = [line["at"] for line in evidence.traces.get(job.job_id, ())]
    ends = [_seconds(line["finishedAt"]) for line in evidence.runs.get(str(job.depends_on), ())]
    if begun and ends and min(begun) + CLOCK_SLACK_SECONDS < min(ends):
        yield f"began before {job.depends_on}, on which it depends, was done"


def _tasks(job: Planned, status: Any, events: list[Any], traces: list[Any]) -> Iterator[str]:
    """Each task ended once at most, took the attempts it takes, and nothing of it ran after its end; in the last run.

    The tasks are those of the plan, with what was added to them."""
    if job.pipeline == "controlled" and list(status["tasks"]) != ["plan", "extra", "more", "draw", "print"]:
        yield f"the tasks are {list(status['tasks'])}"
    events = _last_run(events)
    for task, entry in status["tasks"].items():
        own = [event for event in events if event.get("task") == task and not event["type"].startswith("Job")]
        ends = [number for number, event in enumerate(own) if event["type"] in ENDS]
        if len(ends) > 1 or (job.outcome == "done" and len(ends) != 1):
            yield f"{task} ended {len(ends)} times"
            continue
        if ends:
            ended = _seconds(own[ends[0]]["at"]) + CLOCK_SLACK_SECONDS
            late = [line["stage"] for line in traces if line["task"] == task and line["at"] > ended]
            yield from (f"{task}: {stage} ran after the task's end" for stage in late)
            again = {event["type"] for event in own[ends[0] :]} & {"TaskStarted", "StageStarted"}
            yield from (f"{task}: {kind} after the task's end" for kind in again)
        wanted = job.attempts.get(task)
        if wanted is None:
            continue
        least = 0 if job.outcome == "stopped" else wanted  # it may have been stopped before that task began
        if not least <= entry["attempts"] <= wanted:
            yield f"{task} took {entry['attempts']} attempts, not {wanted}"


def _stages(folder: Path, status: Any, traces: list[Any]) -> Iterator[str]:
    """A finished stage finished once, and the time it finished is the last time it ran."""
    for task in status["tasks"]:
        path = folder / "tasks" / task / "checkpoint.jsonl"
        lines = [line for line in _lines(path) if line["runId"] == status["pipelineId"]] if path.exists() else []
        places = Counter((line["attempt"], line["stage"], line["round"]) for line in lines)
        yield from (f"{task}: {count} checkpoints of {place}" for place, count in places.items() if count > 1)
        for line in lines:
            place = (task, line["attempt"], line["stage"], line["round"])
            began = _seconds(line["startedAt"]) - CLOCK_SLACK_SECONDS
            runs = [t["at"] for t in traces if (t["task"], t["attempt"], t["stage"], t["round"]) == place]
            if runs and sum(at >= began for at in runs) != 1:
                yield f"{task}: {place} ran {sum(at >= began for at in runs)} times from when it finished"


def _money(evidence: Evidence, job: Planned, status: Any, journal: list[Any]) -> Iterator[str]:
    """What was paid is booked once and is never bought again; the provider was asked for nothing else."""
    settled: Counter[str] = Counter()
    for line in journal:
        if line["type"] == "sent" and settled[line["key"]]:
            yield f"{_place_in_journal(line)} was bought again after it was paid"
        settled[line["key"]] += "usage" in line
    yield from (f"{key} was paid {count} times" for key, count in settled.items() if count > 1)
    bills = [line for line in journal if "usage" in line]
    tokens = {kind: sum(bill["usage"][f"{kind}Tokens"] for bill in bills) for kind in ("input", "output")}
    cost = sum(bill["costUsd"] or 0.0 for bill in bills)
    for where, booked in (("the status", status), *(("runs.jsonl", run) for run in evidence.runs.get(job.job_id, ()))):
        if booked["tokens"] != tokens or abs(booked["costUsd"] - cost) > MONEY_SLACK:
            yield f"{where} has booked {booked['tokens']}, {booked['costUsd']}; paid were {tokens}, {cost}"
    used = [usage for task in status["tasks"].values() for usage in task["tokenUsage"]]
    if {"input": sum(usage[1] for usage in used), "output": sum(usage[2] for usage in used)} != tokens:
        yield f"the tasks' tokenUsage {used} is not what was paid: {tokens}"
    yield from _bought(evidence, job, journal)


def _bought(evidence: Evidence, job: Planned, journal: list[Any]) -> Iterator[str]:
    """The provider's own account, place by place. A reply too many must have been on its way when the daemon was
    killed, or have come too late for the patience of who asked."""
    sent = Counter(_place_in_journal(line) for line in journal if line["type"] == "sent")
    paid = Counter(_place_in_journal(line) for line in journal if "usage" in line)
    failed = (line for line in journal if line["type"] == "failed" and "usage" not in line)
    timed_out = Counter(_place_in_journal(line) for line in failed if line["error"]["code"] == "timeout")
    arrived: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in evidence.calls.get(job.job_id, ()):
        arrived[_place_of(call)].append(call)
    for place in sorted(arrived.keys() | sent.keys()):
        calls = arrived[place]
        if len(calls) > sent[place]:
            yield f"{place}: the provider got {len(calls)} requests, the journal sent {sent[place]}"
        replies = [call["at"] for call in calls if call["answer"] in {"ok", "truncated", "blocked", "emptytext"}]
        surplus = len(replies) - paid[place]
        excused = sum(any(at <= kill <= at + ON_ITS_WAY_SECONDS for kill in evidence.kills) for at in replies)
        if surplus > excused + timed_out[place]:
            yield f"{place}: {len(replies)} replies came, {paid[place]} were paid, {excused} can have been lost"
        if surplus < 0:
            yield f"{place}: {paid[place]} replies were paid, {len(replies)} came"


def _place_in_journal(line: dict[str, Any]) -> str:
    return "/".join(str(line[key]) for key in ("task", "attempt", "stage", "round"))


def _place_of(call: dict[str, Any]) -> str:
    """task/attempt/stage/round of `job/task/attempt/stage/round/number a question`."""
    return "/".join(call["prompt"].split(" ")[0].split("/")[1:5])


def _papers(folder: Path, status: Any) -> Iterator[str]:
    """What lies under files/ is what the status lists. A log that is empty says nothing."""
    for kind, listed in status["files"].items():
        place = folder / "files" / kind
        there = {path.name for path in place.iterdir() if path.stat().st_size} if place.is_dir() else set()
        if there != set(listed):
            yield f"files/{kind} holds {sorted(there)}, the status lists {sorted(listed)}"


def _by_job(path: Path, job_of: Any) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in _lines(path) if path.exists() else []:
        found[job_of(line)].append(line)
    return found


def _lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _seconds(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()
