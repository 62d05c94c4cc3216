"""New runs of jobs that ended: asked of the scheduler, begun by the status-writer. Used by the scheduler only."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from pop_actors.actors.process_actor import Ref
from pop_actors.core import events as e
from pop_actors.core.ids import run_id, timestamp
from pop_actors.core.restart_plan import tasks_to_drop, tasks_to_reset
from pop_actors.core.status import Document
from pop_actors.errors import Refused
from pop_actors.system import messages as m
from pop_actors.system.board import Board
from pop_actors.system.job_specs import JobSpecs


class Restarts:
    """Plans a new run and has it begun."""

    def __init__(self, board: Board, specs: JobSpecs, status_writer: Ref, begun: Callable[[str], None]) -> None:
        """`begun(job_id)` is called in any thread, when the new run is on disk."""
        self._board = board
        self._specs = specs
        self._status_writer = status_writer
        self._begun = begun

    def ask(self, order: m.RestartJob) -> Future[Any]:
        """The answer to come: {id, pipelineId}. Refused where the job cannot run again, or waits for a decision."""
        job_id = order.job_id
        self._board.refuse_damaged(job_id)
        document = self._board.job(job_id)
        if document is not None and document["state"] == "waiting":
            raise Refused("waiting", f"{job_id} waits at a gate; end it first: popctl reject {job_id}")
        plan = self._specs.for_restart(job_id, document)
        reset = tasks_to_reset(plan.depends_on, order.from_task, only=order.only)
        dropped = tasks_to_drop(plan.patches, reset)
        now = time.time()
        event = e.JobRestarted(
            at=timestamp(now),
            run_id=run_id(now, secrets.token_hex(3)),
            reset=tuple(name for name in reset if name not in dropped),
            tasks=tuple(name for name in plan.task_names if name not in dropped),
        )
        answer: Future[Any] = Future()
        begun = self._status_writer.request(m.BeginRun(job_id, event))
        begun.add_done_callback(lambda done: self._tell(done, answer))
        return answer

    def _tell(self, done: Future[Document], answer: Future[Any]) -> None:
        """In the status-writer's thread."""
        error = done.exception()
        if error is not None:
            answer.set_exception(error)
            return
        document = done.result()
        self._begun(document["id"])
        answer.set_result({"id": document["id"], "pipelineId": document["pipelineId"]})
