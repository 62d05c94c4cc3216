"""The states of a job and of a task, and the legal moves between them, as tables.

A job waits (`pending`), runs, and ends `done`, `error` or `stopped`; from the last two, and from `done`, only a new
run (JobRestarted) leads on. `waiting` and `paused` hold it for a person. A task is `pending`, `running`, and then
`done`, `error` or `skipped`; a new run may put it back to `pending`.
"""

from __future__ import annotations

from typing import Final, Literal

JobState = Literal["pending", "running", "waiting", "paused", "stopped", "done", "error"]
TaskState = Literal["pending", "running", "done", "error", "skipped"]

JOB_STATES: Final[tuple[JobState, ...]] = ("pending", "running", "waiting", "paused", "stopped", "done", "error")

JOB_MOVES: Final[dict[JobState, frozenset[JobState]]] = {
    "pending": frozenset({"running", "stopped", "paused", "error"}),
    "running": frozenset({"running", "pending", "waiting", "paused", "stopped", "done", "error"}),
    "waiting": frozenset({"pending", "running", "stopped", "error"}),
    "paused": frozenset({"pending", "running", "stopped"}),
    "stopped": frozenset({"pending"}),
    "done": frozenset({"pending"}),
    "error": frozenset({"pending"}),
}

ENDED: Final[frozenset[JobState]] = frozenset({"stopped", "done", "error"})
AT_REST: Final[frozenset[JobState]] = ENDED | {"waiting", "paused"}
"""Nothing happens to such a job until a person wants it to."""
TASK_ENDED: Final[frozenset[TaskState]] = frozenset({"done", "error", "skipped"})


def may_move(before: JobState, after: JobState) -> bool:
    """Whether a job may go from one state to the other."""
    return after in JOB_MOVES[before]


def is_job_state(text: str) -> bool:
    """Whether `text` names a state a job can be in."""
    return text in JOB_MOVES
