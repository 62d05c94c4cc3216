"""The way to one provider: bounded queues, one per job, served in turn, and let through as the provider's limits allow.

Used by the gateway's loop only. The first in line is never overtaken by a smaller request, so nobody starves.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from dataclasses import dataclass

from pop_actors.core.limits import Limits, Permit, RateLimiter
from pop_actors.errors import CallFailed


@dataclass(frozen=True, slots=True, eq=False)
class _Waiter:
    job_id: str
    tokens: float
    ready: asyncio.Future[Permit]


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


class Lane:
    """One provider's queues and limits."""

    def __init__(self, limits: Limits, room: WaitingRoom) -> None:
        self._limiter = RateLimiter(limits)
        self._room = room
        self._queues: dict[str, deque[_Waiter]] = {}
        self._turns: deque[str] = deque()  # jobs with a queue; the first is next
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def limits(self) -> Limits:
        return self._limiter.limits

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    @property
    def in_flight(self) -> int:
        return self._limiter.in_flight

    def used(self) -> tuple[float, float]:
        """Requests and tokens let through in the last minute."""
        return self._limiter.used(self._loop.time())

    def fits(self, tokens: float) -> bool:
        """Whether a request of so many tokens can ever be let through."""
        return self._limiter.fits(tokens)

    async def enter(self, job_id: str, tokens: float, deadline: float, *, again: bool = False) -> Permit:
        """Wait for a permit; TimeoutError at the deadline, CallFailed queue_full.

        `again`: a retry, which goes before the job's other calls and is never turned away.
        """
        now = self._loop.time()
        if not self._turns and self._limiter.wait(now, tokens) <= 0:
            return self._limiter.take(now, tokens)
        if not again:
            self._room.admit(job_id)
        waiter = self._line_up(job_id, tokens, first=again)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter.ready
        except (TimeoutError, asyncio.CancelledError):
            self._step_out(waiter)
            raise

    def leave(self, permit: Permit, tokens: float | None) -> None:
        """A request ended; `tokens` as in `RateLimiter.give_back`."""
        self._limiter.give_back(permit, self._loop.time(), tokens)
        if self._turns:
            self._let_through()

    def change(self, limits: Limits) -> None:
        """Other limits, from now on."""
        self._limiter.change(limits)
        self._let_through()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _line_up(self, job_id: str, tokens: float, *, first: bool) -> _Waiter:
        waiter = _Waiter(job_id, tokens, self._loop.create_future())
        if job_id not in self._queues:
            self._queues[job_id] = deque()
            self._turns.append(job_id)
        if first:
            self._queues[job_id].appendleft(waiter)
        else:
            self._queues[job_id].append(waiter)
        self._room.enter(job_id)
        self._let_through()
        return waiter

    def _step_out(self, waiter: _Waiter) -> None:
        """It gave up waiting: out of its queue, or, let through in the same moment, back with its permit."""
        if waiter.ready.done() and not waiter.ready.cancelled():
            self.leave(waiter.ready.result(), 0.0)
            return
        queue = self._queues.get(waiter.job_id)
        if queue is not None and waiter in queue:
            queue.remove(waiter)
            self._room.leave(waiter.job_id)
            if not queue:
                del self._queues[waiter.job_id]
                self._turns.remove(waiter.job_id)
        self._let_through()

    def _let_through(self) -> None:
        """Let through whoever may go now, a job after the other; come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._turns:
            job_id = self._turns[0]
            waiter = self._queues[job_id][0]
            now = self._loop.time()
            wait = 0.0 if waiter.ready.done() else self._limiter.wait(now, waiter.tokens)
            if wait > 0:
                if wait < math.inf:
                    self._timer = self._loop.call_later(wait, self._let_through)
                return
            self._pass_turn(job_id)
            if not waiter.ready.done():
                waiter.ready.set_result(self._limiter.take(now, waiter.tokens))

    def _pass_turn(self, job_id: str) -> None:
        """Take the first out of the job's queue, and let the other jobs have their turn before its next."""
        queue = self._queues[job_id]
        queue.popleft()
        self._room.leave(job_id)
        self._turns.popleft()
        if queue:
            self._turns.append(job_id)
        else:
            del self._queues[job_id]

    def __repr__(self) -> str:
        return f"Lane({self.in_flight} in flight, {self.waiting} waiting, {self.limits})"
