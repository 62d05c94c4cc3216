"""What becomes of a supervisor's children: launched, stopped, gone, restarted in waves; and the end of them all.

The lower half of the supervision machine (`supervision`), which alone calls it. Decides and appends effects; no I/O.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Literal

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.child import Beat, ChildNotice, ChildSpec, Started, StartFailed
from pop_actors.actors.exits import SHUTDOWN, ExitReason
from pop_actors.actors.policy import Policy
from pop_actors.actors.restart_budget import RestartWindow
from pop_actors.actors.waves import Child, Wave, Waves, taken

KILL_SECONDS = 10.0

Phase = Literal["new", "starting", "running", "stopping", "ended"]


class Lifecycle:
    """The children in start order, what is under way, and the effects of the present step."""

    def __init__(self, policy: Policy, random: Callable[[], float]) -> None:
        self.policy = policy
        self.phase: Phase = "new"
        self.children: dict[str, Child] = {}
        self.effects: list[m.Effect] = []
        self.now = 0.0
        self._random = random
        self._shared_window = self._new_window()
        self._numbers = itertools.count(1)
        self._alive: dict[int, Child] = {}
        self._timers: dict[int, Child | Wave] = {}
        self._waves = Waves()
        self._last_wave: Wave | None = None
        self._end_reason = SHUTDOWN
        self._end_once_up: ExitReason | None = None

    def add(self, spec: ChildSpec) -> Child:
        """A child that was checked: its id is free, and it is in line with the policy."""
        window = self._new_window() if self.policy.intensity_scope == "child" else self._shared_window
        child = self.children[spec.id] = Child(spec, next(self._numbers), window, spec.first_epoch)
        return child

    def _new_window(self) -> RestartWindow:
        return RestartWindow(self.policy.max_restarts, self.policy.period_seconds)

    # Waves

    def begin(self) -> None:
        """Start the children there are, in order."""
        self.phase = "starting"
        self._begin_wave([], list(self.children.values()), is_first=True)

    def start(self, child: Child) -> None:
        """Start a stopped child because somebody asked for it."""
        child.is_by_hand = True
        child.because = "asked" if child.epoch else None
        self._begin_wave([], [child])

    def restart_with_group(self, child: Child, because: str, pause: float = 0.0) -> None:
        """Stop it and those that go with it by strategy, and start them again."""
        group = self._going_with(child)
        for member in group:
            if member.epoch:
                member.because = "group"
        child.because = because
        self._begin_wave(group, group, pause)

    def _going_with(self, child: Child) -> list[Child]:
        if self.policy.strategy == "one_for_one":
            return [child]
        everybody = self.children.values()
        if self.policy.strategy == "one_for_all":
            return list(everybody)
        return [member for member in everybody if member.place >= child.place]

    def _begin_wave(self, to_stop: list[Child], to_start: list[Child], pause: float = 0.0, **more: bool) -> Wave:
        wave, met = self._waves.begin(to_stop, to_start, pause, **more)
        for other in met:
            self._cancel_timer(other)
        return wave

    def advance(self) -> None:
        """Do what the waves can do now."""
        while (wave := self._waves.next()) is not None:
            self._advance(wave)

    def _advance(self, wave: Wave) -> None:
        if wave.to_stop:
            if not wave.at_once:
                self.stop(next(reversed(wave.to_stop)))
        elif not wave.to_start:
            self._complete(wave)
        elif wave.pause > 0:
            if wave.timer is None:
                wave.timer = self._set_timer(wave.pause, wave)
        else:
            child = next(iter(wave.to_start))
            if child.incarnation is None:
                self._spawn(child)

    def _complete(self, wave: Wave) -> None:
        wave.is_over = True
        self._cancel_timer(wave)
        if wave.is_last:
            self.phase = "ended"
            self.effects.append(m.Finished(self._end_reason))
        elif wave.is_first:
            self.phase = "running"
            self.effects.append(m.Up())
            if self._end_once_up is not None:
                self.end(self._end_once_up)

    # One child

    def _spawn(self, child: Child) -> None:
        child.restarts += bool(child.epoch)
        child.epoch, child.next_epoch = child.next_epoch, child.next_epoch + 1
        child.incarnation = next(self._numbers)
        child.started_at = None
        child.state = "starting"
        child.timer = self._set_timer(child.spec.start_seconds, child)
        self._alive[child.incarnation] = child
        self.effects.append(m.Spawn(child.spec, child.incarnation, child.epoch, child.because))
        child.because = None

    def stop(self, child: Child) -> None:
        """Ask it to end, or kill it where its spec says so. One that is being stopped already is let be."""
        if child.state not in {"starting", "running"}:
            return
        assert child.incarnation is not None
        child.state = "stopping"
        self._cancel_timer(child)
        if child.spec.shutdown == "brutal_kill":
            self.kill(child)
            return
        message = child.spec.stop_message if child.stop_message is None else child.stop_message
        self.effects.append(m.AskToStop(child.incarnation, message))
        if child.spec.grace is not None:
            child.timer = self._set_timer(child.spec.grace, child)

    def kill(self, child: Child) -> None:
        """End it by force."""
        assert child.incarnation is not None
        child.state = "killing"
        self._cancel_timer(child)
        self.effects.append(m.Kill(child.incarnation))
        child.timer = self._set_timer(KILL_SECONDS, child)

    def call_off(self, child: Child) -> None:
        """It is not to start. Siblings whose restart waits for its own stay down with it, since those after it may
        need it."""
        wave = child.wave
        if wave is not None and not wave.is_first and next(iter(wave.to_start), None) is child:
            for sibling in list(wave.to_start)[1:]:
                self._waves.leave_out(sibling)
                self.refuse_starters(sibling, "terminated", f"it waited for {child.spec.id}, which was stopped")
                if sibling.incarnation is None:
                    self.rest(sibling)
        self._waves.leave_out(child)

    def rest(self, child: Child) -> None:
        """It is gone for good: keep the spec, or not."""
        child.state = "stopped"
        child.is_by_hand = child.is_recovering = False
        self._waves.leave_out(child)
        if self.policy.dynamic or child.spec.restart == "temporary":
            self.forget(child)

    def forget(self, child: Child) -> None:
        self._waves.leave_out(child)
        self.children.pop(child.spec.id, None)

    def refuse_starters(self, child: Child, code: str, message: str) -> None:
        for caller in taken(child.start_callers):
            self.effects.append(m.Refuse(caller, code, f"child {child.spec.id} did not start: {message}"))

    # Notices

    def notice(self, incarnation: int, notice: ChildNotice) -> None:
        """An incarnation said something; one that is gone is not listened to."""
        child = self._alive.get(incarnation)
        if child is None:
            return
        if isinstance(notice, Beat):
            child.last_beat = self.now
        elif isinstance(notice, Started):
            self._started(child)
        else:
            self._gone(child, notice.reason, failed_start=isinstance(notice, StartFailed))

    def _started(self, child: Child) -> None:
        child.has_started = True
        if child.state != "starting":
            return
        child.state = "running"
        child.is_by_hand = child.is_recovering = False
        child.started_at = child.last_beat = self.now
        self._cancel_timer(child)
        self.effects.append(m.Ready(child.spec, child.epoch))
        for caller in taken(child.start_callers):
            self.effects.append(m.Answer(caller, child.epoch))
        self._waves.leave_out(child)

    def _gone(self, child: Child, reason: ExitReason, *, failed_start: bool) -> None:
        assert child.incarnation is not None
        is_being_stopped = child.state in {"stopping", "killing"} and child.verdict is None
        is_asked = is_being_stopped or child.will_stop or bool(child.stop_callers)
        is_unready = child.started_at is None
        reason, child.verdict = child.verdict or reason, None
        gone, child.incarnation = child.incarnation, None
        del self._alive[gone]
        self._cancel_timer(child)
        self._waves.is_stopped(child)
        if is_asked:
            comes_back = self._gone_as_asked(child)
        elif is_unready and reason.kind == "normal":
            comes_back = self._had_nothing_to_do(child)
        else:
            failed_start = failed_start or (is_unready and reason.is_abnormal)
            comes_back = self._gone_by_itself(child, reason, failed_start)
        how: Literal["unready", "stopped", "by_itself"] = "by_itself"
        if is_asked:
            how = "stopped"
        elif is_unready:
            how = "unready"
        self.effects.insert(0, m.Gone(child.spec, gone, child.epoch, reason, comes_back, how))

    def _gone_as_asked(self, child: Child) -> bool:
        child.stop_message = None
        for caller in taken(child.stop_callers):
            self.effects.append(m.Answer(caller, None))
        if child.will_start:
            child.state = "restarting"
            child.is_recovering = True
            return True
        self.refuse_starters(child, "terminated", "it was stopped")
        self.rest(child)
        return False

    def _had_nothing_to_do(self, child: Child) -> bool:
        child.has_started = True
        for caller in taken(child.start_callers):
            self.effects.append(m.Answer(caller, None))
        self.rest(child)
        return False

    def _gone_by_itself(self, child: Child, reason: ExitReason, failed_start: bool) -> bool:
        """Decide about a death nobody asked for; whether the child comes back."""
        child.state = "stopped"
        if failed_start and not child.has_started and child.will_start_first:
            self.end(ExitReason(reason.kind, f"child {child.spec.id} did not start: {reason}"))
            return False
        if reason.kind == "hung" and child.spec.kind != "process":
            self.end(reason)
            return False
        if not child.is_to_restart(self.policy, reason, failed_start=failed_start):
            self._over(child, reason, failed_start)
            return False
        child.is_by_hand = False
        if not child.can_afford(self.policy, reason, self.now):
            self._give_up(child, reason)
            return False
        child.state = "restarting"
        child.is_recovering = True
        self.restart_with_group(child, reason.kind, child.pause(self._random()))
        return True

    def _over(self, child: Child, reason: ExitReason, failed_start: bool) -> None:
        self.refuse_starters(child, "start_failed", str(reason))
        self.rest(child)
        if failed_start:
            if not child.has_started:
                self.forget(child)
        elif child.spec.significant and (
            self.policy.auto_shutdown == "any_significant" or not self._has_live_significant()
        ):
            self._shut_down(ExitReason("shutdown", f"significant child {child.spec.id} ended: {reason}"))

    def _shut_down(self, reason: ExitReason) -> None:
        """Now, or as soon as it is up: a child that is done early is no reason for its supervisor not to start."""
        if self.phase == "starting":
            self._end_once_up = self._end_once_up or reason
        else:
            self.end(reason)

    def _has_live_significant(self) -> bool:
        return any(child.spec.significant and child.state != "stopped" for child in self.children.values())

    def _give_up(self, child: Child, reason: ExitReason) -> None:
        text = (
            f"child {child.spec.id} failed too often ({self.policy.max_restarts} restarts are allowed), last: {reason}"
        )
        is_alone = self.policy.intensity_scope == "child"
        self.effects.append(m.GaveUp(child.spec, child.epoch, reason, is_alone))
        if not is_alone:
            self.end(ExitReason("shutdown", text))
            return
        self.refuse_starters(child, "start_failed", text)
        self.rest(child)

    # The end

    def end(self, reason: ExitReason) -> None:
        """Stop all children, last first (dynamic ones at once), and then finish; the first reason counts."""
        if self.phase == "stopping":
            return
        self.phase = "stopping"
        self._end_reason = reason
        everybody = list(self.children.values())
        wave = self._begin_wave(everybody, [], is_last=True, at_once=self.policy.dynamic)
        self._last_wave = wave
        for child in everybody:
            self.refuse_starters(child, "stopping", f"the supervisor is ending: {reason}")
            if child.incarnation is None:
                child.state = "stopped"
        if wave.at_once:
            for child in wave.to_stop:
                self.stop(child)

    def collapse(self, reason: ExitReason) -> None:
        """End all children at once, by force where that can be done."""
        self.end(reason)
        assert self._last_wave is not None
        self._last_wave.at_once = True
        for child in self._last_wave.to_stop:
            if not child.spec.can_be_killed:
                self.stop(child)
            elif child.state != "killing":
                self.kill(child)

    # Time

    def _set_timer(self, seconds: float, target: Child | Wave) -> int:
        timer = next(self._numbers)
        self._timers[timer] = target
        self.effects.append(m.SetTimer(timer, seconds))
        return timer

    def _cancel_timer(self, target: Child | Wave) -> None:
        if target.timer is not None and self._timers.pop(target.timer, None) is not None:
            self.effects.append(m.CancelTimer(target.timer))
        target.timer = None

    def due(self, timer: int) -> None:
        """A timer has run out."""
        target = self._timers.pop(timer, None)
        if isinstance(target, Wave):
            target.timer, target.pause = None, 0.0
            self._waves.wake(target)
        elif isinstance(target, Child):
            target.timer = None
            self._overdue(target)

    def _overdue(self, child: Child) -> None:
        if child.state == "starting":
            self.hang(child, f"did not start in {child.spec.start_seconds:g} s")
        elif child.state == "stopping" and child.spec.can_be_killed:
            self.kill(child)
        else:
            reason = ExitReason("hung", f"child {child.spec.id} did not end when it was made to")
            self.end(reason)
            self._gone(child, reason, failed_start=False)

    def hang(self, child: Child, why: str) -> None:
        """A process is killed and its death then taken for a failure. A thread cannot be: all of this has to end."""
        child.verdict = ExitReason("hung", why)
        if child.spec.kind == "process":
            self.kill(child)
        else:
            self.end(ExitReason("hung", f"child {child.spec.id}: {why}"))
