"""The supervision machine: Erlang's supervisor as a value that hears events and returns effects. No I/O, no clock.

`step(event, now)` is all there is. Everything that takes several steps is a wave: children to be stopped, last first,
and then children to be started, first first, each when the one before it is done. The first start is a wave, so are a
restart (of one child, or of those that go with it) and the end. A wave that meets another one's children takes it over.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any, Literal

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import SHUTDOWN, Beat, ChildSpec, ExitReason, Started, StartFailed
from pop_actors.actors.restart_budget import RestartWindow
from pop_actors.actors.waves import Child, Wave, Waves, count, taken

KILL_SECONDS = 10.0
LATE_TICKS = 3.0

Phase = Literal["new", "starting", "running", "stopping", "ended"]


class Supervision:
    """The machine. `children` is in start order and may be read, not written, from outside."""

    def __init__(self, specs: Iterable[ChildSpec], policy: m.Policy, random: Callable[[], float]) -> None:
        """ValueError where the specs are at odds with the policy or each other. `random` gives [0, 1), for jitter."""
        self.policy = policy
        self.phase: Phase = "new"
        self.children: dict[str, Child] = {}
        self._random = random
        self._shared_window = self._new_window()
        self._numbers = itertools.count(1)
        self._alive: dict[int, Child] = {}
        self._timers: dict[int, Child | Wave] = {}
        self._waves = Waves()
        self._effects: list[m.Effect] = []
        self._now = 0.0
        self._last_tick: float | None = None
        self._end_reason = SHUTDOWN
        self._caller = 0
        self._commands: dict[type, Callable[[Any], None]] = {
            m.StartChild: self._start_child,
            m.TerminateChild: self._terminate_child,
            m.DeleteChild: self._delete_child,
            m.RestartChild: self._restart_child,
            m.WhichChildren: lambda _: self._answer([child.row() for child in self.children.values()]),
            m.CountChildren: lambda _: self._answer(count(self.children.values())),
        }
        for spec in specs:
            if spec.id in self.children:
                raise ValueError(f"two children are called {spec.id}")
            self._add(spec)

    def step(self, event: m.Event, now: float) -> list[m.Effect]:
        """What is to be done about an event at `now` (monotonic seconds), in this order."""
        if self.phase == "ended":
            return []
        self._now = now
        self._effects = []
        self._hear(event)
        for wave in self._waves:
            if self._advance(wave):
                self._waves.remove(wave)
                self._complete(wave)
        return self._effects

    def _hear(self, event: m.Event) -> None:
        if isinstance(event, m.Noticed):
            self._notice(event)
        elif isinstance(event, m.Asked):
            self._caller = event.caller
            self._commands[type(event.command)](event.command)
        elif isinstance(event, m.Due):
            self._due(event.timer)
        elif isinstance(event, m.Tick):
            self._tick()
        elif isinstance(event, m.Begin):
            self.phase = "starting"
            self._waves.add(Wave([], list(self.children), is_first=True))
        elif isinstance(event, m.Shutdown):
            self._end(SHUTDOWN)

    # Waves

    def _advance(self, wave: Wave) -> bool:
        """Do what the wave can do now; True when it is through."""
        wave.to_stop = [child_id for child_id in wave.to_stop if self._is_alive(child_id)]
        if wave.to_stop:
            for child_id in wave.to_stop if self.policy.dynamic else wave.to_stop[-1:]:
                self._stop(self.children[child_id])
            return False
        if wave.pause > 0:
            if wave.timer is None:
                wave.timer = self._set_timer(wave.pause, wave)
            return False
        return self._start_next(wave)

    def _start_next(self, wave: Wave) -> bool:
        while wave.to_start:
            child = self.children[wave.to_start[0]]
            if child.state != "running":
                if child.incarnation is None:
                    self._spawn(child)
                return False
            wave.to_start.pop(0)
        return True

    def _complete(self, wave: Wave) -> None:
        if wave.is_last:
            self.phase = "ended"
            self._effects.append(m.Finished(self._end_reason))
        elif wave.is_first:
            self.phase = "running"
            self._effects.append(m.Up())

    def _begin_wave(self, ids: set[str], pause: float = 0.0) -> None:
        """Stop and start these, together with what the waves they meet had still to do."""
        taken_over = self._waves.take_over(ids)
        for wave in taken_over:
            self._cancel_timer(wave)
        to_stop = ids.union(*(wave.to_stop for wave in taken_over))
        to_start = ids.union(*(wave.to_start for wave in taken_over))
        self._waves.add(
            Wave(
                [child_id for child_id in self.children if child_id in to_stop],
                [child_id for child_id in self.children if child_id in to_start and self.children[child_id].may_return],
                pause,
                is_first=any(wave.is_first for wave in taken_over),
            )
        )

    # One child

    def _add(self, spec: ChildSpec) -> Child:
        self.policy.check(spec)
        window = self._new_window() if self.policy.intensity_scope == "child" else self._shared_window
        child = self.children[spec.id] = Child(spec, window, spec.first_epoch)
        return child

    def _new_window(self) -> RestartWindow:
        return RestartWindow(self.policy.max_restarts, self.policy.period_seconds)

    def _is_alive(self, child_id: str) -> bool:
        child = self.children.get(child_id)
        return child is not None and child.incarnation is not None

    def _spawn(self, child: Child) -> None:
        child.restarts += bool(child.epoch)
        child.epoch, child.next_epoch = child.next_epoch, child.next_epoch + 1
        child.incarnation = next(self._numbers)
        child.started_at = None
        child.state = "starting"
        child.timer = self._set_timer(child.spec.start_seconds, child)
        self._alive[child.incarnation] = child
        self._effects.append(m.Spawn(child.spec, child.incarnation, child.epoch, child.because))
        child.because = None

    def _stop(self, child: Child) -> None:
        if child.state not in {"starting", "running"}:
            return
        assert child.incarnation is not None
        child.state = "stopping"
        self._cancel_timer(child)
        if child.spec.shutdown == "brutal_kill":
            self._kill(child)
            return
        message = child.spec.stop_message if child.stop_message is None else child.stop_message
        self._effects.append(m.AskToStop(child.incarnation, message))
        if child.spec.grace is not None:
            child.timer = self._set_timer(child.spec.grace, child)

    def _kill(self, child: Child) -> None:
        assert child.incarnation is not None
        child.state = "killing"
        self._cancel_timer(child)
        self._effects.append(m.Kill(child.incarnation))
        child.timer = self._set_timer(KILL_SECONDS, child)

    def _forget(self, child: Child) -> None:
        self._waves.leave_out(child.spec.id)
        self.children.pop(child.spec.id, None)

    def _rest(self, child: Child) -> None:
        """It is gone for good: keep the spec, or not."""
        child.state = "stopped"
        self._waves.leave_out(child.spec.id)
        if self.policy.dynamic or child.spec.restart == "temporary":
            self._forget(child)

    # Notices

    def _notice(self, event: m.Noticed) -> None:
        child = self._alive.get(event.incarnation)
        if child is None:
            return
        notice = event.notice
        if isinstance(notice, Beat):
            child.last_beat = self._now
        elif isinstance(notice, Started):
            self._started(child)
        else:
            self._gone(child, notice.reason, failed_start=isinstance(notice, StartFailed))

    def _started(self, child: Child) -> None:
        child.has_started = True
        if child.state != "starting":
            return
        child.state = "running"
        child.started_at = child.last_beat = self._now
        self._cancel_timer(child)
        self._effects.append(m.Ready(child.spec, child.epoch))
        for caller in taken(child.start_callers):
            self._effects.append(m.Answer(caller, child.epoch))

    def _gone(self, child: Child, reason: ExitReason, *, failed_start: bool) -> None:
        assert child.incarnation is not None
        is_stopped = child.state in {"stopping", "killing"} and child.verdict is None
        failed_start = failed_start or (child.started_at is None and reason.is_abnormal)
        reason, child.verdict = child.verdict or reason, None
        gone, child.incarnation = child.incarnation, None
        del self._alive[gone]
        self._cancel_timer(child)
        comes_back = (
            self._gone_as_asked(child)
            if is_stopped or self._waves.will_stop(child.spec.id)
            else self._gone_by_itself(child, reason, failed_start)
        )
        self._effects.insert(0, m.Gone(child.spec, gone, child.epoch, reason, comes_back))

    def _gone_as_asked(self, child: Child) -> bool:
        child.stop_message = None
        for caller in taken(child.stop_callers):
            self._effects.append(m.Answer(caller, None))
        if self._waves.will_start(child.spec.id):
            child.state = "restarting"
            return True
        self._refuse_starters(child, "terminated", "it was stopped")
        self._rest(child)
        return False

    def _gone_by_itself(self, child: Child, reason: ExitReason, failed_start: bool) -> bool:
        """Decide about a death nobody asked for; whether the child comes back."""
        child.state = "stopped"
        if failed_start and not child.has_started and self._waves.will_start_first(child.spec.id):
            self._end(ExitReason(reason.kind, f"child {child.spec.id} did not start: {reason}"))
            return False
        if reason.kind == "hung" and child.spec.kind != "process":
            self._end(reason)
            return False
        if not child.is_to_restart(self.policy, reason, failed_start=failed_start):
            self._over(child, reason, failed_start)
            return False
        if not child.can_afford(self.policy, reason, self._now):
            self._give_up(child, reason)
            return False
        self._restart(child, reason.kind)
        return True

    def _over(self, child: Child, reason: ExitReason, failed_start: bool) -> None:
        self._refuse_starters(child, "start_failed", str(reason))
        self._rest(child)
        if failed_start and not child.has_started:
            self._forget(child)
        elif child.spec.significant and not failed_start:
            significant = [other for other in self.children.values() if other.spec.significant and other is not child]
            others_live = any(other.state != "stopped" for other in significant)
            if self.policy.auto_shutdown == "any_significant" or not others_live:
                self._end(ExitReason("shutdown", f"significant child {child.spec.id} ended: {reason}"))

    def _give_up(self, child: Child, reason: ExitReason) -> None:
        text = (
            f"child {child.spec.id} failed too often ({self.policy.max_restarts} restarts are allowed), last: {reason}"
        )
        if self.policy.intensity_scope == "supervisor":
            self._end(ExitReason("shutdown", text))
            return
        self._effects.append(m.GaveUp(child.spec, child.epoch, reason))
        self._refuse_starters(child, "start_failed", text)
        self._rest(child)

    def _restart(self, child: Child, because: str) -> None:
        self._begin_wave(self._going_with(child), child.pause(self._random()))
        child.state = "restarting"
        child.because = because

    def _going_with(self, child: Child) -> set[str]:
        """The children that are restarted when this one is, by strategy; the others are told why they are."""
        ids = list(self.children)
        if self.policy.strategy == "one_for_one":
            ids = [child.spec.id]
        elif self.policy.strategy == "rest_for_one":
            ids = ids[ids.index(child.spec.id) :]
        for child_id in ids:
            if self.children[child_id].epoch:
                self.children[child_id].because = "group"
        return set(ids)

    # The end

    def _end(self, reason: ExitReason) -> None:
        """Stop all children, last first, and then finish; the first reason counts."""
        if self.phase == "stopping":
            return
        self.phase = "stopping"
        self._end_reason = reason
        for wave in self._waves:
            self._cancel_timer(wave)
        for child in self.children.values():
            self._refuse_starters(child, "stopping", f"the supervisor is ending: {reason}")
            if child.incarnation is None:
                child.state = "stopped"
        self._waves = Waves([Wave(list(self.children), [], is_last=True)])

    # Time

    def _set_timer(self, seconds: float, target: Child | Wave) -> int:
        timer = next(self._numbers)
        self._timers[timer] = target
        self._effects.append(m.SetTimer(timer, seconds))
        return timer

    def _cancel_timer(self, target: Child | Wave) -> None:
        if target.timer is not None and self._timers.pop(target.timer, None) is not None:
            self._effects.append(m.CancelTimer(target.timer))
        target.timer = None

    def _due(self, timer: int) -> None:
        target = self._timers.pop(timer, None)
        if isinstance(target, Wave):
            target.timer, target.pause = None, 0.0
        elif isinstance(target, Child):
            target.timer = None
            self._overdue(target)

    def _overdue(self, child: Child) -> None:
        if child.state == "starting":
            self._hang(child, f"did not start in {child.spec.start_seconds:g} s")
        elif child.state == "stopping" and child.spec.kind == "process":
            self._kill(child)
        else:
            reason = ExitReason("hung", f"child {child.spec.id} did not end when it was made to")
            self._end(reason)
            self._gone(child, reason, failed_start=False)

    def _tick(self) -> None:
        """Find who missed the heartbeat. Where the tick itself is late, this process was held up, not the children."""
        since = 0.0 if self._last_tick is None else self._now - self._last_tick
        self._last_tick = self._now
        for child in [known for known in self.children.values() if known.state == "running"]:
            if since > LATE_TICKS * self.policy.heartbeat_seconds:
                child.last_beat = self._now
            if self._now - child.last_beat > self.policy.heartbeat_deadline:
                self._hang(child, f"no heartbeat for {self._now - child.last_beat:.0f} s")
            elif child.spec.kind != "process":
                assert child.incarnation is not None
                self._effects.append(m.Ping(child.incarnation))

    def _hang(self, child: Child, why: str) -> None:
        """A process is killed and its death then taken for a failure. A thread cannot be: all of this has to end."""
        child.verdict = ExitReason("hung", why)
        if child.spec.kind == "process":
            self._kill(child)
        else:
            self._end(ExitReason("hung", f"child {child.spec.id}: {why}"))

    # Commands

    def _start_child(self, command: m.StartChild) -> None:
        known, limit = self.children.get(command.spec.id), self.policy.max_children
        if self.phase == "stopping":
            self._refuse("stopping", "the supervisor is ending")
        elif known is not None:
            code = "already_present" if known.state == "stopped" else "already_started"
            self._refuse(code, f"there is a child {command.spec.id} already, {known.state}")
        elif limit is not None and len(self.children) >= limit:
            self._refuse("max_children", f"there are {limit} children already, and no more are allowed")
        else:
            try:
                self._start_for_caller(self._add(command.spec))
            except ValueError as error:
                self._refuse("bad_spec", str(error))

    def _start_for_caller(self, child: Child) -> None:
        child.start_callers.append(self._caller)
        child.because = "asked" if child.epoch else None
        self._waves.add(Wave([], [child.spec.id]))

    def _terminate_child(self, command: m.TerminateChild) -> None:
        child = self._find(command.id)
        if child is None:
            return
        self._waves.leave_out(child.spec.id)
        self._refuse_starters(child, "terminated", "it was stopped")
        if child.incarnation is None:
            self._rest(child)
            self._answer(None)
            return
        child.stop_callers.append(self._caller)
        child.stop_message = command.message
        if child.state == "stopping" and command.message is not None:
            self._effects.append(m.AskToStop(child.incarnation, command.message))
        if self.phase != "stopping":
            self._waves.add(Wave([child.spec.id], []))

    def _delete_child(self, command: m.DeleteChild) -> None:
        child = self._find(command.id)
        if child is None:
            return
        if child.state == "stopped":
            self._forget(child)
            self._answer(None)
        else:
            code = "restarting" if child.state == "restarting" else "running"
            self._refuse(code, f"child {command.id} is {child.state}; terminate it first")

    def _restart_child(self, command: m.RestartChild) -> None:
        child = self._find(command.id)
        if child is None:
            return
        if self.phase == "stopping":
            self._refuse("stopping", "the supervisor is ending")
        elif child.state == "stopped":
            self._start_for_caller(child)
        elif command.force:
            child.start_callers.append(self._caller)
            self._begin_wave(self._going_with(child))
            child.because = "asked"
        else:
            code = "restarting" if child.state == "restarting" else "running"
            self._refuse(code, f"child {command.id} is {child.state}")

    def _find(self, child_id: str) -> Child | None:
        child = self.children.get(child_id)
        if child is None:
            self._refuse("not_found", f"there is no child {child_id}")
        return child

    def _answer(self, value: Any) -> None:
        self._effects.append(m.Answer(self._caller, value))

    def _refuse(self, code: str, message: str) -> None:
        self._effects.append(m.Refuse(self._caller, code, message))

    def _refuse_starters(self, child: Child, code: str, message: str) -> None:
        for caller in taken(child.start_callers):
            self._effects.append(m.Refuse(caller, code, f"child {child.spec.id} did not start: {message}"))
