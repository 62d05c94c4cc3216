"""What goes into the supervision machine, and what comes out of it: commands, events, effects. Only values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pop_actors.actors.child import ChildNotice, ChildSpec
from pop_actors.actors.exits import SHUTDOWN, ExitReason
from pop_actors.actors.reports import ReportKind

# Commands: asked of the supervisor, answered when they are carried out, or refused with a code.


@dataclass(frozen=True, slots=True)
class StartChild:
    """Add a child, last in order, and start it. Answer: its epoch, once it has started, or None where it had nothing to
    do. One that does not start is forgotten: `start_failed`.

    Refused: already_started (it lives), already_present (its spec is there; it is stopped, or about to be restarted),
    max_children, bad_spec, start_failed, terminated (stopped before it was ready), stopping.
    """

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Stop a child, alone, for good. Its spec stays, unless it is temporary or dynamic. One that is stopped already is
    no error; a restart under way is called off, and with it that of the siblings that waited for it. `message`
    overrides the spec's `stop_message`. Answer: None, once it is gone. Refused: not_found."""

    id: str
    message: object | None = None


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Forget a stopped child's spec. Answer: None. Refused: not_found, running, restarting."""

    id: str


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Start a stopped child; with `force`, stop it before, and, as its strategy says, those that go with it. Costs no
    intensity; a stopped child that does not start stays stopped. Answer: its epoch, once it has started, or None where
    it had nothing to do. Refused: not_found, running, restarting, temporary (never restarted), start_failed,
    terminated, stopping."""

    id: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class WhichChildren:
    """Answer: `[{id, kind, restart, state, epoch, restarts}]` in start order. `state` is stopped, waiting (to be
    started), restarting (lost and not back yet), starting, running, stopping or killing. `epoch` is
    the number of its latest incarnation, 0 before the first."""


@dataclass(frozen=True, slots=True)
class CountChildren:
    """Answer: `{specs, active, supervisors, workers}`: all children, those that have started and are not gone, and how
    many of all are which."""


@dataclass(frozen=True, slots=True)
class GetChildSpec:
    """Answer: the child's `ChildSpec`. Refused: not_found."""

    id: str


Command = StartChild | TerminateChild | DeleteChild | RestartChild | WhichChildren | CountChildren | GetChildSpec


# Events: what the machine hears.


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the children there are, in order."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Stop all children and end, for this reason."""

    reason: ExitReason = SHUTDOWN


@dataclass(frozen=True, slots=True)
class Collapse:
    """The supervisor itself has failed, or is killed: end all children at once, by force where that can be done."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Asked:
    """A command; `caller` is named in its `Answer` or `Refuse`."""

    caller: int
    command: Command


@dataclass(frozen=True, slots=True)
class Noticed:
    """An incarnation said something. One that is gone already is not listened to."""

    incarnation: int
    notice: ChildNotice


@dataclass(frozen=True, slots=True)
class Due:
    """A timer set by `SetTimer` has run out."""

    timer: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time to look at the heartbeats; comes every `heartbeat_seconds`."""


Event = Begin | Shutdown | Collapse | Asked | Noticed | Due | Tick


# Effects: what the shell is to do, in this order.


@dataclass(frozen=True, slots=True)
class Spawn:
    """Launch the child; a starter that raises is a `StartFailed`. `because`: why it is started again, or None."""

    spec: ChildSpec
    incarnation: int
    epoch: int
    because: str | None


@dataclass(frozen=True, slots=True)
class AskToStop:
    incarnation: int
    message: object | None


@dataclass(frozen=True, slots=True)
class Kill:
    incarnation: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Have a thread child prove that its loop turns."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    timer: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    timer: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A child has started."""

    spec: ChildSpec
    epoch: int


@dataclass(frozen=True, slots=True)
class Gone:
    """An incarnation is gone, or (reason `hung`) given up as lost; comes once for each that was spawned. `how`: it
    never got ready, it was stopped, or it ended by itself."""

    spec: ChildSpec
    incarnation: int
    epoch: int
    reason: ExitReason
    will_restart: bool
    how: Literal["unready", "stopped", "by_itself"]

    @property
    def report_kind(self) -> ReportKind | None:
        """What a listener is told of it; None where it went as it should."""
        if self.how == "stopped":
            was_to_be_killed = self.spec.shutdown == "brutal_kill" and self.reason.kind == "signal"
            return "shutdown_error" if self.reason.is_abnormal and not was_to_be_killed else None
        if self.how == "unready":
            return None if self.reason.kind == "normal" else "start_error"
        is_told = self.reason.is_abnormal or self.spec.restart == "permanent"
        return "child_terminated" if is_told else None


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A child failed too often and is not started again. With a budget of its own, the others go on (`is_alone`); else
    the supervisor ends. Comes after its `Gone`."""

    spec: ChildSpec
    epoch: int
    reason: ExitReason
    is_alone: bool


@dataclass(frozen=True, slots=True)
class Answer:
    caller: int
    value: Any


@dataclass(frozen=True, slots=True)
class Refuse:
    caller: int
    code: str
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Up:
    """Every child there was at the beginning has started."""


@dataclass(frozen=True, slots=True)
class Finished:
    """All children are gone; the supervisor ends for this reason."""

    reason: ExitReason


Effect = (
    Spawn | AskToStop | Kill | Ping | SetTimer | CancelTimer | Ready | Gone | GaveUp | Answer | Refuse | Up | Finished
)
