"""When each running stage must be over. Told by the feed (in the status-writer's thread), read by the jobs supervisor.

A stage ends itself at its timeout; only where it cannot (C code, a blocking call) does this deadline, a grace later,
end its process.
"""

from __future__ import annotations

import time

from pop_actors.core import events as e
from pop_actors.core.observations import JobChanged, Observation

GRACE_SECONDS = 1.0
_OVER = (e.StageFinished, e.AttemptFailed, e.TaskDone, e.TaskFailed, e.TaskSkipped)


class StageDeadlines:
    """Deadlines (monotonic seconds) by job and task. Every change is one step of a dict, so no lock is needed."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, tuple[float, str]]] = {}

    def on_observation(self, seen: Observation) -> None:
        """The feed's listener."""
        if not isinstance(seen, JobChanged):
            return
        event = seen.event
        if isinstance(event, e.StageStarted):
            deadline = time.monotonic() + event.timeout + GRACE_SECONDS
            words = f"stage {event.stage} of task {event.task} did not end within {event.timeout:g} s"
            self._jobs.setdefault(seen.job_id, {})[event.task] = (deadline, words)
        elif isinstance(event, _OVER):
            self._jobs.get(seen.job_id, {}).pop(event.task, None)

    def forget(self, job_id: str) -> None:
        """The job's process is gone, and its stages with it."""
        self._jobs.pop(job_id, None)

    def passed(self, now: float) -> list[tuple[str, str]]:
        """Jobs with a stage that is overdue at `now` (monotonic seconds), each with what to say of it."""
        return [
            (job_id, words)
            for job_id, tasks in list(self._jobs.items())
            for deadline, words in list(tasks.values())[:]
            if now > deadline
        ]
