"""What a person decides about a job that waits at a gate: asked of the scheduler, noted by the status-writer, once.

Used by the scheduler only; what follows from a decision is its business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from pop_actors.core import events as e
from pop_actors.core.ids import timestamp
from pop_actors.core.status import Document
from pop_actors.errors import Refused
from pop_actors.storage.fault_points import reach
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.notes import Notes


@dataclass(frozen=True, slots=True)
class Decided:
    """Gates → scheduler: what a person decided is on disk, or (`error`) could not be noted."""

    order: m.DecideGate
    answer: Future[Any]
    error: BaseException | None


class Gates:
    """Decisions that are on their way to the disk, and those that wait for a process to leave."""

    def __init__(self, board: Board, notes: Notes, put: Callable[[Decided], None]) -> None:
        """`put` is called in any thread."""
        self._board = board
        self._notes = notes
        self._put = put
        self._deciding: set[str] = set()
        self._undecided: dict[str, list[tuple[m.DecideGate, Future[Any]]]] = {}

    @property
    def deciding(self) -> AbstractSet[str]:
        """The jobs whose decision is being noted."""
        return self._deciding

    @property
    def undecided(self) -> AbstractSet[str]:
        """The jobs whose process is waited for."""
        return self._undecided.keys()

    def ask(self, order: m.DecideGate, *, is_leaving: bool) -> Future[Any]:
        """The answer to come: {id, state}. A process that is leaving has its last word before the decision."""
        answer: Future[Any] = Future()
        if is_leaving and _gate_of(self._board.job(order.job_id)) is not None:
            self._undecided.setdefault(order.job_id, []).append((order, answer))
        else:
            self._decide(order, answer)
        return answer

    def has_left(self, job_id: str) -> None:
        """The process is gone: what was decided meanwhile is noted now."""
        for order, answer in self._undecided.pop(job_id, ()):
            try:
                self._decide(order, answer)
            except Refused as refused:
                answer.set_exception(refused)

    def settle(self, decided: Decided) -> None:
        """Answer who asked."""
        order = decided.order
        self._deciding.discard(order.job_id)
        if decided.error is not None:
            decided.answer.set_exception(decided.error)
            return
        reach("scheduler.gate-approved")
        decided.answer.set_result({"id": order.job_id, "state": "pending" if order.approve else "error"})

    def _decide(self, order: m.DecideGate, answer: Future[Any]) -> None:
        gate = self._gate_to_decide(order)
        event = _approved(gate, order.note) if order.approve else _rejected(gate, order.note)
        self._deciding.add(order.job_id)
        reach("scheduler.gate-deciding")
        noted = self._notes.note(order.job_id, event)
        noted.add_done_callback(lambda done: self._put(Decided(order, answer, done.exception())))

    def _gate_to_decide(self, order: m.DecideGate) -> dict[str, Any]:
        """The gate this job waits at. Refused where it waits at none, at another, or is being decided on."""
        job_id = order.job_id
        document = self._board.job(job_id)
        if document is None and self._board.seed(job_id) is None:
            raise Refused("not_found", f"there is no unfinished job {job_id}; see: popctl list --all")
        gate = _gate_of(document)
        if gate is None:
            state = "pending" if document is None else document["state"]
            raise Refused("not_waiting", f"{job_id} waits at no gate now; it is {state}")
        if job_id in self._deciding:
            raise Refused("not_waiting", f"{job_id}: its gate is being decided on this moment; see: popctl status")
        if order.task is not None and order.task != gate["task"]:
            there = f"the gate of {gate['task']}" if gate["task"] else "a gate that is no task's"
            raise Refused("not_waiting", f"{job_id} waits at {there}, not at the gate of {order.task}")
        return gate


def _gate_of(document: Document | None) -> dict[str, Any] | None:
    """What the job waits for, where it waits."""
    if document is None or document["state"] != "waiting":
        return None
    gate: dict[str, Any] = document["gate"]
    return gate


def _approved(gate: dict[str, Any], note: str) -> e.GateApproved:
    return e.GateApproved(at=timestamp(time.time()), task=gate["task"] or "", note=note)


def _rejected(gate: dict[str, Any], note: str) -> e.JobFailed:
    info = e.ErrorInfo(name="GateRejected", message=f"rejected: {note}" if note else "rejected at the gate")
    return e.JobFailed(at=timestamp(time.time()), task=gate["task"] or "", reason="control", error=info)
