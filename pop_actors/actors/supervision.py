"""The supervision machine: Erlang's supervisor as a value that hears events and returns effects. No I/O, no clock.

`step(event, now)` is all there is. This half takes commands and looks after heartbeats; what becomes of the children is
decided in `lifecycle`, and what goes in and out is in `supervision_messages`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import ChildSpec
from pop_actors.actors.lifecycle import Lifecycle, Phase
from pop_actors.actors.policy import Policy, check_child_specs
from pop_actors.actors.waves import Child, count


class Supervision:
    """The machine."""

    def __init__(self, specs: Iterable[ChildSpec], policy: Policy, random: Callable[[], float]) -> None:
        """ValueError where the specs are at odds with the policy or each other, TypeError where they are none. `random`
        gives [0, 1), for jitter."""
        if not isinstance(policy, Policy):
            raise TypeError(f"a supervisor's policy is a Policy(strategy, max_restarts, …), not {policy!r}")
        check_child_specs(specs := tuple(_listed(specs)), policy)
        self.policy = policy
        self._life = Lifecycle(policy, random)
        self._caller = 0
        self._last_tick = 0.0
        self._events: dict[type, Callable[[Any], None]] = {
            m.Begin: lambda _: self._begin(),
            m.Shutdown: lambda event: self._life.end(event.reason),
            m.Collapse: lambda event: self._life.collapse(event.reason),
            m.Asked: self._asked,
            m.Noticed: lambda event: self._life.notice(event.incarnation, event.notice),
            m.Due: lambda event: self._life.due(event.timer),
            m.Tick: lambda _: self._tick(),
        }
        self._commands: dict[type, Callable[[Any], None]] = {
            m.StartChild: self._start_child,
            m.TerminateChild: self._terminate_child,
            m.DeleteChild: self._delete_child,
            m.RestartChild: self._restart_child,
            m.GetChildSpec: self._get_child_spec,
            m.WhichChildren: lambda _: self._answer([child.row() for child in self.children.values()]),
            m.CountChildren: lambda _: self._answer(count(self.children.values())),
        }
        for spec in specs:
            self._life.add(spec)

    @property
    def phase(self) -> Phase:
        return self._life.phase

    @property
    def is_ended(self) -> bool:
        """Whether all children are gone, for good."""
        return self._life.phase == "ended"

    @property
    def children(self) -> Mapping[str, Child]:
        """In start order; may be read from outside."""
        return self._life.children

    def step(self, event: m.Event, now: float) -> list[m.Effect]:
        """What is to be done about an event at `now` (monotonic seconds), in this order."""
        life = self._life
        if life.phase == "ended":
            return []
        life.now = now
        life.effects = []
        self._events[type(event)](event)
        life.advance()
        return life.effects

    def _begin(self) -> None:
        self._last_tick = self._life.now
        self._life.begin()

    # Heartbeats

    def _tick(self) -> None:
        """Find who missed the heartbeat. For as long as the tick itself is late, this process was held up (stopped, or
        the machine was suspended), and nobody's silence counts."""
        now = self._life.now
        held_up = max(0.0, now - self._last_tick - self.policy.heartbeat_seconds)
        self._last_tick = now
        for child in [known for known in self.children.values() if known.state == "running"]:
            child.last_beat = min(now, child.last_beat + held_up)
            if now - child.last_beat > self.policy.heartbeat_deadline:
                self._life.hang(child, f"no heartbeat for {now - child.last_beat:.3g} s")
            elif child.spec.kind != "process":
                assert child.incarnation is not None
                self._life.effects.append(m.Ping(child.incarnation))

    # Commands

    def _asked(self, event: m.Asked) -> None:
        self._caller = event.caller
        self._commands[type(event.command)](event.command)

    def _start_child(self, command: m.StartChild) -> None:
        try:
            self.policy.check(command.spec)
        except (TypeError, ValueError) as error:
            self._refuse("bad_spec", str(error))
            return
        known, limit = self.children.get(command.spec.id), self.policy.max_children
        if self.phase == "stopping":
            self._refuse("stopping", "the supervisor is ending")
        elif known is not None:
            is_there = known.shown_state in {"starting", "running", "stopping", "killing"}
            code = "already_started" if is_there else "already_present"
            self._refuse(code, f"there is a child {command.spec.id} already, {known.shown_state}")
        elif limit is not None and len(self.children) >= limit:
            self._refuse("max_children", f"there are {limit} children already, and no more are allowed")
        else:
            self._start_for_caller(self._life.add(command.spec))

    def _start_for_caller(self, child: Child) -> None:
        child.start_callers.append(self._caller)
        self._life.start(child)

    def _terminate_child(self, command: m.TerminateChild) -> None:
        child = self._find(command.id)
        if child is None:
            return
        self._life.call_off(child)
        self._life.refuse_starters(child, "terminated", "it was stopped")
        if child.incarnation is None:
            self._life.rest(child)
            self._answer(None)
            return
        child.stop_callers.append(self._caller)
        child.stop_message = command.message
        if child.state == "stopping" and command.message is not None:
            self._life.effects.append(m.AskToStop(child.incarnation, command.message))
        if not child.will_stop:  # else its turn comes
            self._life.stop(child)

    def _delete_child(self, command: m.DeleteChild) -> None:
        child = self._find(command.id)
        if child is None:
            return
        if child.state == "stopped":
            self._life.forget(child)
            self._answer(None)
        else:
            self._refuse_as_it_is(child, "terminate it first")

    def _restart_child(self, command: m.RestartChild) -> None:
        child = self._find(command.id)
        if child is None:
            return
        if self.phase == "stopping":
            self._refuse("stopping", "the supervisor is ending")
        elif child.state == "stopped":
            self._start_for_caller(child)
        elif not command.force:
            self._refuse_as_it_is(child, "terminate it first, or use force")
        elif not child.may_return:
            self._refuse("temporary", f"child {command.id} is temporary, and so is never started again")
        else:
            child.start_callers.append(self._caller)
            self._life.restart_with_group(child, "asked")

    def _get_child_spec(self, command: m.GetChildSpec) -> None:
        child = self._find(command.id)
        if child is not None:
            self._answer(child.spec)

    def _find(self, child_id: str) -> Child | None:
        child = self.children.get(child_id) if isinstance(child_id, str) else None
        if child is None:
            self._refuse("not_found", f"there is no child {child_id}")
        return child

    def _answer(self, value: Any) -> None:
        self._life.effects.append(m.Answer(self._caller, value))

    def _refuse(self, code: str, message: str) -> None:
        self._life.effects.append(m.Refuse(self._caller, code, message))

    def _refuse_as_it_is(self, child: Child, advice: str) -> None:
        code = "restarting" if child.shown_state in {"waiting", "restarting"} else "running"
        self._refuse(code, f"child {child.spec.id} is {child.shown_state}; {advice}")


def _listed(specs: Iterable[ChildSpec]) -> Iterable[ChildSpec]:
    if isinstance(specs, Iterable):
        return specs
    raise TypeError(f"a supervisor's specs are a list of ChildSpecs, not {specs!r}")
