"""What a run cost: a status document added up, task by task. Pure."""

from __future__ import annotations

from typing import Any


def report_of(document: dict[str, Any]) -> dict[str, Any]:
    """{id, pipelineId, pipeline, state, startedAt, endedAt, tasks: […], total: {…}, unpricedCalls}; times in ms."""
    tasks = [_task(name, task) for name, task in document["tasks"].items()]
    states = document["tasks"].values()
    return {
        "id": document["id"],
        "pipelineId": document["pipelineId"],
        "pipeline": document["pipeline"],
        "state": document["state"],
        "startedAt": min((task["startedAt"] for task in states if task.get("startedAt")), default=None),
        "endedAt": max((task["endedAt"] for task in states if task.get("endedAt")), default=None),
        "tasks": tasks,
        "total": {
            "attempts": sum(task["attempts"] for task in tasks),
            "executionTime": round(sum(task["executionTime"] for task in tasks), 3),
            "calls": sum(task["calls"] for task in tasks),
            "tokens": document.get("tokens", {"input": 0, "output": 0}),
            "costUsd": document["costUsd"],
        },
        "unpricedCalls": sum(task["unpricedCalls"] for task in tasks),
    }


def _task(name: str, task: dict[str, Any]) -> dict[str, Any]:
    usage = task.get("tokenUsage", [])
    return {
        "name": name,
        "state": task["state"],
        "attempts": task.get("attempts", 0),
        "refinements": task.get("refinementAttempts", 0),
        "executionTime": task.get("executionTime") or 0.0,
        "calls": len(usage),
        "tokens": {"input": sum(call[1] for call in usage), "output": sum(call[2] for call in usage)},
        "costUsd": round(sum(call[3] or 0.0 for call in usage), 10),
        "unpricedCalls": sum(call[3] is None for call in usage),
        "models": sorted({call[0] for call in usage}),
    }
