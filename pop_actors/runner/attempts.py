"""The attempts of a run's tasks: each has a thread, and what it comes to is put into the job's mailbox.

Used by the job's actor, in its main thread, which decides what begins and what follows from an end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pop_actors.core import events as e
from pop_actors.core.job_spec import TaskEntry
from pop_actors.errors import Damaged
from pop_actors.runner.failures import Failure
from pop_actors.runner.run_state import RunState
from pop_actors.runner.task import Attempt
from pop_actors.runner.task_modules import LOAD
from pop_actors.runner.threads import TaskThreads
from pop_actors.runner.workplace import Begin, Failed, Outcome, Workplace
from pop_actors.storage.task_outputs import read_output


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """Task thread → job."""

    task: str
    attempt: int
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class AttemptBroke:
    """Task thread → job: the runner itself failed there; so does the process."""

    error: BaseException


@dataclass(frozen=True, slots=True)
class RetryDue:
    """Clockwork → job: the pause before this attempt is over."""

    task: str
    attempt: int


class Attempts:
    """Those of one process. `put` takes the messages above, from any thread."""

    def __init__(self, place: Workplace, state: RunState, put: Callable[[object], None]) -> None:
        self._place = place
        self._state = state
        self._put = put
        self._threads = TaskThreads()
        self._outputs: dict[str, Any] = {}

    def start(self, entry: TaskEntry, begin: Begin) -> None:
        """Begin an attempt, or go on with it."""
        self._state.begins(entry.name)
        try:
            upstream = self._upstream(entry)
        except Damaged as error:
            failure = Failure(LOAD, "load", e.ErrorInfo(name="Damaged", message=str(error)), final=True)
            self._put(AttemptEnded(entry.name, begin.attempt, Failed(failure, 0.0, 0)))
            return
        attempt = Attempt(self._place, entry, begin, upstream)
        self._threads.run(entry.name, lambda: self._run(attempt, entry.name, begin.attempt))

    def start_later(self, task: str, attempt: int, pause: float) -> None:
        """RetryDue in `pause` seconds."""
        due = RetryDue(task, attempt)
        self._place.clockwork.at(time.monotonic() + pause, lambda: self._put(due))

    def keep(self, task: str, output: Any) -> None:
        """What the task put out, for those that build on it."""
        self._outputs[task] = output

    def _run(self, attempt: Attempt, task: str, number: int) -> None:
        message: object
        try:
            message = AttemptEnded(task, number, attempt.run())
        except BaseException as error:  # noqa: BLE001  (raised again in the main thread, which ends the process)
            message = AttemptBroke(error)
        self._put(message)

    def _upstream(self, entry: TaskEntry) -> dict[str, Any]:
        """The final outputs of the tasks this one builds on. Damaged where one is not there any more."""
        names = self._state.outputs_for(entry.name)
        for name in names:
            if name not in self._outputs:
                self._outputs[name] = read_output(self._place.directory, name)
        return {name: self._outputs[name] for name in names}
