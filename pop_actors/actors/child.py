"""What a supervisor and a child of any kind say to each other: specs, launches, notices.

Starters (`actor.thread`, `supervisor.supervisor`, `process_child.process`) are written against this page and nothing
else. Only values here: no thread, no clock, no I/O.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol, get_args

from pop_actors.actors.exits import NORMAL, SHUTDOWN, ExitReason, ReasonKind, a_reason
from pop_actors.actors.registry import Registry
from pop_actors.actors.reports import ReportListener, unreported
from pop_actors.actors.restart_budget import Backoff, is_number
from pop_actors.actors.timers import Timers

__all__ = [
    "NORMAL",
    "SHUTDOWN",
    "Beat",
    "ChildKind",
    "ChildNotice",
    "ChildSpec",
    "ExitReason",
    "Exited",
    "KindedStarter",
    "Launch",
    "Notify",
    "ReasonKind",
    "Restart",
    "RunningChild",
    "Shutdown",
    "StartFailed",
    "Started",
    "Starter",
    "nobody",
]

ChildKind = Literal["thread", "process", "supervisor"]
Shutdown = float | Literal["brutal_kill", "infinity"]

SHUTDOWN_SECONDS = 5.0
START_SECONDS = 60.0


class Restart(StrEnum):
    """When a child that ended by itself is started again; the plain strings do as well.

    permanent: always. transient: after an abnormal exit. temporary: never, and its spec goes with it.
    """

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class Started:
    """The child is ready; comes once, before anything else but `StartFailed`."""


@dataclass(frozen=True, slots=True)
class StartFailed:
    """The child never got ready and is gone; the only notice of its death. With reason `normal` it has nothing to do:
    no failure, and no child either (OTP's `ignore`)."""

    reason: ExitReason

    def __post_init__(self) -> None:
        a_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Exited:
    """A child that had started is gone; the only notice of its death."""

    reason: ExitReason

    def __post_init__(self) -> None:
        a_reason(self.reason)


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
    once. `registry` is where the child is to be found by its address. A supervisor that was given no `timers` or
    `report` of its own uses its parent's."""

    address: str
    epoch: int
    notify: Notify
    registry: Registry = field(default_factory=Registry)
    timers: Timers | None = None
    report: ReportListener = unreported


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
class KindedStarter:
    """A starter that knows what kind of child it launches, so that the spec need not say it."""

    kind: ChildKind
    start: Starter

    def __call__(self, launch: Launch) -> RunningChild:
        return self.start(launch)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """How to start, restart and stop one child. ValueError, or TypeError, where it makes no sense.

    id               unique among its siblings; the child's address is its supervisor's `prefix` and this
    start            launches it and returns at once: `thread(Class, …)`, `supervisor(…)`, `system.process(Class, …)`;
                     it may raise, which is a failed start
    restart          see `Restart`
    shutdown         seconds between the polite stop and the forced one (None: 5, and for supervisors infinity),
                     "infinity", or, for what can be killed (processes, supervisors), "brutal_kill": no polite stop
    kind             thread, process or supervisor: known from the starter, unless that is one of your own
    significant      its end may end its supervisor: see `AutoShutdown`
    backoff          pauses between restarts; None: there are none
    first_epoch      the number of its first incarnation
    stop_message     what it is asked to stop with, where its kind's own way will not do
    start_seconds    how long it may take to report `Started`
    """

    id: str
    start: Starter
    restart: Restart | Literal["permanent", "transient", "temporary"] = "permanent"
    shutdown: Shutdown | None = None
    kind: ChildKind = None  # type: ignore[assignment]  # settled below, where nobody names it
    significant: bool = False
    backoff: Backoff | None = None
    first_epoch: int = 1
    stop_message: object | None = None
    start_seconds: float = START_SECONDS

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise TypeError(f"a child's id is a string that is not empty, not {self.id!r}")
        if not callable(self.start):
            raise TypeError(f"child {self.id}: start is a starter such as thread(Class), not {self.start!r}")
        if isinstance(self.start, type) and hasattr(self.start, "start_and_wait"):
            raise TypeError(f"child {self.id}: an actor's class is no starter; write thread({self.start.__name__}, …)")
        self._settle_kind()
        self._check_stop()
        self._check_restart()
        if not (is_number(self.start_seconds) and self.start_seconds > 0):
            raise ValueError(
                f"child {self.id}: start_seconds is a number of seconds above 0, not {self.start_seconds!r}"
            )

    def _check_restart(self) -> None:
        if self.restart not in list(Restart):
            raise ValueError(f"child {self.id}: restart is permanent, transient or temporary, not {self.restart!r}")
        if not isinstance(self.significant, bool):
            raise TypeError(f"child {self.id}: significant is True or False, not {self.significant!r}")
        if self.significant and self.restart == "permanent":
            raise ValueError(f"child {self.id}: a permanent child cannot be significant, it never ends for good")
        if not isinstance(self.backoff, Backoff | None):
            raise TypeError(f"child {self.id}: backoff is a Backoff(minimum, maximum, …), not {self.backoff!r}")
        if not _is_count(self.first_epoch):
            raise ValueError(f"child {self.id}: first_epoch is a whole number from 1 on, not {self.first_epoch!r}")

    def _settle_kind(self) -> None:
        said: ChildKind | None = self.kind
        known = self.start.kind if isinstance(self.start, KindedStarter) else None
        if said is None:
            object.__setattr__(self, "kind", known or "thread")
        elif known not in {None, said}:
            raise ValueError(f"child {self.id}: its starter launches a {known}; kind says {said!r}, leave it out")

    def _check_stop(self) -> None:
        if self.kind not in get_args(ChildKind):
            raise ValueError(f"child {self.id}: kind is thread, process or supervisor, not {self.kind!r}")
        if not _is_shutdown(self.shutdown):
            raise ValueError(
                f"child {self.id}: shutdown is seconds from 0 on, infinity or brutal_kill, not {self.shutdown!r}"
            )
        if self.shutdown == "brutal_kill" and self.kind == "thread":
            raise ValueError(
                f"child {self.id}: brutal_kill is for processes, a thread cannot be killed; give it seconds"
            )
        if self.shutdown is None:
            object.__setattr__(self, "shutdown", "infinity" if self.kind == "supervisor" else SHUTDOWN_SECONDS)

    @property
    def grace(self) -> float | None:
        """Seconds it is given to stop politely; None: as long as it takes."""
        if self.shutdown in {"infinity", math.inf}:
            return None
        return 0.0 if self.shutdown == "brutal_kill" else float(self.shutdown or 0)

    @property
    def can_be_killed(self) -> bool:
        """Whether it can be ended by force: a process is killed; a supervisor then kills, or abandons, its children."""
        return self.kind != "thread"


def _is_shutdown(value: object) -> bool:
    if isinstance(value, int | float):
        return is_number(value) and value >= 0
    return value is None or value in ("brutal_kill", "infinity")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
