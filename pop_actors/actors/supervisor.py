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
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from pop_actors.actors import supervision_messages as m
from pop_actors.actors.actor import Actor, thread
from pop_actors.actors.child import ChildNotice, ChildSpec, ExitReason, Launch, RunningChild, Starter, StartFailed
from pop_actors.actors.supervision import Supervision
from pop_actors.actors.timers import Timer, Timers
from pop_actors.actors.waves import Child
from pop_actors.core.observations import ActorRestarted, ActorUp, Feed
from pop_actors.errors import Refused, Unavailable

LAST_STOP_SECONDS = 10.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A child, a timer or the supervisor itself → supervisor: something for the machine."""

    event: m.Event


class Supervisor(Actor):
    """Starts its children in order, restarts them by its policy, and stops them in reverse order before it ends.

    It takes the commands of `supervision_messages`, as messages or as methods that return a future. Its own `Started`
    comes when every child it was made with has started. Subclasses may override `on_child_exit` and `on_give_up`.
    """

    starts_by_itself: ClassVar[bool] = True

    def __init__(
        self,
        specs: Sequence[ChildSpec] = (),
        *,
        timers: Timers,
        policy: m.Policy | None = None,
        feed: Feed | None = None,
        prefix: str = "",
        label: str | None = None,
    ) -> None:
        """A child's address is `prefix` and its id. Observations call it by its id, or all of them by `label`."""
        super().__init__()
        self._machine = Supervision(specs, policy or m.Policy(), random.random)
        self._timers = timers
        self._feed = feed or Feed()
        self._prefix = prefix
        self._label = label
        self._running: dict[int, RunningChild] = {}
        self._pending: dict[int, Timer] = {}
        self._callers: dict[int, Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._tick: Timer | None = None
        self._final_reason: ExitReason | None = None
        self._effects: dict[type, Callable[[Any], None]] = {
            m.Spawn: self._spawn,
            m.AskToStop: self._ask_to_stop,
            m.Kill: self._kill,
            m.Ping: self._ping,
            m.SetTimer: self._set_timer,
            m.CancelTimer: lambda effect: self._pending.pop(effect.timer).cancel(),
            m.Ready: self._child_is_up,
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

    # Commands, from any thread. Do not wait for the future in this supervisor's own thread or a child's.

    def start_child(self, spec: ChildSpec) -> Future[Any]:
        """See `StartChild`."""
        return self.request(m.StartChild(spec))

    def terminate_child(self, child_id: str, message: object | None = None) -> Future[Any]:
        """See `TerminateChild`."""
        return self.request(m.TerminateChild(child_id, message))

    def delete_child(self, child_id: str) -> Future[Any]:
        """See `DeleteChild`."""
        return self.request(m.DeleteChild(child_id))

    def restart_child(self, child_id: str, *, force: bool = False) -> Future[Any]:
        """See `RestartChild`."""
        return self.request(m.RestartChild(child_id, force))

    def which_children(self) -> Future[Any]:
        """See `WhichChildren`."""
        return self.request(m.WhichChildren())

    def count_children(self) -> Future[Any]:
        """See `CountChildren`."""
        return self.request(m.CountChildren())

    # What it shows, to any thread

    def running(self, child_id: str) -> RunningChild | None:
        """The present incarnation of a child."""
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
        rows = [self._row(child) for child in list(self._machine.children.values())]
        return {**super().snapshot(), "state": self._machine.phase, "children": rows}

    def tree(self) -> dict[str, Any]:
        """The tree from here down: `{name, kind, state, pid, restarts, mailbox, uptime (s), children, details}`."""
        shown = self.snapshot()
        return _row(self.address, "supervisor", self._machine.phase, None, 0, self.uptime(), shown)

    def _row(self, child: Child) -> dict[str, Any]:
        running = self._running.get(child.incarnation or 0)
        shown = {} if running is None else running.snapshot()
        since = child.started_at if child.incarnation is not None else None
        uptime = 0.0 if since is None else time.monotonic() - since
        pid = None if running is None else running.pid
        return _row(self._prefix + child.spec.id, child.spec.kind, child.state, pid, child.restarts, uptime, shown)

    # As an actor

    def on_start(self) -> None:
        self._step(m.Begin())
        self._set_tick()

    def on_stop_request(self) -> None:
        self._step(m.Shutdown())

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
        for effect in self._machine.step(event, time.monotonic()):
            self._effects[type(effect)](effect)

    # Effects

    def _spawn(self, effect: m.Spawn) -> None:
        incarnation = effect.incarnation

        def notify(notice: ChildNotice) -> None:
            self.put(_Heard(m.Noticed(incarnation, notice)))

        if effect.because is not None:
            _log.info("%s: starting %s again (%s)", self.address, effect.spec.id, effect.because)
            self._feed.publish(ActorRestarted(self._label or effect.spec.id, effect.because))
        launch = Launch(self._prefix + effect.spec.id, effect.epoch, notify, self.registry)
        try:
            self._running[incarnation] = effect.spec.start(launch)
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

    def _child_is_up(self, effect: m.Ready) -> None:
        if self._label is None:
            self._feed.publish(ActorUp(effect.spec.id, up=True))

    def _child_is_gone(self, effect: m.Gone) -> None:
        left = self._running.pop(effect.incarnation, None)
        if effect.reason.is_abnormal:
            _log.warning("%s: %s (epoch %d) ended: %s", self.address, effect.spec.id, effect.epoch, effect.reason)
        if effect.reason.kind == "hung" and isinstance(left, Actor) and not left.wait_ended(0):
            self.registry.unregister(left.address, left)
        if self._label is None:
            self._feed.publish(ActorUp(effect.spec.id, up=False))
        if not self.has_failed:
            self.on_child_exit(effect.spec, effect.epoch, effect.reason, effect.will_restart)

    def _gave_up(self, effect: m.GaveUp) -> None:
        _log.error("%s: giving up on %s: %s", self.address, effect.spec.id, effect.reason)
        if not self.has_failed:
            self.on_give_up(effect.spec, effect.epoch, effect.reason)

    def _refuse(self, effect: m.Refuse) -> None:
        self._callers.pop(effect.caller).set_exception(Refused(effect.code, effect.message))

    # The end after a failure of its own

    def _leave_nothing_behind(self) -> None:
        """Where this supervisor itself failed, its children are still there: stop them as if it had been asked to."""
        deadline = time.monotonic() + LAST_STOP_SECONDS
        self._step(m.Shutdown())
        while self._machine.phase != "ended" and (left := deadline - time.monotonic()) > 0:
            try:
                envelope = cast("queue.SimpleQueue[Any]", self.actor_inbox).get(timeout=left)
            except queue.Empty:
                break
            if isinstance(envelope.message, _Heard):
                self._hear(envelope.message.event)
        for child in self._running.values():
            child.kill()


def supervisor(kind: type[Supervisor] = Supervisor, /, **arguments: Any) -> Starter:
    """A starter for a `ChildSpec` of kind `supervisor`: a nested one; `arguments` go to its constructor."""
    return thread(kind, **arguments)


def _row(
    name: str, kind: str, state: str, pid: int | None, restarts: int, uptime: float, shown: dict[str, Any]
) -> dict[str, Any]:
    details = {key: value for key, value in shown.items() if key not in {"mailbox", "children", "state"}}
    return {
        "name": name,
        "kind": kind,
        "state": state,
        "pid": pid,
        "restarts": restarts,
        "mailbox": shown.get("mailbox", 0),
        "uptime": round(uptime, 3),
        "children": shown.get("children", []),
        "details": details,
    }
