"""The daemon's log: structlog's set-up, and the listener that says what happens to jobs, a line an event.

Lines go to one stream, as JSON or as text. Task errors of user code and of providers are named, not quoted: their
messages may hold prompts, and the job's own directory has them in full.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from typing import Any, TextIO

import orjson
import structlog

from pop_actors.config import LoggingSettings
from pop_actors.core import events as e
from pop_actors.core import observations as o

QUIET_LIBRARIES = ("uvicorn", "uvicorn.error", "uvicorn.asgi", "httpx2", "httpcore2", "watchdog", "asyncio", "pykka")
LONGEST_MESSAGE = 300
QUOTED_REASONS = frozenset({"load", "timeout", "budget", "crashed", "control", "stopped"})
_PRIORITIES = {"CRITICAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7}

_log = logging.getLogger("pop_actors")

Line = tuple[int, str, dict[str, Any]]  # level, event, keys


def configure(settings: LoggingSettings, stream: TextIO, journal_stream: str | None = None) -> None:
    """Send every log line of this process to `stream`, in the format and from the level the settings say.

    `journal_stream` is systemd's JOURNAL_STREAM: where it names `stream`, each line begins with its priority (`<3>`).
    """
    before: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(settings.format, stream)]
    formatter = JournalFormatter if _is_the_journal(stream, journal_stream) else structlog.stdlib.ProcessorFormatter
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(foreign_pre_chain=before, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


class JournalFormatter(structlog.stdlib.ProcessorFormatter):
    """Begins every line with its priority, as the journal reads it: `<3>` is an error."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines of a traceback, each with the prefix."""
        prefix = f"<{_PRIORITIES.get(record.levelname, 6)}>"
        return prefix + super().format(record).replace("\n", f"\n{prefix}")


def _renderers(wanted: str, stream: TextIO) -> list[structlog.typing.Processor]:
    if wanted == "json" or (wanted == "auto" and not stream.isatty()):
        return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]


def _json(document: Any, **_: Any) -> str:
    return orjson.dumps(document, default=str, option=orjson.OPT_NON_STR_KEYS).decode("utf-8")


def _is_the_journal(stream: TextIO, journal_stream: str | None) -> bool:
    """Whether `stream` is the very file systemd named as `device:inode`."""
    if not journal_stream:
        return False
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return journal_stream == f"{found.st_dev}:{found.st_ino}"


# What happens to jobs ------------------------------------------------------------------------------------------------


def on_observation(observation: o.Observation) -> None:
    """The feed's listener: a line for what a person watching the service wants to read; details at debug."""
    if isinstance(observation, o.JobChanged):
        level, tell = _EVENTS.get(type(observation.event), (logging.DEBUG, _nothing_more))
        if _log.isEnabledFor(level):
            _write(_job_line(observation, level, tell))
        return
    say = _OBSERVATIONS.get(type(observation))
    if say is not None:
        _write(say(observation))


def _write(line: Line) -> None:
    level, event, keys = line
    _log.log(level, event, extra=keys)


def _job_line(seen: o.JobChanged, level: int, tell: Callable[[Any], dict[str, Any]]) -> Line:
    event = seen.event
    keys = {"job_id": seen.job_id, "run_id": seen.document["pipelineId"], **tell(event)}
    if isinstance(event, e.TaskFailed) and event.optional:
        level = logging.WARNING
    return level, _WORDS.sub(" \\1", type(event).__name__).strip().lower(), keys


def _nothing_more(event: e.Event) -> dict[str, Any]:
    return {key: getattr(event, key) for key in ("task", "stage", "round", "attempt", "ok") if hasattr(event, key)}


def _created(event: e.JobCreated) -> dict[str, Any]:
    return {"pipeline": event.pipeline, "mode": event.mode, "tasks": len(event.tasks)}


def _task_done(event: e.TaskDone) -> dict[str, Any]:
    seconds = round(event.execution_time / 1000, 3)
    return {"task": event.task, "attempt": event.attempt, "seconds": seconds, "refinements": event.refinements}


def _failed(event: e.AttemptFailed | e.TaskFailed | e.JobFailed) -> dict[str, Any]:
    keys: dict[str, Any] = {"task": event.task, "stage": event.stage, "reason": event.reason, "error": event.error.name}
    if event.reason in QUOTED_REASONS:
        keys["detail"] = event.error.message[:LONGEST_MESSAGE]
    if not isinstance(event, e.JobFailed):
        keys["attempt"] = event.attempt
    if isinstance(event, e.AttemptFailed):
        keys["retry_in"] = round(event.retry_in, 3)
    return {key: value for key, value in keys.items() if value}


_WORDS = re.compile(r"([A-Z])")
_EVENTS: dict[type, tuple[int, Callable[[Any], dict[str, Any]]]] = {
    e.JobCreated: (logging.INFO, _created),
    e.JobRestarted: (logging.INFO, lambda event: {"reset": list(event.reset)}),
    e.JobStarted: (logging.INFO, lambda event: {"pid": event.pid, "resumed": event.resumed}),
    e.ProcessDown: (logging.WARNING, lambda event: {"cause": event.cause, "detail": event.detail[:LONGEST_MESSAGE]}),
    e.JobSuspended: (logging.INFO, _nothing_more),
    e.CodeChanged: (
        logging.WARNING,
        lambda event: {"tasks": list(event.tasks), "files": list(event.files), "action": event.action},
    ),
    e.JobWaiting: (
        logging.WARNING,
        lambda event: {"task": event.task, "reason": event.reason, "detail": event.message[:LONGEST_MESSAGE]},
    ),
    e.GateApproved: (logging.INFO, lambda event: {"task": event.task, "note": event.note[:LONGEST_MESSAGE]}),
    e.JobRepaired: (logging.WARNING, lambda event: {"kept": event.kept, "lost": event.lost}),
    e.AttemptFailed: (logging.WARNING, _failed),
    e.TaskDone: (logging.INFO, _task_done),
    e.TaskFailed: (logging.ERROR, _failed),
    e.TaskSkipped: (logging.INFO, lambda event: {"task": event.task, "reason": event.reason[:LONGEST_MESSAGE]}),
    e.JobDone: (logging.INFO, _nothing_more),
    e.JobFailed: (logging.ERROR, _failed),
    e.JobRejected: (logging.WARNING, lambda event: {"task": event.task, "stage": event.stage}),
    e.JobStopped: (logging.INFO, _nothing_more),
}
_OBSERVATIONS: dict[type, Callable[[Any], Line]] = {
    o.SeedTurnedDown: lambda seen: (
        logging.WARNING,
        "seed rejected",
        {"job_id": seen.job_id, "reason": seen.reason, "detail": seen.message[:LONGEST_MESSAGE]},
    ),
    o.SeedIgnored: lambda seen: (logging.WARNING, "not a seed, left alone", {"file": seen.name, "why": seen.why}),
    o.JobOverLimit: lambda seen: (
        logging.WARNING,
        "job over a limit",
        {"job_id": seen.job_id, "resource": seen.resource},
    ),
    o.ActorRestarted: lambda seen: (
        logging.WARNING,
        "actor restarted",
        {"actor": seen.actor, "reason": seen.reason},
    ),
    o.CallRetried: lambda seen: (
        logging.WARNING,
        "provider call retried",
        {"provider": seen.provider, "model": seen.model, "reason": seen.reason},
    ),
    o.CallFellBack: lambda seen: (
        logging.WARNING,
        "provider gave no reply, the next is asked",
        {
            "provider": seen.provider,
            "model": seen.model,
            "reason": seen.reason,
            "next": f"{seen.to_provider}:{seen.to_model}",
        },
    ),
    o.BudgetReached: lambda seen: (
        logging.WARNING if seen.share < 1 else logging.ERROR,
        f"{seen.share:.0%} of a budget is spent" if seen.share < 1 else f"a budget is spent; calls {seen.then}",
        {"scope": seen.scope, "whose": seen.name, "spent": round(seen.spent, 6), "limit": seen.limit},
    ),
    o.CircuitChanged: lambda seen: (
        logging.WARNING,
        "provider circuit opened" if seen.open else "provider circuit closed",
        {"provider": seen.provider, "model": seen.model},
    ),
    o.ModeChanged: lambda seen: (
        logging.INFO,
        "service mode",
        {"rollout": seen.rollout, "claiming": seen.claiming},
    ),
}
