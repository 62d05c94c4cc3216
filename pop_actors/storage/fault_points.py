"""Places where a test can have the process killed, as by `kill -9`: between the steps that must survive it.

`reach` does nothing unless the composition root armed a point. Nothing here reads the environment.
"""

from __future__ import annotations

import os
import signal

from pop_actors.errors import SettingsError

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
    "call.sent",
    "call.replied",
    "call.paid",
    "call.booked",
)


class _Armed:
    """The point that kills, and how many passages of it are still survived."""

    name: str | None = None
    survived: int = 0


def arm(text: str | None) -> None:
    """Kill this process at the point `name`, or at its Nth passage (`name:N`). None disarms; else SettingsError."""
    name, _, count = (text or "").partition(":")
    if text and (name not in POINTS or (count and not count.isdecimal()) or count == "0"):
        raise SettingsError(f"PO_FAULT_POINT = {text!r}: must be one of {', '.join(POINTS)}, or such a name and :N")
    _Armed.name = name or None
    _Armed.survived = int(count or 1) - 1


def reach(name: str) -> None:
    """The process has come to this point."""
    if _Armed.name != name:
        return
    if _Armed.survived:
        _Armed.survived -= 1
        return
    os.kill(os.getpid(), signal.SIGKILL)
