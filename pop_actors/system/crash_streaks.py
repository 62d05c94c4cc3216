"""How often in a row each job's process has crashed without getting anywhere: what a budget per time cannot see.

Told of progress by the feed (in the status-writer's thread), of crashes by the jobs supervisor.
"""

from __future__ import annotations

from pop_actors.core import events as e
from pop_actors.core.observations import JobChanged, Observation
from pop_actors.core.stages import STAGES

_PROGRESS = (e.AttemptFailed, e.TaskDone, e.TaskFailed, e.TaskSkipped)
"""What brings a run nearer to its end, besides a stage. A failed attempt does: there are only so many."""


class CrashStreaks:
    """Counts by job. Every change is one step of a dict, so no lock is needed."""

    def __init__(self) -> None:
        self._crashes: dict[str, int] = {}

    def on_observation(self, seen: Observation) -> None:
        """The feed's listener."""
        if isinstance(seen, JobChanged) and _is_progress(seen.event):
            self._crashes.pop(seen.job_id, None)

    def crashed(self, job_id: str) -> int:
        """Its process crashed: how often now since it last got on."""
        self._crashes[job_id] = count = self._crashes.get(job_id, 0) + 1
        return count

    def forget(self, job_id: str) -> None:
        """The run is over."""
        self._crashes.pop(job_id, None)


def _is_progress(event: e.Event) -> bool:
    """A stage of the eleven that is finished is not run again; modules are loaded anew by each process."""
    if isinstance(event, e.StageFinished):
        return event.ok and event.stage in STAGES
    return isinstance(event, _PROGRESS)
