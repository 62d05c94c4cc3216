"""What a supervisor and a child of any kind say to each other: specs, launches, notices, reasons.

Starters (`actor.thread`, `supervisor.supervisor`, `process_child.process`) are written against this page and nothing
else. Only values here: no thread, no clock, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pop_actors.actors.registry import Registry
from pop_actors.actors.restart_budget import Backoff

Restart = Literal["permanent", "transient", "temporary"]
ChildKind = Literal["thread", "process", "supervisor"]
Shutdown = float | Literal["brutal_kill", "infinity"]
ReasonKind = Literal["normal", "shutdown", "exception", "exit", "signal", "hung", "timeout"]

SHUTDOWN_SECONDS = 5.0
START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class ExitReason:
    """Why a child is gone.

    normal: it ended itself. shutdown: it was asked to. exception: out of its code. exit: `SystemExit`, or a process's
    exit code. signal: a process was killed. hung: it did not beat, start or stop in time. timeout: its work took too
    long. `detail` is for people.
    """

    kind: ReasonKind
    detail: str = ""

    @property
    def is_abnormal(self) -> bool:
        """Whether a transient child is started again after it."""
        return self.kind not in {"normal", "shutdown"}

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


NORMAL = ExitReason("normal")
SHUTDOWN = ExitReason("shutdown")


@dataclass(frozen=True, slots=True)
class Started:
    """The child is ready; comes once, before anything else but `StartFailed`."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The child never got ready and is gone; the only notice of its death."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Exited:
    """A child that had started is gone; the only notice of its death."""

    reason: ExitReason


@dataclass(frozen=True, slots=True)
class Beat:
    """The child still turns. Process children send it by themselves, others in answer to a `Ping`."""


ChildNotice = Started | StartFailed | Exited | Beat
Notify = Callable[[ChildNotice], None]


def nobody(_notice: ChildNotice) -> None:
    """The parent of an actor that has none."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What a starter is handed. `notify` belongs to this incarnation, may be called from any thread and returns at
    once. `registry` is where the child is to be found by its address."""

    address: str
    epoch: int
    notify: Notify
    registry: Registry = field(default_factory=Registry)


class RunningChild(Protocol):
    """A child that was launched, as its supervisor holds it. Every method returns at once; any thread may call them."""

    @property
    def pid(self) -> int | None:
        """The process it is, if it is one of its own and there already."""

    def request_stop(self, message: object | None = None) -> None:
        """Ask it to end: with `message`, where one is given, else in its kind's own way."""

    def kill(self) -> bool:
        """End it by force. False where that cannot be done (a thread) or it is gone already."""

    def snapshot(self) -> dict[str, Any]:
        """What it is doing now, JSON-able; `mailbox` (messages waiting) and `children` are read by the tree."""


Starter = Callable[[Launch], RunningChild]


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start, restart and stop one child.

    `start` launches it and returns at once; it may raise, which is a failed start. `shutdown`: seconds between the
    polite stop and the forced one (default: 5, for supervisors infinity). `stop_message` goes to `request_stop`.
    `start_seconds`: how long it may take to report `Started`. `first_epoch`: number of its first incarnation.
    """

    id: str
    start: Starter
    restart: Restart = "permanent"
    shutdown: Shutdown | None = None
    kind: ChildKind = "thread"
    significant: bool = False
    backoff: Backoff | None = None
    first_epoch: int = 1
    stop_message: object | None = None
    start_seconds: float = START_SECONDS

    def __post_init__(self) -> None:
        if self.shutdown == "brutal_kill" and self.kind != "process":
            raise ValueError(f"child {self.id}: brutal_kill is for processes, a {self.kind} cannot be killed")
        if self.significant and self.restart == "permanent":
            raise ValueError(f"child {self.id}: a permanent child cannot be significant, it never ends for good")

    @property
    def grace(self) -> float | None:
        """Seconds it is given to stop politely; None: as long as it takes."""
        if self.shutdown is None:
            return None if self.kind == "supervisor" else SHUTDOWN_SECONDS
        if self.shutdown == "infinity":
            return None
        return 0.0 if self.shutdown == "brutal_kill" else self.shutdown
