"""The supervisor: the actor that carries out what the supervision machine decides, and shows the tree below it.

Children tell it their notices, its timers tell it the time; it never waits for any of them. What it may do next is
decided in `supervision`; here it is done.
"""

from __future__ import annotations

import itertools
import logging
import queue
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.actor import Actor
from pop_actors.actors.announcer import Announcer
from pop_actors.actors.child import ChildNotice, ChildSpec, KindedStarter, Launch, RunningChild, Starter, StartFailed
from pop_actors.actors.commands import Commands
from pop_actors.actors.exits import NORMAL, ExitReason, a_reason
from pop_actors.actors.policy import Policy
from pop_actors.actors.reports import ReportListener
from pop_actors.actors.supervision import Supervision
from pop_actors.actors.timers import Timer, Timers
from pop_actors.actors.tree import child_row, row
from pop_actors.core.observations import Feed
from pop_actors.errors import Refused, Unavailable

LAST_STOP_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A child, a timer or the supervisor itself → supervisor: something for the machine."""

    event: m.Event


class Supervisor(Actor, Commands):
    """Starts its children in order, restarts them by its policy, and stops them in reverse order before it ends.

    Start one on its own with `ActorSystem.supervise` (or `Supervisor.start_and_wait(address, registry, specs=…)`),
    under another one with a `ChildSpec` and the starter `supervisor(specs=…)`. Its own `Started`
    comes when every child it was made with has started. It takes the commands of `supervision_messages`, as messages or
    as methods that return a future: `.result(seconds)` waits for the answer, or raises `Refused` with its `code`.
    Subclasses may override `on_child_exit` and `on_give_up`.
    """

    starts_by_itself: ClassVar[bool] = True

    def __init__(
        self,
        specs: Sequence[ChildSpec] = (),
        *,
        policy: Policy | None = None,
        timers: Timers | None = None,
        feed: Feed | None = None,
        report: ReportListener | None = None,
        prefix: str = "",
        label: str | None = None,
    ) -> None:
        """A child's address is `prefix` and its id. Observations call it by its id, or all of them by `label`.

        `timers` and `report` (hears a `Report` of what happens to each child) are by default its parent's; without a
        parent it has timers of its own. ValueError where the specs are at odds with the policy or each other.
        """
        super().__init__()
        self._machine = Supervision(specs, Policy() if policy is None else policy, random.random)
        self._given_timers = timers
        self._timers = timers or Timers()
        self._announcer = Announcer(feed or Feed(), report, label)
        self._prefix = prefix
        self._running: dict[int, RunningChild] = {}
        self._pending: dict[int, Timer] = {}
        self._callers: dict[int, Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._tick: Timer | None = None
        self._left_behind: list[str] = []
        self._effects: dict[type, Callable[[Any], None]] = {
            m.Spawn: self._spawn,
            m.AskToStop: self._ask_to_stop,
            m.Kill: self._kill,
            m.Ping: self._ping,
            m.SetTimer: self._set_timer,
            m.CancelTimer: lambda effect: self._pending.pop(effect.timer).cancel(),
            m.Ready: self._announcer.up,
            m.Gone: self._child_is_gone,
            m.GaveUp: self._gave_up,
            m.Answer: lambda effect: self._callers.pop(effect.caller).set_result(effect.value),
            m.Refuse: self._refuse,
            m.Up: lambda _: self.started(),
            m.Finished: lambda effect: self.end(effect.reason),
        }

    # What a subclass overrides; called in the supervisor's thread.

    def on_child_exit(self, spec: ChildSpec, epoch: int, reason: ExitReason, will_restart: bool) -> None:
        """An incarnation of a child is gone, or never got ready. Called once for each that was launched."""

    def on_give_up(self, spec: ChildSpec, epoch: int, reason: ExitReason) -> None:
        """A child with a budget of its own has used it up. Comes after its `on_child_exit`."""

    # What it shows, to any thread

    @property
    def exit_reason(self) -> ExitReason | None:
        """Why it ended; None while it has not. See `wait_ended`."""
        return (self._end_reason or NORMAL) if self.wait_ended(0) else None

    def running(self, child_id: str) -> RunningChild | None:
        """The present incarnation of a child: its actor, its nested supervisor, or its process (`pid`)."""
        child = self._machine.children.get(child_id)
        return None if child is None else self._running.get(child.incarnation or 0)

    def find_below(self, name: str) -> tuple[Supervisor, str] | None:
        """The supervisor that has a child called `name`, here or below, and the child's id."""
        for child_id in list(self._machine.children):
            if name in {child_id, self._prefix + child_id}:
                return self, child_id
            below = self.running(child_id)
            found = below.find_below(name) if isinstance(below, Supervisor) else None
            if found is not None:
                return found
        return None

    def snapshot(self) -> dict[str, Any]:
        """The base's, and `children`: a row of the tree for each."""
        rows = [
            child_row(self._prefix, child, self._running.get(child.incarnation or 0))
            for child in list(self._machine.children.values())
        ]
        return {**super().snapshot(), "state": self._machine.phase, "children": rows}

    def tree(self) -> dict[str, Any]:
        """The tree from here down: `{name, kind, state, pid, restarts, mailbox, uptime (s), children, details}`."""
        return row(self.address, "supervisor", self._machine.phase, None, 0, self.uptime(), self.snapshot())

    # As an actor, and as its own parent's child

    def start_under(self, launch: Launch) -> None:
        """Start as what this launch asks for, with its timers and its listener where none were given."""
        self._launch = launch
        if self._given_timers is None and launch.timers is not None:
            self._given_timers = self._timers = launch.timers
        self._start_actor_loop()

    def kill(self) -> bool:
        """End all children at once, by force where that can be done, and then itself. False where it is gone."""
        if self.wait_ended(0):
            return False
        self.put(_Heard(m.Collapse(ExitReason("signal", "killed"))))
        return True

    def on_start(self) -> None:
        self._announcer.speak_for(self.address, self._launch.report)
        self._step(m.Begin())
        self._set_tick()

    def on_stop_request(self) -> None:
        self._step(m.Shutdown())

    def end(self, reason: ExitReason = NORMAL) -> None:
        """Stop the children in order, and then end, for this reason."""
        if self._machine.phase in {"new", "ended"}:
            super().end(reason)
        else:
            self.put(_Heard(m.Shutdown(a_reason(reason))))

    def receive(self, message: Any) -> object:
        if isinstance(message, _Heard):
            self._hear(message.event)
            return None
        if isinstance(message, m.Command):
            return self._carry_out(message)
        return super().receive(message)

    def on_stop(self) -> None:
        self._leave_nothing_behind()
        if self._tick is not None:
            self._tick.cancel()
        for timer in self._pending.values():
            timer.cancel()
        for caller in self._callers.values():
            caller.set_exception(Unavailable(f"{self.address} is gone"))
        if self._given_timers is None:
            self._timers.stop()

    def _actor_loop_teardown(self) -> None:
        if not self._has_begun:  # `on_start` failed, so there is no `on_stop`; its children may be there
            Supervisor.on_stop(self)
        super()._actor_loop_teardown()

    def _carry_out(self, command: m.Command) -> Future[Any]:
        caller = next(self._numbers)
        future = self._callers[caller] = Future()
        self._step(m.Asked(caller, command))
        return future

    def _hear(self, event: m.Event) -> None:
        if isinstance(event, m.Due):
            self._pending.pop(event.timer, None)
        elif isinstance(event, m.Tick):
            self._set_tick()
        self._step(event)

    def _step(self, event: m.Event) -> None:
        """All effects of a step are carried out, also where one fails, since the machine takes them for done; but
        nothing is launched after that."""
        failure: Exception | None = None
        for effect in self._machine.step(event, time.monotonic()):
            if failure is not None and isinstance(effect, m.Spawn):
                self.put(_Heard(m.Noticed(effect.incarnation, StartFailed(ExitReason("exception", str(failure))))))
                continue
            try:
                self._effects[type(effect)](effect)
            except Exception as error:  # noqa: BLE001 - raised again below
                if failure is not None:
                    _log.error("%s failed once more", self.address, exc_info=error)
                failure = failure or error
        if failure is not None:
            raise failure

    # Effects

    def _spawn(self, effect: m.Spawn) -> None:
        incarnation = effect.incarnation

        def notify(notice: ChildNotice) -> None:
            if not isinstance(notice, ChildNotice):
                raise TypeError(f"a supervisor is notified of Started, Exited, … of its child, not of {notice!r}")
            self.put(_Heard(m.Noticed(incarnation, notice)))

        self._announcer.starting(effect)
        address = self._prefix + effect.spec.id
        launch = Launch(address, effect.epoch, notify, self.registry, self._timers, self._announcer.tell)
        try:
            self._running[incarnation] = _launched(effect.spec.start(launch))
        except Exception as error:  # noqa: BLE001 - whatever a starter raises is a failed start, and goes the way of one
            _log.error("%s: %s cannot be started", self.address, launch.address, exc_info=error)
            notify(StartFailed(ExitReason("exception", f"{type(error).__name__}: {error}")))

    def _ask_to_stop(self, effect: m.AskToStop) -> None:
        child = self._running.get(effect.incarnation)
        if child is not None:  # else its starter raised, and the notice of that is on its way
            child.request_stop(effect.message)

    def _kill(self, effect: m.Kill) -> None:
        child = self._running.get(effect.incarnation)
        if child is not None:
            _log.warning("%s: killing %r", self.address, child)
            child.kill()

    def _ping(self, effect: m.Ping) -> None:
        child = self._running.get(effect.incarnation)
        if isinstance(child, Actor):
            child.ping()

    def _set_timer(self, effect: m.SetTimer) -> None:
        def due() -> None:
            self.put(_Heard(m.Due(effect.timer)))

        self._pending[effect.timer] = self._timers.after(effect.seconds, due)

    def _set_tick(self) -> None:
        self._tick = self._timers.after(self._machine.policy.heartbeat_seconds, lambda: self.put(_Heard(m.Tick())))

    def _child_is_gone(self, effect: m.Gone) -> None:
        left = self._running.pop(effect.incarnation, None)
        if effect.reason.kind == "hung" and isinstance(left, Actor) and not left.wait_ended(0):
            self.registry.unregister(left.address, left)
            self._left_behind.append(effect.spec.id)
        self._announcer.gone(effect)
        if not self.has_failed:
            self.on_child_exit(effect.spec, effect.epoch, effect.reason, effect.will_restart)

    def _gave_up(self, effect: m.GaveUp) -> None:
        self._announcer.gave_up(effect)
        if effect.is_alone and not self.has_failed:
            self.on_give_up(effect.spec, effect.epoch, effect.reason)

    def _refuse(self, effect: m.Refuse) -> None:
        self._callers.pop(effect.caller).set_exception(Refused(effect.code, effect.message))

    # The end after a failure of its own

    def _leave_nothing_behind(self) -> None:
        """Where this supervisor itself failed, its children are still there: end them at once, and say so where one
        cannot be ended, since whoever starts this one again would start a second of it."""
        if self._machine.is_ended:
            return
        reason = self._end_reason or NORMAL
        deadline = time.monotonic() + LAST_STOP_SECONDS
        others = []
        self._step_whatever_fails(m.Collapse(reason))
        while not self._machine.is_ended and (left := deadline - time.monotonic()) > 0:
            try:
                letter = self._mailbox.get(timeout=left)
            except queue.Empty:
                break
            if isinstance(letter.message, _Heard):
                self._step_whatever_fails(letter.message.event)
            elif letter.reply_to is not None:
                letter.reply_to.fail(self._gone_error())
            else:
                others.append(letter)
        for letter in others:  # to be turned away with what has come since
            self._mailbox.put(letter)
        for child in self._running.values():
            child.kill()
        alive = [child.spec.id for child in self._machine.children.values() if child.incarnation in self._running]
        if not_ended := [*self._left_behind, *alive]:
            self._end_reason = ExitReason("hung", f"{', '.join(not_ended)} did not end after it failed: {reason}")

    def _step_whatever_fails(self, event: m.Event) -> None:
        try:
            self._hear(event)
        except Exception:  # noqa: BLE001 - it is on its way out; what can still be ended has to be
            _log.exception("%s failed once more", self.address)


class DynamicSupervisor(Supervisor):
    """A supervisor whose children all come at run time, by `start_child`, and know no order: they are stopped all at
    once, and each is forgotten when it is gone for good."""

    def __init__(self, *, policy: Policy | None = None, **more: Any) -> None:
        """`policy` is taken as a dynamic one; `more` as of `Supervisor`."""
        super().__init__(policy=replace(policy or Policy(), dynamic=True), **more)


def _launched(child: Any) -> RunningChild:
    if not hasattr(child, "request_stop"):
        raise TypeError(f"a starter returns the child it launched (a RunningChild), not {child!r}")
    return cast("RunningChild", child)


def supervisor(kind: type[Supervisor] = Supervisor, /, **arguments: Any) -> Starter:
    """A starter for a `ChildSpec`: a nested supervisor; `arguments` go to its constructor. Timers and the
    listener of reports are its parent's where they name none."""
    if not (isinstance(kind, type) and issubclass(kind, Supervisor)):
        raise TypeError(f"supervisor() takes a class of Supervisor, and specs=[…], policy=… by name; not {kind!r}")

    def start(launch: Launch) -> Supervisor:
        made = kind(**arguments)
        made.start_under(launch)
        return made

    return KindedStarter("supervisor", start)
