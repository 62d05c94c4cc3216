"""When each running stage must be over. Told by the feed (in the status-writer's thread), read by the jobs supervisor.

A stage ends itself at its timeout; only where it cannot (C code, a blocking call) does this deadline, a grace later,
end its process. While its task is held (it waits for room on the disk) the deadline stands still.
"""

from __future__ import annotations

import time

from pop_actors.core import events as e
from pop_actors.core.observations import JobChanged, Observation

GRACE_SECONDS = 1.0
_OVER = (e.StageFinished, e.AttemptFailed, e.TaskDone, e.TaskFailed, e.TaskSkipped)
_NOTHING_AT_WORK = (
    e.JobStarted, e.ProcessDown, e.JobSuspended, e.JobWaiting, e.JobDone, e.JobFailed, e.JobRejected, e.JobStopped
)  # fmt: skip
"""What was said late by a process that is dead is not to be held against the next one."""


class StageDeadlines:
    """Deadlines (monotonic seconds) by job and task. Every change is one step of a dict, so no lock is needed."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, tuple[float, str]]] = {}
        self._held: dict[tuple[str, str], float] = {}

    def on_observation(self, seen: Observation) -> None:
        """The feed's listener."""
        if not isinstance(seen, JobChanged):
            return
        event = seen.event
        if isinstance(event, e.StageStarted):
            deadline = time.monotonic() + event.timeout + GRACE_SECONDS
            words = f"stage {event.stage} of task {event.task} did not end within {event.timeout:g} s"
            self._jobs.setdefault(seen.job_id, {})[event.task] = (deadline, words)
        elif isinstance(event, _NOTHING_AT_WORK):
            self.forget(seen.job_id)
        elif isinstance(event, e.TaskHeld):
            self._held[seen.job_id, event.task] = time.monotonic()
        elif isinstance(event, e.TaskReleased):
            self._release(seen.job_id, event)
        elif isinstance(event, _OVER):
            self._jobs.get(seen.job_id, {}).pop(event.task, None)

    def forget(self, job_id: str) -> None:
        """The job's process is gone, and its stages with it."""
        self._jobs.pop(job_id, None)
        for key in [key for key in list(self._held) if key[0] == job_id]:
            self._held.pop(key, None)

    def overdue_task(self, job_id: str) -> str:
        """The task of that job whose stage is overdue, the most so where there are several; empty where none is."""
        tasks = self._jobs.get(job_id, {})
        now = time.monotonic()
        overdue = [task for task, (deadline, _) in tasks.items() if deadline < now and (job_id, task) not in self._held]
        return min(overdue, key=lambda task: tasks[task][0], default="")

    def _release(self, job_id: str, event: e.TaskReleased) -> None:
        tasks = self._jobs.get(job_id, {})
        if event.task in tasks:
            since = self._held.get((job_id, event.task), time.monotonic())
            deadline, words = tasks[event.task]
            tasks[event.task] = (deadline + max(event.seconds, time.monotonic() - since), words)
        self._held.pop((job_id, event.task), None)

    def passed(self, now: float) -> list[tuple[str, str]]:
        """Jobs with a stage that is overdue at `now` (monotonic seconds), each with what to say of it."""
        return [
            (job_id, words)
            for job_id, tasks in list(self._jobs.items())
            for task, (deadline, words) in list(tasks.items())
            if now > deadline and (job_id, task) not in self._held
        ]
