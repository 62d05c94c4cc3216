"""What a start of the service does before anything else: finish what was half done, and say which jobs go on.

Reads pending/, current/ and the half-built entries of rejected/; of complete/ only the end of runs.jsonl, so that the
past costs nothing. May be killed anywhere and done again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pop_actors.core.events import (
    Event,
    JobCreated,
    JobDone,
    JobFailed,
    JobRejected,
    JobRestarted,
    JobStarted,
    JobStopped,
    event_from,
)
from pop_actors.core.ids import is_job_id, seconds_of
from pop_actors.core.status import fold_all, run_line
from pop_actors.errors import Damaged
from pop_actors.storage.claims import CLAIMING, REJECTING, drop_claimed_name, settle_rejection, undo_claim
from pop_actors.storage.files import readable_json
from pop_actors.storage.finish import FinishedJob, finish_all, reject_job
from pop_actors.storage.jsonl import AppendLog, read_lines
from pop_actors.storage.layout import Workspace
from pop_actors.storage.runner_pid import kill_left_behind

_log = logging.getLogger("pop_actors.recovery")

_TURNS = (JobCreated, JobRestarted, JobStarted, JobDone, JobFailed, JobRejected, JobStopped)
KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class UnfinishedJob:
    """A job in current/: its log, the fold of it, and the highest (epoch, seq) in it."""

    job_id: str
    events: tuple[Event, ...]
    document: dict[str, Any]
    last: tuple[int, int]


@dataclass(slots=True)
class Recovered:
    """What a start found. `damaged`: job id -> why its log cannot be read; such a job is left as it is."""

    unfinished: list[UnfinishedJob] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    damaged: dict[str, str] = field(default_factory=dict)
    killed: list[int] = field(default_factory=list)
    half_claims: list[str] = field(default_factory=list)
    half_rejections: list[str] = field(default_factory=list)


def recover(workspace: Workspace) -> Recovered:
    """`end_processes`, then `settle`, for a start: the caller holds the workspace's lock and has started nothing yet.

    TimeoutError where a process does not die.
    """
    killed = end_processes(workspace)
    found = settle(workspace)
    found.killed += killed
    return found


def end_processes(workspace: Workspace) -> list[int]:
    """Kill the process groups that runner.pid files name and that are still those; when it returns they are dead."""
    found = (kill_left_behind(workspace.job(job_id).runner_pid, KILL_SECONDS) for job_id in _jobs(workspace))
    return [pid for pid in found if pid is not None]


def settle(workspace: Workspace) -> Recovered:
    """Put the workspace in order; jobs may be running, but nobody else claims, rejects or finishes.

    Half claims are seeds in pending/ again, half rejections and finishes are done, torn ends of logs are cut. OSError
    where the disk refuses.
    """
    found = Recovered()
    _settle_halves(workspace, found)
    ended: list[FinishedJob] = []
    for job_id in _jobs(workspace):
        drop_claimed_name(workspace, job_id)
        _settle_job(workspace, job_id, found, ended)
    finish_all(workspace, ended, recovering=True)
    found.finished += [job.job_id for job in ended]
    return found


def read_job(workspace: Workspace, job_id: str) -> UnfinishedJob:
    """A job of current/ from its log. Damaged where that is no job's log."""
    events = read_events(workspace, job_id)
    try:
        document = fold_all(events)
    except (ValueError, KeyError) as error:  # a log that begins in the middle, or names a task the job does not have
        raise Damaged(f"{workspace.job(job_id).events}: does not add up: {error!r}") from None
    if document is None:
        raise Damaged(f"{workspace.job(job_id).events}: is empty")
    return UnfinishedJob(job_id, events, document, max((event.epoch, event.seq) for event in events))


def read_events(workspace: Workspace, job_id: str) -> tuple[Event, ...]:
    """The events of a job in current/, after cutting a torn end off its log. Damaged where it is no job's log."""
    path = workspace.job(job_id).events
    if not path.is_file():
        raise Damaged(f"{path}: no such file")
    AppendLog(path).close()
    return tuple(event_from(document) for _, document in read_lines(path))


def _jobs(workspace: Workspace) -> list[str]:
    return sorted(name for name in os.listdir(workspace.current) if is_job_id(name))


def _settle_halves(workspace: Workspace, found: Recovered) -> None:
    for job_id in _hidden(os.listdir(workspace.current), CLAIMING):
        undo_claim(workspace, job_id)
        found.half_claims.append(job_id)
    for job_id in _hidden(os.listdir(workspace.rejected), REJECTING):
        settle_rejection(workspace, job_id)
        found.half_rejections.append(job_id)


def _hidden(names: list[str], prefix: str) -> Iterator[str]:
    return (name.removeprefix(prefix) for name in sorted(names) if name.startswith(prefix))


def _settle_job(workspace: Workspace, job_id: str, found: Recovered, ended: list[FinishedJob]) -> None:
    """Sort a job of current/ into what its log says it is."""
    try:
        job = read_job(workspace, job_id)
    except Damaged as error:
        _log.error("job %s cannot be read and is left alone: %s", job_id, error)
        found.damaged[job_id] = str(error)
        return
    status = readable_json(job.document)
    turn = next(event for event in reversed(job.events) if isinstance(event, _TURNS))
    if isinstance(turn, JobDone):
        ended.append(FinishedJob(job_id, run_line(job.document, turn.at), status))
    elif isinstance(turn, JobRejected):
        reject_job(workspace, job_id, "quality", turn.message, seconds_of(turn.at), status)
        found.rejected.append(job_id)
    else:
        found.unfinished.append(job)
