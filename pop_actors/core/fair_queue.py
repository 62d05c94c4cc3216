"""Whose turn it is: calls of several jobs, the job served least first. Virtual token counters (arXiv 2401.00588).

Each job has a counter of the tokens it used, and of those its calls under way are guessed to use, divided by its
weight; the smallest is next. A job that comes back from idling is lifted to where the others are, by what they used and
not by what was guessed: nobody saves up turns, or loses them to a wrong guess. Pure; the gateway's admission asks.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from pop_actors.core.token_guess import Tokens

MOST_PRIORITY = 4  # weights are powers of two between 1/16 and 16: a low priority waits longer, never for good
_FORGET_FROM = 64

Line = tuple[str, bool]
"""One of a job's queues: the model, and whether it holds retries, which go first."""


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """One call in the queue, with its tokens as guessed. `again`: a retry."""

    job_id: str
    model: str
    tokens: Tokens
    again: bool = False
    priority: int = 0

    @property
    def cost(self) -> float:
        return cost(self.tokens)

    @property
    def line(self) -> Line:
        return self.model, self.again


def cost(tokens: Tokens) -> float:
    """What a job is charged for a request: its tokens, and something for one that has none."""
    return max(1.0, tokens.total)


def weight(priority: int) -> float:
    """A job's share beside others'."""
    return float(2.0 ** max(-MOST_PRIORITY, min(MOST_PRIORITY, priority)))


@dataclass(slots=True, eq=False)
class _Job:
    job_id: str
    used: float
    guessed: float = 0.0
    under_way: int = 0
    version: int = 0
    place: int = 0  # among jobs served equally: who waits longest since it was served
    lines: dict[Line, deque[Ticket]] = field(default_factory=dict)

    @property
    def is_idle(self) -> bool:
        return not self.lines and not self.under_way


class FairQueue:
    """`take` removes a ticket and charges its job what was guessed; `end` follows, with what it used."""

    def __init__(self) -> None:
        self.waiting: Counter[Line] = Counter()
        self._jobs: dict[str, _Job] = {}
        self._active = 0  # jobs with calls waiting or under way
        self._floor = 0.0  # what every job was served at least that waited all the time
        self._heap: list[tuple[float, int, int, _Job]] = []
        self._places = itertools.count()

    def __len__(self) -> int:
        return self.waiting.total()

    def under_way(self, job_id: str) -> int:
        """How many of its calls were let through and have not ended."""
        job = self._jobs.get(job_id)
        return 0 if job is None else job.under_way

    def add(self, ticket: Ticket) -> None:
        """At the end of its line."""
        job = self._job(ticket)
        was_empty = not job.lines
        job.lines.setdefault(ticket.line, deque()).append(ticket)
        self.waiting[ticket.line] += 1
        if was_empty:
            job.place = next(self._places)
            self._push(job)

    def remove(self, ticket: Ticket) -> bool:
        """It does not wait any more; whether it did."""
        job = self._jobs.get(ticket.job_id)
        line = None if job is None else job.lines.get(ticket.line)
        if job is None or line is None or ticket not in line:
            return False
        line.remove(ticket)
        self._shrink(job, ticket)
        self._rest(job)
        return True

    def turns(self) -> Iterator[list[Ticket]]:
        """The jobs' first calls, each job's own together (retries before others), the job served least first.

        Take one of what is yielded, or none; each job comes until nothing of it was taken.
        """
        passed: list[_Job] = []
        try:
            while self._heap:
                _, _, version, job = heapq.heappop(self._heap)
                if version != job.version or not job.lines:
                    continue
                job.version += 1
                passed.append(job)
                yield [line[0] for _, line in sorted(job.lines.items(), key=_retries_first)]
                if job.version != version + 1:
                    passed.pop()
        finally:
            for job in passed:
                if job.lines:
                    self._push(job)

    def take(self, ticket: Ticket) -> None:
        """It is let through: out of its line, and charged."""
        job = self._jobs[ticket.job_id]
        job.lines[ticket.line].remove(ticket)
        self._shrink(job, ticket)
        self._charge(job, ticket)

    def pass_by(self, ticket: Ticket) -> None:
        """A call let through without having waited: charged like any other."""
        self._charge(self._job(ticket), ticket)

    def end(self, ticket: Ticket, used: Tokens) -> None:
        """Its request has ended, and used so many tokens."""
        job = self._jobs[ticket.job_id]
        job.under_way -= 1
        job.guessed -= ticket.cost / weight(ticket.priority)
        job.used += cost(used) / weight(ticket.priority)
        if not job.under_way:
            job.guessed = 0.0
        if job.lines:
            self._push(job)
        self._rest(job)

    def _job(self, ticket: Ticket) -> _Job:
        job = self._jobs.get(ticket.job_id)
        if job is None:
            job = self._jobs[ticket.job_id] = _Job(ticket.job_id, 0.0)
        if job.is_idle:
            job.used = max(job.used, self._raised_floor())
            self._active += 1
        return job

    def _raised_floor(self) -> float:
        least = min((job.used for job in self._jobs.values() if not job.is_idle), default=self._floor)
        self._floor = max(self._floor, least)
        return self._floor

    def _charge(self, job: _Job, ticket: Ticket) -> None:
        job.guessed += ticket.cost / weight(ticket.priority)
        job.under_way += 1
        job.place = next(self._places)
        if job.lines:
            self._push(job)

    def _shrink(self, job: _Job, ticket: Ticket) -> None:
        self.waiting[ticket.line] -= 1
        if not self.waiting[ticket.line]:
            del self.waiting[ticket.line]
        if not job.lines[ticket.line]:
            del job.lines[ticket.line]

    def _push(self, job: _Job) -> None:
        job.version += 1
        heapq.heappush(self._heap, (job.used + job.guessed, job.place, job.version, job))
        if len(self._heap) > 2 * len(self._jobs) + _FORGET_FROM:
            self._heap = [entry for entry in self._heap if entry[2] == entry[3].version and entry[3].lines]
            heapq.heapify(self._heap)

    def _rest(self, job: _Job) -> None:
        """A job that is idle now is forgotten, unless it was served ahead of the others."""
        if not job.is_idle:
            return
        self._active -= 1
        if not self._active:  # nobody is left to be fair to
            self._jobs.clear()
            self._heap.clear()
            self._floor = 0.0
        elif job.used <= self._floor:
            del self._jobs[job.job_id]
        elif len(self._jobs) > 2 * self._active + _FORGET_FROM:
            floor = self._raised_floor()
            self._jobs = {name: known for name, known in self._jobs.items() if not known.is_idle or known.used > floor}


def _retries_first(line: tuple[Line, deque[Ticket]]) -> bool:
    _, again = line[0]
    return not again
