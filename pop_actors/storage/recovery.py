"""What a start of the service does before anything else: finish what was half done, and say which jobs go on.

Reads pending/, current/ and the half-built entries of rejected/; of complete/ only the end of runs.jsonl, so that the
past costs nothing. May be killed anywhere and done again. No job's damage stops it, or touches another job.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
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
    event_document,
    reached_by,
)
from pop_actors.core.ids import is_job_id, seconds_of
from pop_actors.core.known_status import end_it_knows
from pop_actors.core.status import fold, fold_all, run_line
from pop_actors.errors import Damaged, StorageError
from pop_actors.storage.claims import (
    CLAIMING,
    REJECTING,
    drop_attached_names,
    drop_claimed_name,
    settle_rejection,
    undo_claim,
)
from pop_actors.storage.damage import cut, keep_copy, mend_end
from pop_actors.storage.files import drop_temporaries, readable_json
from pop_actors.storage.finish import FinishedJob, finish_all, reject_job
from pop_actors.storage.job_log import read_log
from pop_actors.storage.jsonl import AppendLog
from pop_actors.storage.layout import Workspace
from pop_actors.storage.left_behind import end_marked, mark_of
from pop_actors.storage.runner_pid import kill_left_behind
from pop_actors.storage.set_aside import SetAside, set_aside, status_on_disk

_log = logging.getLogger("pop_actors.recovery")

_TURNS = (JobCreated, JobRestarted, JobStarted, JobDone, JobFailed, JobRejected, JobStopped)
KILL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class UnfinishedJob:
    """A job in current/: its log, the fold of it, and the highest (epoch, seq) it has reached.

    `status_is_stale`: tasks-status.json is not that fold, byte for byte. `is_rejected`: it is to leave for rejected/.
    """

    job_id: str
    events: tuple[Event, ...]
    document: dict[str, Any]
    last: tuple[int, int]
    status_is_stale: bool = False

    @property
    def turn(self) -> Event:
        """The last event that says whether the job goes on."""
        return next(event for event in reversed(self.events) if isinstance(event, _TURNS))

    @property
    def is_rejected(self) -> bool:
        return isinstance(self.turn, JobRejected)


@dataclass(slots=True)
class Recovered:
    """What a start found. `damaged`: jobs that cannot be used and are left as they are, by id. `unfinished` also has
    those that are over and could not be moved away yet."""

    unfinished: list[UnfinishedJob] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    damaged: dict[str, SetAside] = field(default_factory=dict)
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
    """Kill the process groups that runner.pid files name and that are still those, and what has fled from them; when it
    returns they are dead."""
    found = (_end_process(workspace, job_id) for job_id in _jobs(workspace))
    return [*(pid for pid in found if pid is not None), *end_marked(workspace, KILL_SECONDS)]


def settle(workspace: Workspace) -> Recovered:
    """Put the workspace in order; jobs may be running, but nobody else claims, rejects or finishes.

    Half claims are seeds in pending/ again, half rejections and finishes are done, torn ends of logs are cut. OSError
    where a folder of the workspace cannot be read at all.
    """
    found = Recovered()
    drop_temporaries(workspace.data)
    _settle_halves(workspace, found)
    ended: list[UnfinishedJob] = []
    for job_id in _jobs(workspace):
        try:
            drop_claimed_name(workspace, job_id)
            drop_temporaries(workspace.job(job_id).path)
            _settle_job(workspace, job_id, found, ended)
        except Exception as error:  # noqa: BLE001  (whatever is wrong with one job, the service starts with the others)
            found.damaged[job_id] = set_aside(workspace, job_id, error)
            _log.error("job %s is set aside: %s", job_id, found.damaged[job_id].message)
    _finish(workspace, ended, found)
    return found


def read_job(workspace: Workspace, job_id: str) -> UnfinishedJob:
    """A job of current/ from its log. Damaged where that is no job's log, or another's; FormatRefused where it is of a
    newer version."""
    path = workspace.job(job_id).events
    events = read_events(workspace, job_id)
    try:
        document = fold_all(events)
    except (ValueError, KeyError) as error:  # a log that begins in the middle, or names a task the job does not have
        raise Damaged(f"{path}: does not add up: {error!r}") from None
    if document is None:
        raise Damaged(f"{path}: is empty")
    if document["id"] != job_id:
        raise Damaged(f"{path}: is the log of job {document['id']}; a copy of a job's folder is no job, move it away")
    return UnfinishedJob(job_id, events, document, max(map(reached_by, events)))


def read_events(workspace: Workspace, job_id: str) -> tuple[Event, ...]:
    """The events of a job in current/, after its log was given a whole end. Damaged where a line is broken and whole
    ones follow, or none is whole; where only the end is broken it is cut, and a copy kept of what was not merely torn.
    """
    path = workspace.job(job_id).events
    if not path.is_file():
        raise Damaged(f"{path}: no such file")
    content = path.read_bytes()
    reading = read_log(content)
    if reading.is_whole and reading.events:
        return reading.events
    if not reading.events:
        raise Damaged(f"{path}: {f'line {reading.line}: {reading.fault}' if reading.fault else 'is empty'}")
    if reading.is_broken_inside:
        raise Damaged(f"{path}, line {reading.line}: {reading.fault}; {len(reading.later)} whole lines follow")
    if b"\n" not in content[reading.sound :]:
        _tell(workspace, job_id, mend_end(path))
        return read_log(path.read_bytes()).events
    copy = keep_copy(path)
    cut(path, reading.sound)
    _tell(workspace, job_id, f"{reading.lost} broken lines at its end were cut; they stand in {copy.name}")
    return reading.events


def _tell(workspace: Workspace, job_id: str, what: str | None) -> None:
    if what is not None:
        _log.warning("%s: %s", workspace.job(job_id).events, what)


def _jobs(workspace: Workspace) -> list[str]:
    return sorted(name for name in os.listdir(workspace.current) if is_job_id(name))


def _end_process(workspace: Workspace, job_id: str) -> int | None:
    path = workspace.job(job_id).runner_pid
    try:
        return kill_left_behind(path, mark_of(workspace), KILL_SECONDS)
    except TimeoutError:
        raise
    except OSError as error:
        _log.error("%s cannot be read (%s); whether a process was left behind is not known", path, error)
        return None


def _settle_halves(workspace: Workspace, found: Recovered) -> None:
    for job_id in _hidden(os.listdir(workspace.current), CLAIMING):
        if _is_settled(undo_claim, workspace, job_id):
            found.half_claims.append(job_id)
    for job_id in _hidden(os.listdir(workspace.rejected), REJECTING):
        if _is_settled(settle_rejection, workspace, job_id):
            found.half_rejections.append(job_id)
    for job_id in filter(is_job_id, os.listdir(workspace.staging)):
        _is_settled(drop_attached_names, workspace, job_id)


def _is_settled(put_right: Callable[[Workspace, str], object], workspace: Workspace, job_id: str) -> bool:
    try:
        put_right(workspace, job_id)
    except (OSError, StorageError) as error:
        _log.error("what is half done of %s stays so until the next start: %s", job_id, error)
        return False
    return True


def _hidden(names: list[str], prefix: str) -> Iterator[str]:
    return (name.removeprefix(prefix) for name in sorted(names) if name.startswith(prefix))


def _settle_job(workspace: Workspace, job_id: str, found: Recovered, ended: list[UnfinishedJob]) -> None:
    """Sort a job of current/ into what its log says it is."""
    job = _with_status(workspace, read_job(workspace, job_id))
    if isinstance(job.turn, JobDone):
        ended.append(job)
    elif isinstance(job.turn, JobRejected):
        status = readable_json(job.document)
        try:
            reject_job(workspace, job_id, "quality", job.turn.message, seconds_of(job.turn.at), status)
        except OSError as error:
            _keep_for_later(job, found, error)
        else:
            found.rejected.append(job_id)
    else:
        found.unfinished.append(job)


def _with_status(workspace: Workspace, job: UnfinishedJob) -> UnfinishedJob:
    """The job with what its status knows beyond the log; a status that is damaged is kept as a copy."""
    path = workspace.job(job.job_id).status
    status = status_on_disk(path, job.job_id)
    if status.content == readable_json(job.document):
        return job
    if status.is_damaged:
        _log.warning("%s is damaged and is written anew from the log; it was kept as %s", path, keep_copy(path).name)
    events, document = job.events, job.document
    end = end_it_knows(document, status.known)
    if end is not None:
        log = AppendLog(workspace.job(job.job_id).events)
        try:
            log.append([event_document(end)])
            log.sync()
        finally:
            log.close()
        _log.warning("job %s: its log had lost its end, which its status knows: %s", job.job_id, end.type)
        events, document = (*events, end), fold(document, end)
    return UnfinishedJob(job.job_id, events, document, job.last, status_is_stale=True)


def _finish(workspace: Workspace, ended: list[UnfinishedJob], found: Recovered) -> None:
    """Together; where that fails each alone, so that one that cannot leave does not keep the others."""
    try:
        _mend_runs(workspace)
        finish_all(workspace, [_finished(job) for job in ended], recovering=True)
    except OSError as error:
        _log.warning("jobs that are done are moved one by one: %s", error)
    else:
        found.finished += [job.job_id for job in ended]
        return
    for job in ended:
        try:
            finish_all(workspace, [_finished(job)], recovering=True)
        except OSError as error:
            _keep_for_later(job, found, error)
        else:
            found.finished.append(job.job_id)


def _keep_for_later(job: UnfinishedJob, found: Recovered, error: OSError) -> None:
    _log.error("job %s is over and cannot leave current/ now: %s", job.job_id, error)
    found.unfinished.append(job)


def _finished(job: UnfinishedJob) -> FinishedJob:
    return FinishedJob(job.job_id, run_line(job.document, job.turn.at), readable_json(job.document))


def _mend_runs(workspace: Workspace) -> None:
    """Only its end is looked at; broken lines before it are passed over by whoever reads."""
    runs = workspace.runs
    if os.path.lexists(runs) and not runs.is_file():
        _log.error("%s is no file; it was put aside as %s", runs, keep_copy(runs).name)
    mended = mend_end(runs)
    if mended is not None:
        _log.warning("%s: %s", runs, mended)
