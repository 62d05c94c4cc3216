"""What a supervisor has to tell about its children, as OTP's reports: one frozen record for each, to one listener.

The supervisor publishes a report and goes on. A listener is called in the supervisor's thread and returns at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pop_actors.actors.exits import ExitReason

ReportKind = Literal["progress", "start_error", "child_terminated", "shutdown_error", "gave_up"]


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that happened to the child `child` (its id) of the supervisor at the address `supervisor`.

    progress: it has started; an `epoch` above its first means that it is back. start_error: it did not start.
    child_terminated: it ended by itself, abnormally or though it is permanent. shutdown_error: it was asked to stop and
    ended in another way (killed, an exception on its way out, left behind). gave_up: it failed too often; its
    supervisor ends now, or, where budgets are per child, lets it go.
    """

    kind: ReportKind
    supervisor: str
    child: str
    epoch: int
    reason: ExitReason | None = None
    will_restart: bool = False


ReportListener = Callable[[Report], None]


def unreported(_report: Report) -> None:
    """The listener of those who want none; the log has the gist all the same."""
