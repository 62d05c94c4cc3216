"""A world without threads for the supervision machine: a clock that is set by hand, and children that are entries."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import (
    NORMAL,
    SHUTDOWN,
    ChildNotice,
    ChildSpec,
    Exited,
    ExitReason,
    Launch,
    RunningChild,
    Started,
    StartFailed,
)
from pop_actors.actors.policy import Policy
from pop_actors.actors.supervision import Supervision

CRASH = ExitReason("exception", "boom")


def never_launched(_launch: Launch) -> RunningChild:
    raise AssertionError("the world launches nothing")


def spec(child_id: str, **more: Any) -> ChildSpec:
    return ChildSpec(child_id, never_launched, **more)


@dataclass
class Entry:
    """One incarnation that is alive."""

    spec: ChildSpec
    epoch: int
    incarnation: int


class World:
    """Carries out effects. Children start and stop at once, unless their ids are in `slow_starts` or `deaf`; the `idle`
    start to find that they have nothing to do, the `immortal` survive being killed."""

    def __init__(self, *specs: ChildSpec, jitter: float = 0.0, **policy: Any) -> None:
        self.now = 1000.0
        self.machine = Supervision(specs, Policy(**policy), lambda: jitter)
        self.alive: dict[int, Entry] = {}
        self.seen: list[m.Effect] = []
        self.words: list[str] = []
        self.slow_starts: set[str] = set()
        self.failing_starts: set[str] = set()
        self.idle: set[str] = set()
        self.immortal: set[str] = set()
        self.deaf: set[str] = set()
        self._timers: dict[int, float] = {}
        self._notices: deque[tuple[int, ChildNotice]] = deque()
        self._callers = 0

    def send(self, event: m.Event) -> None:
        """An event, and everything that follows from it at once."""
        self._carry_out(self.machine.step(event, self.now))
        while self._notices:
            incarnation, notice = self._notices.popleft()
            if not isinstance(notice, Started):
                self.alive.pop(incarnation, None)
            self._carry_out(self.machine.step(m.Noticed(incarnation, notice), self.now))

    def begin(self) -> None:
        self.send(m.Begin())

    def ask(self, command: m.Command) -> int:
        self._callers += 1
        self.send(m.Asked(self._callers, command))
        return self._callers

    def outcome(self, caller: int) -> object:
        """What the caller was told: ("ok", value), ("no", code), or None while nothing."""
        told: list[object] = [("ok", e.value) for e in self.seen if isinstance(e, m.Answer) and e.caller == caller]
        told += [("no", e.code) for e in self.seen if isinstance(e, m.Refuse) and e.caller == caller]
        assert len(told) <= 1, "a caller was told twice"
        return told[0] if told else None

    def notice(self, child_id: str, notice: ChildNotice) -> None:
        """A living child says something."""
        incarnation = self.entry(child_id).incarnation
        if not isinstance(notice, Started) and isinstance(notice, Exited | StartFailed):
            del self.alive[incarnation]
        self.send(m.Noticed(incarnation, notice))

    def crash(self, child_id: str, reason: ExitReason = CRASH) -> None:
        self.notice(child_id, Exited(reason))

    def entry(self, child_id: str) -> Entry:
        (found,) = (entry for entry in self.alive.values() if entry.spec.id == child_id)
        return found

    def alive_ids(self) -> list[str]:
        return sorted(entry.spec.id for entry in self.alive.values())

    def advance(self, seconds: float) -> None:
        """Let time pass; timers that come due on the way go off at their moment."""
        end = self.now + seconds
        while self._timers and min(self._timers.values()) <= end:
            timer = min(self._timers, key=lambda known: (self._timers[known], known))
            self.now = max(self.now, self._timers.pop(timer))
            self.send(m.Due(timer))
        self.now = end

    def row(self, child_id: str) -> dict[str, Any]:
        """What `WhichChildren` says of a child."""
        outcome = self.outcome(self.ask(m.WhichChildren()))
        assert isinstance(outcome, tuple)
        (found,) = (row for row in outcome[1] if row["id"] == child_id)
        return dict(found)

    def state(self, child_id: str) -> str:
        return str(self.row(child_id)["state"])

    def next_timer(self) -> float | None:
        """Seconds until the next timer goes off."""
        return min(self._timers.values()) - self.now if self._timers else None

    def of(self, *kinds: type) -> list[Any]:
        return [effect for effect in self.seen if isinstance(effect, kinds)]

    def take_words(self) -> str:
        """What was done since the last call, as `+id` (launched), `-id` (asked to stop) and `!id` (killed)."""
        words, self.words = self.words, []
        return " ".join(words)

    def timers(self) -> set[int]:
        """The timers that are set."""
        return set(self._timers)

    @property
    def end(self) -> ExitReason | None:
        ends = self.of(m.Finished)
        assert len(ends) <= 1, "the supervisor ended twice"
        return ends[0].reason if ends else None

    def _carry_out(self, effects: list[m.Effect]) -> None:
        for effect in effects:
            self.seen.append(effect)
            if isinstance(effect, m.Spawn):
                self._spawn(effect)
            elif isinstance(effect, m.AskToStop):
                self._ask_to_stop(self.alive[effect.incarnation])
            elif isinstance(effect, m.Gone):
                self.alive.pop(effect.incarnation, None)
            elif isinstance(effect, m.Kill):
                self._kill(self.alive[effect.incarnation])
            elif isinstance(effect, m.SetTimer):
                self._timers[effect.timer] = self.now + effect.seconds
            elif isinstance(effect, m.CancelTimer):
                self._timers.pop(effect.timer, None)

    def _spawn(self, effect: m.Spawn) -> None:
        child_id = effect.spec.id
        self.words.append(f"+{child_id}")
        self.alive[effect.incarnation] = Entry(effect.spec, effect.epoch, effect.incarnation)
        if child_id in self.failing_starts:
            self._notices.append((effect.incarnation, StartFailed(CRASH)))
        elif child_id in self.idle:
            self._notices.append((effect.incarnation, StartFailed(NORMAL)))
        elif child_id not in self.slow_starts:
            self._notices.append((effect.incarnation, Started()))

    def _kill(self, entry: Entry) -> None:
        self.words.append(f"!{entry.spec.id}")
        if entry.spec.id not in self.immortal:
            self._notices.append((entry.incarnation, Exited(ExitReason("signal", "SIGKILL"))))

    def _ask_to_stop(self, entry: Entry) -> None:
        self.words.append(f"-{entry.spec.id}")
        if entry.spec.id not in self.deaf:
            self._notices.append((entry.incarnation, Exited(SHUTDOWN)))
