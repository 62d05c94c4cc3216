"""Who wants which job stopped: asked of the scheduler, answered when that is on disk. Used by the scheduler only."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from pop_actors.core import events as e
from pop_actors.core.ids import timestamp
from pop_actors.core.states import ENDED
from pop_actors.errors import Refused
from pop_actors.system.board import Board
from pop_actors.system.notes import Notes


class Stops:
    """Jobs that are to be stopped as soon as nothing works on them any more, each with its askers."""

    def __init__(self, board: Board, notes: Notes) -> None:
        self._board = board
        self._notes = notes
        self._askers: dict[str, list[Future[Any]]] = {}

    def ask(self, job_id: str, *, is_being_claimed: bool) -> Future[Any]:
        """The job's state, once it is stopped or has ended otherwise. Refused where there is nothing to stop."""
        if self._board.seed(job_id) is not None:
            raise Refused("waiting", f"{job_id} is a seed that waits in pending/; remove its file to withdraw it")
        document = self._board.job(job_id)
        if document is None and not is_being_claimed:
            raise Refused("not_found", f"there is no unfinished job {job_id}; see: popctl list --all")
        self._board.refuse_damaged(job_id)
        if document is not None and document["state"] in ENDED:
            raise Refused("not_running", f"{job_id} has ended already ({document['state']})")
        answer: Future[Any] = Future()
        self._askers.setdefault(job_id, []).append(answer)
        return answer

    def carry_out(self, job_id: str) -> None:
        """Nothing works on it now."""
        askers = self._askers.pop(job_id)
        document = self._board.job(job_id)
        if document is None or document["state"] in ENDED:
            state = "done" if document is None else document["state"]
            for asker in askers:
                asker.set_result(state)
            return

        def answer(noted: Future[None]) -> None:
            error = noted.exception()
            for asker in askers:
                asker.set_result(self._end_of(job_id)) if error is None else asker.set_exception(error)

        self._notes.note(job_id, e.JobStopped(at=timestamp(time.time()))).add_done_callback(answer)

    def refuse(self, job_id: str, why: Refused) -> None:
        """There is nothing to stop after all."""
        for asker in self._askers.pop(job_id, ()):
            asker.set_exception(why)

    def _end_of(self, job_id: str) -> str:
        """Another end may have come first."""
        document = self._board.job(job_id)
        state = "stopped" if document is None else str(document["state"])
        return state if state in ENDED else "stopped"

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._askers

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._askers))

    def __len__(self) -> int:
        return len(self._askers)
