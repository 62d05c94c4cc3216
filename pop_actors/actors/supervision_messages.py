"""What goes into the supervision machine, and what comes out of it: policy, commands, events, effects. Only values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pop_actors.actors.child import ChildNotice, ChildSpec, ExitReason, ReasonKind

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


@dataclass(frozen=True, slots=True)
class Policy:
    """How a supervisor treats its children; times in seconds.

    More than `max_restarts` in `period_seconds` are too many: the supervisor stops all children and exits, or, with
    `intensity_scope="child"`, gives up on that child alone. Exits for one of `free_reasons` cost nothing. A dynamic
    supervisor gets its children at run time, stops them all at once, and forgets each one that is gone for good.
    """

    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    period_seconds: float = 60.0
    intensity_scope: Literal["supervisor", "child"] = "supervisor"
    auto_shutdown: Literal["never", "any_significant", "all_significant"] = "never"
    dynamic: bool = False
    max_children: int | None = None
    heartbeat_seconds: float = 5.0
    heartbeat_deadline: float = 30.0
    free_reasons: frozenset[ReasonKind] = field(default_factory=lambda: frozenset({"timeout"}))

    def __post_init__(self) -> None:
        if self.strategy != "one_for_one" and (self.dynamic or self.intensity_scope == "child"):
            raise ValueError(f"{self.strategy} restarts children together; dynamic and intensity_scope=child do not")

    def check(self, spec: ChildSpec) -> None:
        """ValueError where a child makes no sense under this policy."""
        if spec.significant and self.auto_shutdown == "never":
            raise ValueError(f"child {spec.id}: significant means nothing where auto_shutdown is never")


# Commands: asked of the supervisor, answered when they are carried out, or refused with a code.


@dataclass(frozen=True, slots=True)
class StartChild:
    """Add a child and start it. Answer: its epoch, once it has started.

    Refused: already_started, already_present, max_children, bad_spec, start_failed, stopping.
    """

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class TerminateChild:
    """Stop a child for good; a static one's spec stays. `message` overrides the spec's `stop_message`. Answer: None,
    once it is gone. Refused: not_found."""

    id: str
    message: object | None = None


@dataclass(frozen=True, slots=True)
class DeleteChild:
    """Forget a stopped child's spec. Answer: None. Refused: not_found, running, restarting."""

    id: str


@dataclass(frozen=True, slots=True)
class RestartChild:
    """Start a stopped child; with `force`, stop it before, and, as its strategy says, those that go with it. Costs no
    intensity. Answer: its epoch, once it has started. Refused: not_found, running, restarting, stopping."""

    id: str
    force: bool = False


@dataclass(frozen=True, slots=True)
class WhichChildren:
    """Answer: `[{id, kind, state, epoch, restarts}]` in start order."""


@dataclass(frozen=True, slots=True)
class CountChildren:
    """Answer: `{specs, active, supervisors, workers}`."""


Command = StartChild | TerminateChild | DeleteChild | RestartChild | WhichChildren | CountChildren


# Events: what the machine hears.


@dataclass(frozen=True, slots=True)
class Begin:
    """Start the children there are, in order."""


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Stop all children and end."""


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


Event = Begin | Shutdown | Asked | Noticed | Due | Tick


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
    """An incarnation is gone, or (reason `hung`) given up as lost; comes once for each that was spawned."""

    spec: ChildSpec
    incarnation: int
    epoch: int
    reason: ExitReason
    will_restart: bool


@dataclass(frozen=True, slots=True)
class GaveUp:
    """A child failed too often and is not started again; the others go on. Comes after its `Gone`."""

    spec: ChildSpec
    epoch: int
    reason: ExitReason


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
