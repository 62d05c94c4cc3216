"""What the supervision machine keeps in mind: its children, and the waves of stops and starts under way. No I/O.

A wave is children to be stopped, last first, and then children to be started, first first, each when the one before it
is done. A child is in one wave at most, so that what happens to a child concerns that one alone: nothing here is
searched, and a thousand waves cost no more each than one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pop_actors.actors.child import ChildSpec
from pop_actors.actors.exits import ExitReason
from pop_actors.actors.policy import Policy
from pop_actors.actors.restart_budget import RestartWindow

ChildState = Literal["stopped", "waiting", "restarting", "starting", "running", "stopping", "killing"]


@dataclass(eq=False, slots=True)
class Child:
    """One child: its spec, and what is known of its present incarnation (None: there is none)."""

    spec: ChildSpec
    place: int
    """Its rank in start order."""
    window: RestartWindow
    next_epoch: int
    epoch: int = 0
    state: ChildState = "stopped"
    incarnation: int | None = None
    has_started: bool = False
    """Whether it ever came through a start, were it to find that it had nothing to do."""
    is_by_hand: bool = False
    """Whether its present start was asked for: a failure is then the asker's to know, and not made up for."""
    is_recovering: bool = False
    """Whether it was lost, or taken down with its group, and is not back yet."""
    started_at: float | None = None
    last_beat: float = 0.0
    restarts: int = 0
    failures: int = 0
    because: str | None = None
    verdict: ExitReason | None = None
    timer: int | None = None
    wave: Wave | None = None
    stop_message: object | None = None
    start_callers: list[int] = field(default_factory=list)
    stop_callers: list[int] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """What `WhichChildren` tells of it."""
        return {
            "id": self.spec.id,
            "kind": self.spec.kind,
            "restart": str(self.spec.restart),
            "state": self.shown_state,
            "epoch": self.epoch,
            "restarts": self.restarts,
        }

    @property
    def shown_state(self) -> ChildState:
        """Its state as others should see it: one that is in the middle of being restarted is not there yet."""
        return "restarting" if self.state == "starting" and self.is_recovering else self.state

    @property
    def may_return(self) -> bool:
        """A temporary child that has run is not started again, not even with its siblings."""
        return self.spec.restart != "temporary" or not self.epoch

    @property
    def will_stop(self) -> bool:
        return self.wave is not None and self in self.wave.to_stop

    @property
    def will_start(self) -> bool:
        return self.wave is not None and self in self.wave.to_start

    @property
    def will_start_first(self) -> bool:
        """Whether its start is part of the supervisor's own."""
        return self.wave is not None and self.wave.is_first and self in self.wave.to_start

    def is_to_restart(self, policy: Policy, reason: ExitReason, *, failed_start: bool) -> bool:
        """Whether a death that nobody asked for is made up for. A start that was asked for, or the very first, is tried
        again only where the child has a budget of its own."""
        if failed_start and (self.is_by_hand or not self.has_started) and policy.intensity_scope != "child":
            return False
        if self.spec.restart == "transient":
            return failed_start or reason.is_abnormal
        return self.spec.restart == "permanent"

    def can_afford(self, policy: Policy, reason: ExitReason, now: float) -> bool:
        """Charge one restart to the window and, since pauses would never let it fill, to the failures in a row."""
        if reason.kind in policy.free_reasons:
            return True
        backoff = self.spec.backoff
        was_calm = backoff and self.started_at is not None and now - self.started_at >= backoff.reset_after
        self.failures = 1 if was_calm else self.failures + 1
        is_within = self.window.charge(now)
        return is_within and (backoff is None or self.failures <= policy.max_restarts)

    def pause(self, random: float) -> float:
        """Seconds to wait before the restart just afforded."""
        backoff = self.spec.backoff
        return 0.0 if backoff is None else backoff.delay(max(0, self.failures - 1), random)


Children = OrderedDict[Child, None]
"""Children in start order, of which any one is taken out at once."""


@dataclass(eq=False, slots=True)
class Wave:
    """Children to stop, then children to start, both in start order, with a pause (s) in between. `at_once`: the stops
    do not wait for each other."""

    to_stop: Children
    to_start: Children
    pause: float = 0.0
    timer: int | None = None
    is_first: bool = False
    is_last: bool = False
    at_once: bool = False
    is_over: bool = False


class Waves:
    """The waves under way, and which of them have something to do now."""

    def __init__(self) -> None:
        self._restless: deque[Wave] = deque()

    def begin(
        self,
        to_stop: Iterable[Child],
        to_start: Iterable[Child],
        pause: float = 0.0,
        *,
        is_first: bool = False,
        is_last: bool = False,
        at_once: bool = False,
    ) -> tuple[Wave, list[Wave]]:
        """A new wave, and those whose children it takes over, together with what they had still to do; they are over.
        The last wave takes over nothing to start."""
        stops, starts = set(to_stop), set(to_start)
        met = list({id(child.wave): child.wave for child in stops | starts if child.wave is not None}.values())
        for wave in met:
            wave.is_over = True
            stops.update(wave.to_stop)
            starts.update(() if is_last else wave.to_start)
            for child in (*wave.to_stop, *wave.to_start):
                child.wave = None
        made = Wave(
            _in_order(child for child in stops if child.incarnation is not None),
            _in_order(child for child in starts if child.may_return),
            pause,
            is_first=is_first or any(wave.is_first for wave in met),
            is_last=is_last,
            at_once=at_once,
        )
        for child in (*made.to_stop, *made.to_start):
            child.wave = made
        for child in made.to_start:
            if child.state == "stopped":
                child.state = "waiting"
        self.wake(made)
        return made, met

    def wake(self, wave: Wave) -> None:
        """It may have something to do."""
        self._restless.append(wave)

    def next(self) -> Wave | None:
        """One that may have something to do; None when all are at rest."""
        while self._restless:
            wave = self._restless.popleft()
            if not wave.is_over:
                return wave
        return None

    def is_stopped(self, child: Child) -> None:
        """It is gone, so no wave has to stop it."""
        if child.wave is not None:
            child.wave.to_stop.pop(child, None)
            self._release(child, child.wave)

    def leave_out(self, child: Child) -> None:
        """It has started, or is not to be: no wave has to start it."""
        if child.wave is not None:
            child.wave.to_start.pop(child, None)
            self._release(child, child.wave)

    def _release(self, child: Child, wave: Wave) -> None:
        if child not in wave.to_stop and child not in wave.to_start:
            child.wave = None
        self.wake(wave)


def _in_order(children: Iterable[Child]) -> Children:
    return OrderedDict.fromkeys(sorted(children, key=lambda child: child.place))


def taken(callers: list[int]) -> tuple[int, ...]:
    """The callers, who are off the list now."""
    off = tuple(callers)
    callers.clear()
    return off


def count(children: Iterable[Child]) -> dict[str, int]:
    """What `CountChildren` tells."""
    known = list(children)
    supervisors = sum(child.spec.kind == "supervisor" for child in known)
    active = sum(child.state in {"running", "stopping", "killing"} for child in known)
    return {"specs": len(known), "active": active, "supervisors": supervisors, "workers": len(known) - supervisors}
