"""Spans of runs: what each observation says of them, and that they find one another by their ids."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.config import TelemetrySettings
from pop_actors.core import events as e
from pop_actors.core import observations as o
from pop_actors.core.ids import run_id, seconds_of
from pop_actors.errors import SettingsError
from pop_actors.telemetry.spans import Span, span_id, spans_of, trace_id
from pop_actors.telemetry.traces import NEEDED, address, check

BEGAN = "2026-01-02T03:04:05.678Z"
STARTED = "2026-01-02T03:04:06.000Z"
ENDED = "2026-01-02T03:04:09.000Z"
NOW = seconds_of(ENDED)
RUN = run_id(seconds_of(BEGAN), "0d57ec")
DOCUMENT = {
    "id": "job-1", "pipelineId": RUN, "pipeline": "demo", "mode": "production", "state": "done", "restarts": 1,
    "createdAt": "2025-12-24T00:00:00.000Z", "costUsd": 0.5, "tokens": {"input": 7, "output": 3},
    "tasks": {"write": {"startedAt": STARTED}},
}  # fmt: skip
PLACE = o.CallPlace("job-1", RUN, "write", 2, "refine", 1)
ERROR = e.ErrorInfo(name="ValueError", message="what the prompt said")


def span_of(seen: o.Observation) -> Span:
    (span,) = spans_of(seen, NOW)
    return span


def changed(event: e.Event, **document: Any) -> o.JobChanged:
    return o.JobChanged("job-1", event, DOCUMENT | document)


def test_a_run_is_the_root_and_begins_when_its_id_says() -> None:
    """A job that is restarted begins a new run, and a trace of its own, long after the job was created."""
    span = span_of(changed(e.JobDone(at=ENDED)))
    assert (span.trace, span.id, span.parent, span.name) == (trace_id(RUN), span_id(RUN), None, "demo")
    assert (span.begin, span.end, span.error) == (seconds_of(BEGAN), NOW, None)
    assert span.attributes["pop.job_id"] == "job-1"
    assert span.attributes["gen_ai.usage.input_tokens"] == 7
    other = span_of(changed(e.JobDone(at=ENDED), pipelineId="of another form"))
    assert other.begin == seconds_of(DOCUMENT["createdAt"])


def test_task_stage_and_call_lie_in_one_another() -> None:
    """Each names the span above it, which may not have ended yet."""
    run = span_of(changed(e.JobDone(at=ENDED)))
    task = span_of(changed(e.TaskDone(at=ENDED, task="write", attempt=2, execution_time=2500, refinements=1)))
    stage = span_of(changed(e.StageFinished(at=ENDED, task="write", stage="refine", round=1, attempt=2, ms=1500)))
    wait = span_of(o.CallAdmitted("gemini", 0.5, granted=True, place=PLACE))
    call = span_of(o.CallEnded("job-1", "gemini", "flash", "ok", 1.25, 70, 5, 30, 2, 0.25, 9, 3, PLACE))
    assert [span.trace for span in (task, stage, wait, call)] == [run.trace] * 4
    assert [span.parent for span in (task, stage, wait, call)] == [run.id, task.id, stage.id, stage.id]
    assert (task.begin, stage.begin, wait.begin, call.begin) == (
        seconds_of(STARTED), NOW - 1.5, NOW - 0.5, NOW - 1.25,
    )  # fmt: skip
    assert (call.name, call.is_call, stage.is_call) == ("chat flash", True, False)


def test_a_call_is_told_in_the_words_of_the_conventions() -> None:
    """Tools that know no other words show its model, its tokens and its error."""
    call = span_of(o.CallEnded("job-1", "gemini", "flash", "rate_limited", 1.25, 70, 5, 30, 2, None, 9, 3, PLACE))
    said = {name: value for name, value in call.attributes.items() if not name.startswith("pop.")}
    assert said == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.request.model": "flash",
        "gen_ai.usage.input_tokens": 70,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_creation.input_tokens": 9,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "error.type": "rate_limited",
    }
    assert "pop.cost_usd" not in call.attributes, "a price nobody knows is not 0"
    assert call.error == "rate_limited"


def test_a_reply_says_who_wrote_it_and_how_it_ended() -> None:
    """As far as the provider tells; the conventions have a list of endings."""
    seen = o.CallEnded("job-1", "gemini", "flash", "ok", 1.0, place=PLACE, finish_reason="stop", wrote="flash-001")
    said = span_of(seen).attributes
    assert (said["gen_ai.response.model"], said["gen_ai.response.finish_reasons"]) == ("flash-001", ("stop",))


@pytest.mark.parametrize(
    ("seen", "error"),
    [
        (changed(e.JobFailed(at=ENDED, reason="timeout", error=ERROR)), "timeout: ValueError"),
        (changed(e.JobRejected(at=ENDED, task="write", stage="refine", message="poor")), "rejected"),
        (changed(e.JobStopped(at=ENDED)), "stopped"),
        (
            changed(e.TaskFailed(at=ENDED, task="write", attempt=3, stage="refine", reason="quality", error=ERROR)),
            "quality: ValueError",
        ),
        (changed(e.StageFinished(at=ENDED, task="write", stage="refine", ok=False)), "failed"),
        (o.CallAdmitted("gemini", 0.5, granted=False, place=PLACE), "left without a permit"),
    ],
)
def test_what_went_wrong_is_said_without_what_was_said(seen: o.Observation, error: str) -> None:
    """Kinds of failures; never a message, which may quote a prompt."""
    assert span_of(seen).error == error


@pytest.mark.parametrize(
    "seen",
    [
        changed(e.StageStarted(at=ENDED, task="write", stage="refine")),
        changed(e.JobSuspended(at=ENDED)),
        o.CallAdmitted("gemini", 0.5, granted=True),
        o.CallEnded("job-1", "gemini", "flash", "ok", 1.0),
        o.SeedSeen("job-1"),
    ],
)
def test_what_has_not_ended_or_has_no_place_is_no_span(seen: o.Observation) -> None:
    """A span is made when it is over, of a run alone."""
    assert list(spans_of(seen, NOW)) == []


@given(st.text(), st.lists(st.tuples(st.text(), st.integers(1, 9), st.text(), st.integers(0, 9)), unique=True))
def test_every_place_of_a_run_has_an_id_of_its_own(run: str, places: list[tuple[object, ...]]) -> None:
    """Ids that are valid to OpenTelemetry, the same whenever they are asked for."""
    ids = [span_id(run, *place) for place in places]
    assert ids == [span_id(run, *place) for place in places]
    assert all(0 < each < 2**64 for each in ids)
    assert 0 < trace_id(run) < 2**128


@pytest.mark.parametrize(
    ("endpoint", "posted_to"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/traces"),
        ("https://api.smith.langchain.com/otel/v1/traces", "https://api.smith.langchain.com/otel/v1/traces"),
    ],
)
def test_spans_are_posted_where_collectors_take_them(endpoint: str, posted_to: str) -> None:
    """At OTLP's own path, unless another is named."""
    assert address(endpoint) == posted_to


@pytest.mark.parametrize("missing", NEEDED)
def test_traces_that_are_wanted_and_cannot_be_sent_stop_the_start(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install; who wants none needs nothing."""
    monkeypatch.setitem(sys.modules, missing, None)
    check(TelemetrySettings())
    with pytest.raises(SettingsError, match=r"pip install 'pop-actors\[otel\]'"):
        check(TelemetrySettings(otlp_endpoint="http://127.0.0.1:4318"))
