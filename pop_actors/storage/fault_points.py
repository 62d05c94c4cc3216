"""Places where a test can have the process killed, as by `kill -9`: between the steps that must survive it.

`reach` does nothing unless a point was armed: by the composition root in the daemon, by the job's actor in its process
(points that begin with `runner.`). Nothing here reads the environment.
"""

from __future__ import annotations

import os
import signal
import threading

from pop_actors.errors import SettingsError

IN_RUNNER = "runner."

POINTS = (
    "claim.linked",
    "claim.unlinked",
    "claim.attached",
    "claim.built",
    "claim.renamed",
    "reject.linked",
    "reject.written",
    "reject.unlinked",
    "reject.renamed",
    "reject-job.written",
    "reject-job.renamed",
    "finish.logged",
    "finish.run-line",
    "finish.status-written",
    "finish.renamed",
    "reopen.renamed",
    "writer.appended",
    "writer.synced",
    "writer.status-written",
    "call.sent",
    "call.replied",
    "call.paid",
    "call.booked",
    "runner.started",
    "runner.task-started",
    "runner.stage-started",
    "runner.before-call",
    "runner.asked",
    "runner.answered",
    "runner.stage-ran",
    "runner.stage-done",
    "runner.output-written",
    "runner.task-confirmed",
    "runner.before-end",
    "runner.ended",
)


class _Armed:
    """The point that kills, how many passages of it are still survived, and the signal that is sent."""

    name: str | None = None
    survived: int = 0
    stops: bool = False


def arm(text: str | None) -> None:
    """Kill this process at the point `name`, or at its Nth passage (`name:N`). None disarms; else SettingsError.

    With `:stop` behind it, the process is stopped there instead (SIGSTOP), once: a test can then kill another.
    """
    name, _, rest = (text or "").removesuffix(":stop").partition(":")
    if text and (name not in POINTS or (rest and not rest.isdecimal()) or rest == "0"):
        raise SettingsError(
            f"PO_FAULT_POINT = {text!r}: must be one of {', '.join(POINTS)}, or such a name and :N, :stop or :N:stop"
        )
    _Armed.name = name or None
    _Armed.survived = int(rest or 1) - 1
    _Armed.stops = bool(text) and str(text).endswith(":stop")


def for_runner(text: str | None) -> str | None:
    """What a job's process is to be armed with; None where the point is one of the daemon's."""
    return text if text is not None and text.startswith(IN_RUNNER) else None


def reach(name: str) -> None:
    """The process has come to this point."""
    if _Armed.name != name:
        return
    if _Armed.survived:
        _Armed.survived -= 1
        return
    _Armed.name = None
    if _Armed.stops:
        signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to this thread, or it would run on for a moment
    else:
        os.kill(os.getpid(), signal.SIGKILL)
