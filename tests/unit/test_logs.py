"""The log: one line an important event, JSON for machines, priorities for the journal, and nothing that is private."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from pop_actors import logs
from pop_actors.config import LoggingSettings
from pop_actors.core import events as e
from pop_actors.core import observations as o
from pop_actors.core.status import fold

AT = "2026-01-02T03:04:05.678Z"
CREATED = e.JobCreated(at=AT, id="job-1", run_id="pl-1", name="n", pipeline="demo", mode="production", tasks=("write",))
DOCUMENT = fold(None, CREATED)
PRIVATE = e.ErrorInfo(name="ValueError", message="the prompt was: tell me a secret")


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def configured(level: str = "info", stream: TextIO | None = None, **more: Any) -> io.StringIO:
    into = io.StringIO()
    settings = LoggingSettings.model_validate({"level": level, "format": more.pop("format", "auto")})
    logs.configure(settings, stream or into, **more)
    return into


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def tell(*events: e.Event) -> None:
    for event in events:
        logs.on_observation(o.JobChanged("job-1", event, DOCUMENT))


def test_the_life_of_a_job_is_a_line_an_event() -> None:
    """Stages are left out; job and run stand in keys of their own."""
    stream = configured()
    tell(
        CREATED,
        e.JobStarted(at=AT, pid=7),
        e.TaskStarted(at=AT, task="write", attempt=1),
        e.StageStarted(at=AT, task="write", stage="parsing"),
        e.StageFinished(at=AT, task="write", stage="parsing"),
        e.TaskDone(at=AT, task="write", attempt=1, execution_time=1500),
        e.JobDone(at=AT),
    )
    found = lines(stream)
    assert [line["event"] for line in found] == ["job created", "job started", "task done", "job done"]
    assert {(line["job_id"], line["run_id"], line["level"]) for line in found} == {("job-1", "pl-1", "info")}
    assert found[2]["seconds"] == 1.5


def test_stages_are_told_at_debug() -> None:
    """Who wants every step can have it."""
    stream = configured("debug")
    tell(e.StageStarted(at=AT, task="write", stage="parsing"))
    assert lines(stream)[0]["event"] == "stage started"
    assert lines(stream)[0]["stage"] == "parsing"


def test_failures_have_their_level() -> None:
    """What will be tried again warns, what will not is an error, what is optional warns."""
    stream = configured()
    failed = {"task": "write", "attempt": 1, "stage": "parsing", "reason": "exception", "error": PRIVATE}
    tell(
        e.AttemptFailed(at=AT, retry_in=2.0, **failed),
        e.TaskFailed(at=AT, **failed),
        e.TaskFailed(at=AT, optional=True, **failed),
        e.JobFailed(at=AT, reason="exception", error=PRIVATE),
    )
    assert [line["level"] for line in lines(stream)] == ["warning", "error", "warning", "error"]


def test_messages_of_user_code_and_providers_are_not_quoted() -> None:
    """They may hold prompts; the error's name and place are enough to find them in the job."""
    stream = configured("debug")
    for reason in ("exception", "provider", "validation", "quality"):
        tell(e.TaskFailed(at=AT, task="write", attempt=1, stage="parsing", reason=reason, error=PRIVATE))
    assert "secret" not in stream.getvalue()
    assert {line["error"] for line in lines(stream)} == {"ValueError"}


def test_messages_of_popd_itself_are_quoted() -> None:
    """A task that did not load says why."""
    stream = configured()
    error = e.ErrorInfo(name="LoadError", message="index.py: no such task")
    tell(e.TaskFailed(at=AT, task="write", attempt=1, stage="load", reason="load", error=error))
    assert lines(stream)[0]["detail"] == "index.py: no such task"


def test_the_service_is_told_of_too() -> None:
    """Rejected seeds, ignored files, restarts and retries are lines that name what they are about."""
    stream = configured()
    for observation in (
        o.SeedTurnedDown("job-1", "invalid_json", "line 1"),
        o.SeedIgnored("notes.txt", "not a seed's name"),
        o.ActorRestarted("gateway", "crashed"),
        o.CallRetried("openai", "gpt", "rate_limited"),
        o.CallFellBack("openai", "gpt", "overloaded", "anthropic", "sonnet"),
        o.BudgetReached("pipeline", "news", 0.8, 4.0, 5.0, "wait"),
        o.BudgetReached("pipeline", "news", 1.0, 5.0, 5.0, "wait"),
        o.CallQueued("openai"),
    ):
        logs.on_observation(observation)
    assert [(line["event"], line["level"]) for line in lines(stream)] == [
        ("seed rejected", "warning"),
        ("not a seed, left alone", "warning"),
        ("actor restarted", "warning"),
        ("provider call retried", "warning"),
        ("provider gave no reply, the next is asked", "warning"),
        ("80% of a budget is spent", "warning"),
        ("a budget is spent; calls wait", "error"),
    ]


def test_lines_of_libraries_look_alike_and_tracebacks_stay_on_their_line() -> None:
    """Whoever logs, a line is one JSON document with time, level and logger."""
    stream = configured()
    try:
        raise ValueError("boom")
    except ValueError:
        logging.getLogger("somebody").exception("it %s", "broke", extra={"job_id": "job-1"})
    logging.getLogger("httpx2").info("HTTP Request: POST https://host/?key=secret")
    (line,) = lines(stream)
    assert (line["event"], line["logger"], line["level"], line["job_id"]) == ("it broke", "somebody", "error", "job-1")
    assert "ValueError: boom" in line["exception"]
    assert line["timestamp"].endswith("Z")


def test_text_is_for_people() -> None:
    """No JSON, no colours where there is no terminal."""
    stream = configured(format="text")
    tell(CREATED)
    assert "job created" in stream.getvalue()
    assert "job_id=job-1" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_the_journal_gets_priorities(tmp_path: Path) -> None:
    """Every line, of a traceback too, begins with its priority; only where the stream is the journal's."""
    with (tmp_path / "log").open("w+", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        configured(stream=stream, format="text", journal_stream=f"{found.st_dev}:{found.st_ino}")
        logging.getLogger("x").error("first\nsecond")
        logging.getLogger("x").warning("third")
        configured(stream=stream, journal_stream="1:2")
        logging.getLogger("x").warning("fourth")
        stream.seek(0)
        written = stream.read().splitlines()
    assert [line[:3] for line in written[:3]] == ["<3>", "<3>", "<4>"]
    assert written[3].startswith("{")
