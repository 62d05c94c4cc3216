"""From what is observed to the spans of a trace: one trace per run; task, stage, wait and call within it. Pure.

Nothing is remembered between two observations. A run's names give the trace and the span their ids, so that a stage's
calls find their stage before it has ended, and a run that outlives its daemon stays one trace.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from pop_actors.core import events as e
from pop_actors.core import observations as o
from pop_actors.core.ids import seconds_of
from pop_actors.telemetry.gen_ai import CHAT, error_type, provider_name

_RUN_BEGAN = re.compile(r"pl-(\d{4}-\d\d-\d\dT\d\d)-(\d\d)-(\d\d)-(\d{3})Z-")

_Value = str | int | float | bool | tuple[str, ...]
_Said = dict[str, _Value]


@dataclass(frozen=True, slots=True)
class Span:
    """`begin` and `end` are seconds since the epoch. `id` None: any free one; `parent` None: it is the trace's root.

    `error`: what went wrong, in a few words; None: it went well. `is_call`: somebody else did the work.
    """

    trace: int
    id: int | None
    parent: int | None
    name: str
    begin: float
    end: float
    attributes: Mapping[str, _Value] = field(default_factory=dict)
    error: str | None = None
    is_call: bool = False


def trace_id(run_id: str) -> int:
    """The 128 bits that name the trace of a run."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:16])


def span_id(run_id: str, *place: object) -> int:
    """The 64 bits that name the span of the run (no place), of a task, or of a stage of an attempt's round."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, (run_id, *place))).encode()).digest()[-8:])


def spans_of(seen: o.Observation, now: float) -> Iterator[Span]:
    """The spans that are known to be over with this observation; `now` is seconds since the epoch."""
    match seen:
        case o.JobChanged(event=e.StageFinished() as stage):
            yield _stage(seen, stage)
        case o.JobChanged(event=e.TaskDone() | e.TaskFailed() as task):
            yield _task(seen, task)
        case o.JobChanged(event=e.JobDone() | e.JobFailed() | e.JobRejected() | e.JobStopped() as end):
            yield _run(seen, end)
        case o.CallAdmitted(place=o.CallPlace() as place):
            yield _wait(seen, place, now)
        case o.CallEnded(place=o.CallPlace() as place):
            yield _call(seen, place, now)


def _run(seen: o.JobChanged, event: e.JobDone | e.JobFailed | e.JobRejected | e.JobStopped) -> Span:
    document = seen.document
    run_id = document["pipelineId"]
    tokens = document["tokens"]
    said: _Said = {
        "pop.state": document["state"],
        "pop.restarts": document["restarts"],
        "pop.cost_usd": document["costUsd"],
        "gen_ai.usage.input_tokens": tokens["input"],
        "gen_ai.usage.output_tokens": tokens["output"],
    }
    return Span(
        trace_id(run_id),
        span_id(run_id),
        None,
        document["pipeline"],
        _run_began(document),
        seconds_of(event.at),
        _named(document) | said,
        _END_ERRORS[type(event)](event),
    )


_END_ERRORS: Mapping[type, Callable[[Any], str | None]] = MappingProxyType(
    {
        e.JobDone: lambda _: None,
        e.JobFailed: lambda event: f"{event.reason}: {event.error.name}",
        e.JobRejected: lambda _: "rejected",
        e.JobStopped: lambda _: "stopped",
    }
)


def _task(seen: o.JobChanged, event: e.TaskDone | e.TaskFailed) -> Span:
    document = seen.document
    run_id = document["pipelineId"]
    end = seconds_of(event.at)
    began = document["tasks"].get(event.task, {}).get("startedAt")
    error = f"{event.reason}: {event.error.name}" if isinstance(event, e.TaskFailed) else None
    said: _Said = {"pop.task": event.task, "pop.attempts": event.attempt, "pop.refinements": event.refinements}
    return Span(
        trace_id(run_id),
        span_id(run_id, event.task),
        span_id(run_id),
        event.task,
        end - event.execution_time / 1000 if began is None else min(end, seconds_of(began)),
        end,
        _named(document) | said,
        error,
    )


def _stage(seen: o.JobChanged, event: e.StageFinished) -> Span:
    run_id = seen.document["pipelineId"]
    end = seconds_of(event.at)
    said: _Said = {
        "pop.task": event.task,
        "pop.stage": event.stage,
        "pop.attempt": event.attempt,
        "pop.round": event.round,
    }
    return Span(
        trace_id(run_id),
        span_id(run_id, event.task, event.attempt, event.stage, event.round),
        span_id(run_id, event.task),
        event.stage,
        end - event.ms / 1000,
        end,
        _named(seen.document) | said,
        None if event.ok else "failed",
    )


def _wait(seen: o.CallAdmitted, place: o.CallPlace, now: float) -> Span:
    return Span(
        trace_id(place.run_id),
        None,
        _stage_of(place),
        f"wait {seen.provider}",
        now - seen.waited,
        now,
        {"pop.job_id": place.job_id, "gen_ai.provider.name": provider_name(seen.provider)},
        None if seen.granted else "left without a permit",
    )


def _call(seen: o.CallEnded, place: o.CallPlace, now: float) -> Span:
    said: _Said = {
        "pop.job_id": place.job_id,
        "pop.provider": seen.provider,
        "pop.retries": seen.retries,
        "gen_ai.operation.name": CHAT,
        "gen_ai.provider.name": provider_name(seen.provider),
        "gen_ai.request.model": seen.model,
        "gen_ai.usage.input_tokens": seen.input_tokens,
        "gen_ai.usage.output_tokens": seen.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": seen.cached_tokens,
        "gen_ai.usage.cache_creation.input_tokens": seen.cache_write_tokens,
        "gen_ai.usage.reasoning.output_tokens": seen.reasoning_tokens,
    }
    if seen.wrote:
        said["gen_ai.response.model"] = seen.wrote
    if seen.finish_reason:
        said["gen_ai.response.finish_reasons"] = (seen.finish_reason,)
    error = error_type(seen.outcome)
    if seen.cost_usd is not None:
        said["pop.cost_usd"] = seen.cost_usd
    if error:
        said["error.type"] = error
    return Span(
        trace_id(place.run_id),
        None,
        _stage_of(place),
        f"{CHAT} {seen.model}",
        now - seen.seconds,
        now,
        said,
        error or None,
        is_call=True,
    )


def _stage_of(place: o.CallPlace) -> int:
    return span_id(place.run_id, place.task, place.attempt, place.stage, place.round)


def _named(document: Mapping[str, Any]) -> _Said:
    return {
        "pop.job_id": document["id"],
        "pop.run_id": document["pipelineId"],
        "pop.pipeline": document["pipeline"],
        "pop.mode": document["mode"],
    }


def _run_began(document: Mapping[str, Any]) -> float:
    """As its id says: a job that is restarted begins a new run."""
    found = _RUN_BEGAN.match(document["pipelineId"])
    if found is None:
        return seconds_of(document["createdAt"])
    day_and_hour, minute, second, thousandth = found.groups()
    return seconds_of(f"{day_and_hour}:{minute}:{second}.{thousandth}Z")
