"""The person at the soak: decides at gates, stops and restarts jobs, tells the daemon this and that; all by popctl."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.soak.plan import Command, Planned
from tests.soak.world import World

MOST_AT_ONCE = 3
ANSWER_SECONDS = 45.0
LONGEST_PAUSE_SECONDS = 1.5
CODES = {0, 1, 3, 4}  # done; refused; no daemon; not found


@dataclass(frozen=True)
class _Given:
    """A command under way. `job`: whom it is about, the empty text where it is about the service."""

    words: tuple[str, ...]
    process: subprocess.Popen[str]
    since: float
    job: str = ""


class Operator:
    """`serve` and `step` are called again and again; neither waits. `faults` says what popctl did that it must not."""

    def __init__(self, world: World, commands: Iterator[Command]) -> None:
        self.faults: list[str] = []
        self.done: Counter[str] = Counter()
        self._world = world
        self._commands = commands
        self._next = next(commands)
        self._due = time.monotonic() + self._next.after
        self._given: list[_Given] = []
        self._resume_at: float | None = None

    def serve(self, jobs: Iterable[Planned]) -> None:
        """Give the orders that these jobs wait for now."""
        self._hear()
        busy = {given.job for given in self._given}
        for job in jobs:
            if len(self._given) >= MOST_AT_ONCE:
                return
            words = self._order(job) if job.order is not None and job.job_id not in busy else ()
            if words:
                self._give((*words, job.job_id), job.job_id)

    def step(self) -> None:
        """Give a command that is due at random; and have the service go on that one has paused long enough."""
        now = time.monotonic()
        if self._resume_at is not None and now > self._resume_at and not self._is_given("resume"):
            self._give(("resume",))
        if now < self._due or len(self._given) >= MOST_AT_ONCE:
            return
        command, self._next = self._next, next(self._commands)
        self._due = now + self._next.after
        if command.words == ("pause",):
            self._resume_at = now + command.luck * LONGEST_PAUSE_SECONDS
        self._give(command.words)

    def let_go(self) -> bool:
        """Nothing stays paused. False until that is so and every command has its answer."""
        self._hear()
        if self._resume_at is not None and not self._is_given("resume"):
            self._give(("resume",))
        return not self._given

    def _order(self, job: Planned) -> tuple[str, ...]:
        state = self._world.workspace.state(job.job_id)
        match job.order, state:
            case (("approve" | "reject"), "waiting"):
                return (str(job.order),)
            case "stop", "running":
                return ("stop",)
            case "halt", "running" if not self._world.is_let_go(job.job_id):
                return ("stop",)
            case "halt", "stopped":
                self._world.let_go(job.job_id)
                return ("restart",)
            case "again", "done" if self._world.workspace.is_complete(job.job_id) and not self._has_run_twice(job):
                return ("restart",)
        return ()

    def _has_run_twice(self, job: Planned) -> bool:
        return self._world.runs_of(job.job_id) > 1

    def _is_given(self, word: str) -> bool:
        return any(given.words[0] == word for given in self._given)

    def _give(self, words: tuple[str, ...], job: str = "") -> None:
        if job:
            self._world.orders[job, words[0]] += 1
        self._given.append(_Given(words, self._world.popctl(*words), time.monotonic(), job))

    def _hear(self) -> None:
        """Take the answers that have come; one that does not come is a fault."""
        for given in list(self._given):
            code = given.process.poll()
            if code is None and time.monotonic() < given.since + ANSWER_SECONDS:
                continue
            self._given.remove(given)
            said = f"popctl {' '.join(given.words)}"
            if code is None:
                given.process.kill()
                self.faults.append(f"{said} has not answered for {ANSWER_SECONDS} s")
            _, errors = given.process.communicate()
            if code is not None and (code not in CODES or "Traceback" in errors):
                self.faults.append(f"{said} exited with {code}: {errors[-300:]}")
            if code == 0:
                self.done[given.words[0]] += 1
                if given.words == ("resume",):
                    self._resume_at = None
