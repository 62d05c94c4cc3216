"""The fault matrix: every named point between a seed's arrival and its end, and what may go wrong there.

`:N` is the Nth passage of that point. Kinds: `job`, `daemon` and `everything` are killed there (no `job` where no
process of one is, or none that matters); `enospc` and `eio` have the disk refuse from there on, for a while; `power`
cuts the power there. A run passes the points in about this order.
"""

from __future__ import annotations

from dataclasses import dataclass

DISK = ("enospc", "eio")
KILLS = ("job", "daemon", "everything")
ALL = (*KILLS, *DISK, "power")
NO_JOB = ("daemon", "everything", *DISK, "power")
LATER = (*KILLS, "power")  # a later passage: the disk has refused the same step before


@dataclass(frozen=True)
class Point:
    """`seed`: what is dropped to come there: a good one, one of a job that is to be rejected (`poor`), one that is no
    JSON (`invalid`), one of a job that has completed and is run again (`again`), of one that waits at a gate and is
    approved (`gated`), also after its code was edited (`edited`), or of one with a task that has another left out and
    one more added (`controlled`)."""

    name: str
    kinds: tuple[str, ...]
    seed: str = "good"


POINTS = (
    Point("claim.linked", NO_JOB),
    Point("claim.attached", NO_JOB),
    Point("claim.built", NO_JOB),
    Point("claim.renamed", NO_JOB),
    Point("claim.unlinked", NO_JOB),
    Point("runner.started", ALL),
    Point("writer.appended", ALL),
    Point("writer.status-written", ALL),
    Point("runner.task-started", ALL),
    Point("runner.stage-started", ALL),
    Point("runner.stage-ran", ALL),
    Point("runner.stage-done", ALL),
    Point("runner.before-call", ALL),
    Point("runner.asked", ALL),
    Point("call.sent", ALL),
    Point("call.replied", ALL),
    Point("call.paid", ALL),
    Point("call.booked", ALL),
    Point("runner.answered", ALL),
    Point("runner.stage-ran:2", LATER),
    Point("runner.stage-done:3", LATER),
    Point("runner.attempt-failed", ALL),
    Point("runner.retry-due", ALL),
    Point("runner.task-started:2", LATER),
    Point("call.paid:2", LATER),
    Point("runner.stage-done:6", LATER),
    Point("runner.output-written", ALL),
    Point("writer.synced", ALL),
    Point("runner.task-confirmed", ALL),
    Point("runner.task-started:3", LATER),
    Point("runner.asked:3", LATER),
    Point("call.paid:3", LATER),
    Point("writer.status-written:2", LATER),
    Point("runner.refined", ALL),
    Point("call.replied:4", LATER),
    Point("runner.stage-done:12", LATER),
    Point("runner.output-written:2", LATER),
    Point("runner.before-end", ALL),
    Point("writer.synced:2", LATER),
    Point("finish.logged", NO_JOB),
    Point("finish.run-line", NO_JOB),
    Point("finish.status-written", NO_JOB),
    Point("finish.renamed", NO_JOB),
    Point("runner.ended", ALL),
    Point("reject.linked", NO_JOB, "invalid"),
    Point("reject.written", NO_JOB, "invalid"),
    Point("reject.unlinked", NO_JOB, "invalid"),
    Point("reject.renamed", NO_JOB, "invalid"),
    Point("reject-job.written", NO_JOB, "poor"),
    Point("reject-job.renamed", NO_JOB, "poor"),
    Point("reopen.renamed", NO_JOB, "again"),
    Point("runner.gate-reached", NO_JOB, "gated"),
    Point("scheduler.gate-deciding", NO_JOB, "gated"),
    Point("scheduler.gate-approved", NO_JOB, "gated"),
    Point("runner.code-changed", ALL, "edited"),
    Point("runner.stage-done", LATER, "controlled"),
    Point("runner.control-taken", ALL, "controlled"),
    Point("runner.task-confirmed", LATER, "controlled"),
)

ELSEWHERE: dict[str, str] = {}
"""Named points without a case here, and why."""
