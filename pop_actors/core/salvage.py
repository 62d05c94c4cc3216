"""A job's log put together again from what can still be read, so that nothing is bought twice or done twice. Pure.

Lines that are whole and make sense stay, in their order. What they lack is filled in from the other files: the
beginning, tasks whose output lies there, the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pop_actors.core import events as e
from pop_actors.core.known_status import added_in, end_of
from pop_actors.core.states import ENDED
from pop_actors.core.status import Document, fold
from pop_actors.errors import Damaged


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """A task whose output lies there whole: of which run and attempt, when it was written, how long it took (ms), and
    the (kind, name) of each file its checkpoint has."""

    run_id: str
    attempt: int
    at: str
    milliseconds: float
    files: tuple[tuple[e.FileKind, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What tells of a job besides its log. `beginning` is made up from its inputs; it is used where neither the log nor
    the status has one."""

    status: Document | None = None
    beginning: e.JobCreated | None = None
    finished: Mapping[str, FinishedTask] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The log as it is from now on, but for the line that tells of the repair, and its fold. `kept` and `lost` count
    lines of the old one; `epoch` is the highest heard of."""

    events: tuple[e.Event, ...]
    document: Document
    kept: int
    lost: int
    epoch: int


def salvage(found: Sequence[e.Event], job_id: str, evidence: Evidence) -> Salvaged:
    """The log that `found`, the whole lines of the old one, and the evidence give. Damaged where nothing tells how the
    job began."""
    log = _Log(job_id, evidence)
    for event in found:
        log.take(event)
    log.begin()
    _take_over_run(log, evidence.status)
    _take_over_tasks(log, evidence)
    _take_over_end(log, evidence.status)
    assert log.document is not None
    epochs = [event.epoch for event in found] + [int(log.document["epoch"])]
    if evidence.status is not None:
        epochs.append(evidence.status["epoch"])
    return Salvaged(tuple(log.events), log.document, log.kept, len(found) - log.kept, max(epochs))


def beginning_of(status: Document) -> e.JobCreated:
    """How a job must have begun whose status is this."""
    written = {name for task in status["tasks"].values() for name in task["files"].get("artifacts", [])}
    conflicts = status.get("conflicts")
    return e.JobCreated(
        at=status["createdAt"],
        id=status["id"],
        run_id=status["pipelineId"],
        name=status["name"],
        pipeline=status["pipeline"],
        mode=status["mode"],
        tasks=_own_tasks(status),
        attached=tuple(name for name in status["files"].get("artifacts", []) if name not in written),
        conflicts=tuple(conflicts) if isinstance(conflicts, list) else None,
        format=e.FORMAT,
    )


def _own_tasks(status: Document) -> tuple[str, ...]:
    """The tasks of the run's pipeline.json: without those that were added to it."""
    added = {name for patch in added_in(status) for name in patch.names}
    return tuple(name for name in status["tasks"] if name not in added)


class _Log:
    """A log that grows by what makes sense."""

    def __init__(self, job_id: str, evidence: Evidence) -> None:
        self.events: list[e.Event] = []
        self.document: Document | None = None
        self.kept = 0
        self._job_id = job_id
        self._evidence = evidence

    def take(self, event: e.Event) -> None:
        """A line that was found."""
        if not isinstance(event, e.JobCreated):
            self.begin()
        elif self.document is not None or event.id != self._job_id:
            return
        try:
            if isinstance(event, e.TaskDone):
                self.recall_added(event.task)
            self.add(event)
        except (KeyError, ValueError):
            return
        self.kept += 1

    def begin(self) -> None:
        """Have a beginning, from elsewhere where the log has none."""
        if self.document is None:
            status = self._evidence.status
            beginning = self._evidence.beginning if status is None else beginning_of(status)
            if beginning is None:
                raise Damaged(
                    "nothing that is left tells how the job began: its log has no JobCreated, and tasks-status.json, "
                    "seed.json or pipeline.json cannot be read; put one back from a backup, or move the folder away"
                )
            self.add(beginning)

    def task(self, name: str) -> Document | None:
        """How it stands so far; None where there is none of that name."""
        found: Document | None = (self.document or {"tasks": {}})["tasks"].get(name)
        return found

    def recall_added(self, task: str) -> None:
        """Have the tasks that it added when it was done, where the log has lost them and the status tells."""
        status, document = self._evidence.status, self.document
        if status is None or document is None or status["pipelineId"] != document["pipelineId"]:
            return
        if "patch" in (self.task(task) or {}):
            return
        known = added_in(document)
        for patch in added_in(status):
            if patch.task == task and patch not in known:
                self.add(e.ControlTaken(at=document["lastUpdated"], task=task, patch=patch))

    def add(self, event: e.Event) -> None:
        self.document = fold(self.document, event)
        self.events.append(event)


def _take_over_run(log: _Log, status: Document | None) -> None:
    """A later run the log has lost the beginning of."""
    document = log.document
    assert document is not None
    if status is None or status["pipelineId"] == document["pipelineId"]:
        return
    if status["lastUpdated"] <= document["lastUpdated"]:
        return
    adders = {patch.task for patch in added_in(status)}  # what they added is recalled with their end
    tasks = _own_tasks(status)
    again = tuple(name for name in tasks if status["tasks"][name]["state"] not in {"done", "skipped"} or name in adders)
    log.add(e.JobRestarted(at=status["lastUpdated"], run_id=status["pipelineId"], reset=again, tasks=tasks))


def _take_over_tasks(log: _Log, evidence: Evidence) -> None:
    """Tasks that are over although the log does not say so: those do not run again."""
    document = log.document
    assert document is not None
    status = evidence.status
    told = status["tasks"] if status is not None and status["pipelineId"] == document["pipelineId"] else {}
    for name in dict.fromkeys([*document["tasks"], *told]):
        task = log.task(name)
        state = told.get(name, {}).get("state")
        finished = evidence.finished.get(name)
        if task is None or task["state"] in {"done", "skipped"}:
            continue
        if finished is not None and (finished.run_id == document["pipelineId"] or state == "done"):
            for kind, file in finished.files:
                log.add(e.FileWritten(at=finished.at, task=name, kind=kind, name=file))
            log.recall_added(name)
            log.add(_done(name, finished))
        elif state == "skipped":
            reason = str(told[name].get("skipReason", ""))
            log.add(e.TaskSkipped(at=document["lastUpdated"], task=name, reason=reason))


def _done(name: str, finished: FinishedTask) -> e.TaskDone:
    return e.TaskDone(
        at=finished.at, task=name, attempt=finished.attempt, execution_time=finished.milliseconds, refinements=0
    )


def _take_over_end(log: _Log, status: Document | None) -> None:
    document = log.document
    assert document is not None
    if status is None or status["pipelineId"] != document["pipelineId"] or document["state"] in ENDED:
        return
    end = end_of(status)
    if end is not None and status["lastUpdated"] >= document["lastUpdated"]:
        log.add(end)
