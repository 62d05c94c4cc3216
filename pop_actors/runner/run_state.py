"""Where each task of a run stands, and so what comes next: which start, whether all is over, what a person is asked.

No I/O. Used by the main thread of the job's process only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pop_actors.core.job_spec import TaskEntry
from pop_actors.runner.failures import Failure
from pop_actors.runner.gates import ClosedGate
from pop_actors.runner.plan import AT_WORK, State, is_done, ready, upstream
from pop_actors.runner.workplace import Failed


class RunState:
    """The tasks, by name."""

    def __init__(self, entries: Sequence[TaskEntry]) -> None:
        self._entries = entries
        self._states: dict[str, State] = {entry.name: "pending" for entry in entries}
        self._between_attempts: dict[str, tuple[int, Failed]] = {}
        self._gates: dict[str, ClosedGate] = {}
        self.first_failed: tuple[TaskEntry, Failure] | None = None
        """The task that the run fails for, and why."""

    def take_over(self, entries: Sequence[TaskEntry]) -> None:
        """The tasks of the run are these from now on: all there were, and some that were added to them."""
        self._entries = entries
        self._states = {entry.name: self._states.get(entry.name, "pending") for entry in entries}

    # What happens to a task

    def begins(self, task: str) -> None:
        self._states[task] = "running"

    def is_to_begin_later(self, task: str) -> None:
        """Its attempt was left at a stage boundary."""
        self._states[task] = "pending"

    def pauses(self, task: str, attempt: int, failed: Failed) -> None:
        """That attempt failed, and another one follows."""
        self._states[task] = "waiting"
        self._between_attempts[task] = attempt, failed

    def succeeds(self, task: str, gate: ClosedGate | None) -> None:
        """Nothing is built on it before its gate, where it has one, is opened."""
        self._states[task] = "done" if gate is None else "gated"
        if gate is not None:
            self._gates[task] = gate

    def fails(self, entry: TaskEntry, failure: Failure) -> None:
        """For good; and the run with it, unless the task is optional."""
        self._states[entry.name] = "passed" if entry.optional else "failed"
        if not entry.optional and self.first_failed is None:
            self.first_failed = entry, failure

    def is_skipped(self, task: str) -> None:
        self._states[task] = "skipped"

    # How it stands

    @property
    def states(self) -> Mapping[str, State]:
        return self._states

    def is_pending(self, task: str) -> bool:
        """Whether it has not begun. False for a task the run does not have."""
        return self._states.get(task) == "pending"

    def is_pausing(self, task: str) -> bool:
        return self._states[task] == "waiting"

    def is_gated(self, task: str) -> bool:
        return task in self._gates

    @property
    def runs_a_task(self) -> bool:
        return "running" in self._states.values()

    def running(self) -> list[str]:
        """The tasks an attempt of which is under way."""
        return [task for task, state in self._states.items() if state == "running"]

    @property
    def is_over(self) -> bool:
        """Whether every task is through, or one has failed and no other is running."""
        return is_done(self._states) if self.first_failed is None else not self.runs_a_task

    # What comes next

    def ready(self) -> list[TaskEntry]:
        """The tasks to start now, in the pipeline's order."""
        return ready(self._entries, self._states)

    @property
    def waits_for_nobody(self) -> bool:
        """Whether no task is at work, nor will be by itself."""
        return not AT_WORK & set(self._states.values())

    def pausing(self) -> Iterator[tuple[TaskEntry, int, Failed]]:
        """The tasks between two attempts, each with the number of the one that failed, and how it did."""
        for entry in self._entries:
            if self.is_pausing(entry.name):
                yield entry, *self._between_attempts[entry.name]

    def closed_gate(self) -> tuple[str, ClosedGate] | None:
        """The first task whose gate is closed, and what a person is asked there."""
        gated = (entry.name for entry in self._entries if self._states[entry.name] == "gated")
        return next(((task, self._gates[task]) for task in gated), None)

    def pending(self) -> list[str]:
        """The tasks that have not begun."""
        return [task for task, state in self._states.items() if state == "pending"]

    def outputs_for(self, task: str) -> list[str]:
        """The tasks whose outputs this one gets: those it builds on, directly or not, that were done."""
        return [name for name in upstream(self._entries, task) if self._states[name] == "done"]
