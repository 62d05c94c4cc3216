"""What a task that succeeded wants done with the rest of its run: its control.json is taken, noted and carried out.

Used by the job's actor, in its main thread; what the seed wants skipped is carried out here too. It starts no task and
ends no run.
"""

from __future__ import annotations

from collections.abc import Iterable

from pop_actors.core import events as e
from pop_actors.core.job_spec import TaskEntry
from pop_actors.runner.event_stream import EventStream
from pop_actors.runner.gates import control_of
from pop_actors.runner.room import Room
from pop_actors.runner.run_code import code_of, code_with_added
from pop_actors.runner.run_state import RunState
from pop_actors.runner.run_tasks import RunTasks
from pop_actors.storage.fault_points import reach
from pop_actors.storage.layout import JobDirectory
from pop_actors.storage.task_code import CodeReader

_TOLD = ("task", "patch", "code", "skip", "pauses", "message", "artifacts", "faults")


class Directives:
    """Of all tasks of a run. `code`: what the run's log says its code is, told by the job before any task ends."""

    def __init__(
        self, tasks: RunTasks, directory: JobDirectory, state: RunState, stream: EventStream, room: Room
    ) -> None:
        self.code = e.Code(files={}, modules={})
        self._tasks = tasks
        self._directory = directory
        self._state = state
        self._stream = stream
        self._room = room

    def take(self, entry: TaskEntry) -> e.ControlTaken | None:
        """What the task wants, noted so that its end carries it to the disk; None where it wants nothing."""
        control = control_of(entry, self._directory.task(entry.name), self._state.states, self._tasks)
        if control is not None:
            if control.patch is not None:
                control = control.model_copy(update={"code": self._add(control.patch)})
            self._stream.note(e.ControlTaken, **{name: getattr(control, name) for name in _TOLD})
            reach("runner.control-taken")
        return control

    def have_added(self, *patches: e.Patch) -> None:
        """The run has these tasks, too. Damaged where they do not fit its pipeline.json any more."""
        if patches:
            self._tasks.add(*patches)
            self._state.take_over(self._tasks.entries)

    def _add(self, patch: e.Patch) -> e.Code:
        """The tasks belong to the run from now on; none begins before the log has them. The run's code with theirs."""
        self._room.write(lambda: self._tasks.make_folders(patch))
        self.have_added(patch)
        spec = self._tasks.spec
        self.code = code_with_added(self.code, code_of(spec, self._directory, CodeReader(spec.root)))
        return self.code

    def carry_out(self, control: e.ControlTaken) -> None:
        """Skip what it says, once its task's end is on disk."""
        self._skip((skip.task, skip.reason or f"{control.task} says so") for skip in control.skip)

    def skip_what_the_seed_says(self) -> None:
        """Also where tasks were added of which it knows the names."""
        self._skip((task, "the seed says so") for task in self._tasks.spec.skip)

    def _skip(self, tasks: Iterable[tuple[str, str]]) -> None:
        for task, reason in tasks:
            if self._state.is_pending(task):
                self._state.is_skipped(task)
                self._stream.note(e.TaskSkipped, task=task, reason=reason)
