"""The way to one provider: calls wait here until admission lets them through. Owns the futures and the timer.

Used by the gateway's loop only; who goes, and when, is `core.admission`'s to say.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable

from pop_actors.core.admission import UNSENT, Admission, Outcome, Pass
from pop_actors.core.fair_queue import Ticket
from pop_actors.core.limits import Limits, Wait
from pop_actors.errors import CallFailed

LEAST_WAIT_SECONDS = 1e-4  # a timer this close to now is not set closer: what is due then is due by then


class WaitingRoom:
    """How many calls wait, over all providers, and how many may."""

    def __init__(self, most_per_job: int, most: int) -> None:
        self._most_per_job = most_per_job
        self._most = most
        self._per_job: Counter[str] = Counter()
        self.waiting = 0

    def admit(self, job_id: str) -> None:
        """CallFailed queue_full where there is no room for another call of that job."""
        if self.waiting >= self._most:
            raise CallFailed("queue_full", f"{self.waiting} calls wait already; gateway.max_waiting is {self._most}")
        if self._per_job[job_id] >= self._most_per_job:
            raise CallFailed(
                "queue_full",
                f"{self._per_job[job_id]} calls of this job wait already; "
                f"gateway.max_waiting_per_job is {self._most_per_job}",
            )

    def enter(self, job_id: str) -> None:
        self.waiting += 1
        self._per_job[job_id] += 1

    def leave(self, job_id: str) -> None:
        self.waiting -= 1
        self._per_job[job_id] -= 1
        if not self._per_job[job_id]:
            del self._per_job[job_id]


class CircuitOpen(Exception):
    """The model's circuit is open, and the call does not want to wait for it to close."""


class Lane:
    """One provider's queues and limits. `circuit_changed(model, open)` is told of each circuit that opens or closes."""

    def __init__(self, admission: Admission, room: WaitingRoom, circuit_changed: Callable[[str, bool], None]) -> None:
        self.admission = admission
        self._room = room
        self._circuit_changed = circuit_changed
        self._waiters: dict[Ticket, asyncio.Future[Pass]] = {}
        self._impatient: dict[str, set[Ticket]] = {}  # by model
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def waiting(self) -> int:
        return len(self._waiters)

    @property
    def in_flight(self) -> int:
        return self.admission.shared.in_flight

    @property
    def now(self) -> float:
        """Of the loop's time."""
        return self._loop.time()

    def hindrance(self, ticket: Ticket) -> Wait:
        """What a call waits for, other than its turn."""
        return self.admission.wait(ticket, self._loop.time())

    def expect(self, job_id: str) -> Callable[[], None]:
        """A call of that job is about to enter: what others would take of its share is kept, for a moment. To be called
        when it enters, or does not after all; a second time does nothing."""
        self.admission.expected.add(job_id, self._loop.time())
        is_over = False

        def over() -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                self.admission.expected.remove(job_id)
                self._loop.call_soon(self._let_through)  # not before it has entered itself

        return over

    async def enter(self, ticket: Ticket, deadline: float, *, patient: bool = True) -> Pass:
        """Wait for a pass; TimeoutError at the deadline, CallFailed queue_full.

        A retry is never turned away. CircuitOpen for who is not `patient`, as soon as the model's circuit is open.
        """
        now = self._loop.time()
        granted = self.admission.try_now(ticket, now)
        if granted is not None:
            return granted
        if not patient and self._is_open(ticket.model, now):
            raise CircuitOpen
        if not ticket.again:
            self._room.admit(ticket.job_id)
        ready = self._line_up(ticket, patient=patient)
        try:
            async with asyncio.timeout_at(deadline):
                return await ready
        except (TimeoutError, asyncio.CancelledError):
            self._step_out(ticket, ready)
            raise
        finally:
            if not patient:
                self._impatient[ticket.model].discard(ticket)

    def leave(self, gone: Pass, outcome: Outcome) -> None:
        """A request ended."""
        name = gone.call.model
        model = self.admission.model(name)
        was_failing = model.circuit.failing
        self.admission.end(gone, outcome, self._loop.time())
        if model.circuit.failing != was_failing:
            self._circuit_changed(name, model.circuit.failing)
            if model.circuit.failing:
                self._send_away_impatient(name)
        if self._waiters:
            self._let_through()

    def change(self, limits: Limits, model: str | None = None) -> None:
        """Other limits, of the provider or of a model, from now on."""
        limiter = self.admission.shared if model is None else self.admission.model(model).limiter
        limiter.change(limits)
        self._let_through()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _is_open(self, name: str, now: float) -> bool:
        circuit = self.admission.model(name).circuit
        return circuit.failing and circuit.wait(now).seconds > 0

    def _line_up(self, ticket: Ticket, *, patient: bool) -> asyncio.Future[Pass]:
        ready: asyncio.Future[Pass] = self._loop.create_future()
        self._waiters[ticket] = ready
        if not patient:
            self._impatient.setdefault(ticket.model, set()).add(ticket)
        self._room.enter(ticket.job_id)
        self.admission.ask(ticket)
        self._let_through()
        return ready

    def _step_out(self, ticket: Ticket, ready: asyncio.Future[Pass]) -> None:
        """It gave up waiting: out of its queue, or, let through in the same moment, back with its pass."""
        if ready.done() and not ready.cancelled() and ready.exception() is None:
            self.leave(ready.result(), UNSENT)
            return
        if self._forget(ticket):
            self._let_through()

    def _send_away_impatient(self, name: str) -> None:
        for ticket in list(self._impatient.get(name, ())):
            ready = self._waiters.get(ticket)
            if ready is not None and not ready.done() and self._forget(ticket):
                ready.set_exception(CircuitOpen())

    def _forget(self, ticket: Ticket) -> bool:
        if self._waiters.pop(ticket, None) is None:
            return False
        self._room.leave(ticket.job_id)
        return self.admission.withdraw(ticket)

    def _let_through(self) -> None:
        """Let through whoever may go now; come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        passes, soonest = self.admission.admit(self._loop.time())
        for granted in passes:
            ready = self._waiters.pop(granted.call)
            self._room.leave(granted.call.job_id)
            if not ready.done():
                ready.set_result(granted)
            else:  # cancelled in this very turn of the loop: it has not stepped out yet
                self._loop.call_soon(self.leave, granted, UNSENT)
        if soonest < math.inf and self._waiters:
            self._timer = self._loop.call_later(max(soonest, LEAST_WAIT_SECONDS), self._let_through)

    def __repr__(self) -> str:
        return f"Lane({self.in_flight} in flight, {self.waiting} waiting, {self.admission.shared.limits})"
