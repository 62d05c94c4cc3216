"""What the supervision machine keeps in mind: its children, and the waves of stops and starts under way. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pop_actors.actors.child import ChildSpec, ExitReason
from pop_actors.actors.restart_budget import RestartWindow
from pop_actors.actors.supervision_messages import Policy

ChildState = Literal["stopped", "restarting", "starting", "running", "stopping", "killing"]


@dataclass(eq=False, slots=True)
class Child:
    """One child: its spec, and what is known of its present incarnation (None: there is none)."""

    spec: ChildSpec
    window: RestartWindow
    next_epoch: int
    epoch: int = 0
    state: ChildState = "stopped"
    incarnation: int | None = None
    has_started: bool = False
    started_at: float | None = None
    last_beat: float = 0.0
    restarts: int = 0
    failures: int = 0
    because: str | None = None
    verdict: ExitReason | None = None
    timer: int | None = None
    stop_message: object | None = None
    start_callers: list[int] = field(default_factory=list)
    stop_callers: list[int] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """What `WhichChildren` tells of it."""
        return {
            "id": self.spec.id,
            "kind": self.spec.kind,
            "state": self.state,
            "epoch": self.epoch,
            "restarts": self.restarts,
        }

    @property
    def may_return(self) -> bool:
        """A temporary child that has run is not started again, not even with its siblings."""
        return self.spec.restart != "temporary" or not self.epoch

    def is_to_restart(self, policy: Policy, reason: ExitReason, *, failed_start: bool) -> bool:
        """Whether a death that nobody asked for is made up for. A very first start that failed is tried again only
        where the child has a budget of its own."""
        if failed_start and not self.has_started and policy.intensity_scope != "child":
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


@dataclass(eq=False, slots=True)
class Wave:
    """Children to stop, then children to start, both in start order, with a pause (s) in between."""

    to_stop: list[str]
    to_start: list[str]
    pause: float = 0.0
    timer: int | None = None
    is_first: bool = False
    is_last: bool = False


class Waves:
    """The waves under way; iterating allows to change them."""

    def __init__(self, waves: Iterable[Wave] = ()) -> None:
        self._waves = list(waves)

    def __iter__(self) -> Iterator[Wave]:
        return iter(tuple(self._waves))

    def add(self, wave: Wave) -> None:
        self._waves.append(wave)

    def remove(self, wave: Wave) -> None:
        self._waves.remove(wave)

    def take_over(self, ids: set[str]) -> list[Wave]:
        """The waves that have any of these to stop or to start; they are off the list now."""
        met = [wave for wave in self._waves if not ids.isdisjoint([*wave.to_stop, *wave.to_start])]
        self._waves = [wave for wave in self._waves if wave not in met]
        return met

    def leave_out(self, child_id: str) -> None:
        """Have no wave start it."""
        for wave in self._waves:
            if child_id in wave.to_start:
                wave.to_start.remove(child_id)

    def will_stop(self, child_id: str) -> bool:
        return any(child_id in wave.to_stop for wave in self._waves)

    def will_start(self, child_id: str) -> bool:
        return any(child_id in wave.to_start for wave in self._waves)

    def will_start_first(self, child_id: str) -> bool:
        """Whether its start is part of the supervisor's own."""
        return any(wave.is_first and child_id in wave.to_start for wave in self._waves)


def taken(callers: list[int]) -> tuple[int, ...]:
    """The callers, who are off the list now."""
    off = tuple(callers)
    callers.clear()
    return off


def count(children: Iterable[Child]) -> dict[str, int]:
    """What `CountChildren` tells."""
    known = list(children)
    supervisors = sum(child.spec.kind == "supervisor" for child in known)
    active = sum(child.incarnation is not None for child in known)
    return {"specs": len(known), "active": active, "supervisors": supervisors, "workers": len(known) - supervisors}
