"""One soak from beginning to end: drop, break, wait, and hold what is left against what was planned."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from tests.soak import oracle, plan
from tests.soak.operator import Operator
from tests.soak.plan import Planned
from tests.soak.saboteur import Saboteur
from tests.soak.world import World, left_in
from tests.support.processes import Census, census, resident_kb

LOOK_SECONDS = 0.05
SAY_SECONDS = 5.0
QUIET_SECONDS = 25.0
MEAN_COMMAND_SECONDS = 0.7
LAST_ANSWER_SECONDS = 60.0
STUCK_SECONDS = 120.0
WARM_UP_JOBS = 30
CALM_SHARE = 0.25  # the last quarter runs in one daemon: its memory and descriptors are what is looked at
MOST_WAITING_PER_SLOT = 8
MOST_FAULTS = 10
TWICE = 2
FEWEST_JOBS = 200  # an allocator takes megabytes at a time: the growth over fewer says nothing
MOST_KB_PER_JOB = 40.0  # what is in error stays on the board, and an allocator keeps what it had at its busiest
# Pools of threads fill up to their size by chance: fsyncs 4, journals 4, arrivals 2, and the loop's own.
MORE_THREADS, MORE_DESCRIPTORS, MORE_SOCKETS = 8, 12, 6


@dataclass
class Report:
    """What a soak found. `broken` is empty where every promise was kept."""

    broken: list[str] = field(default_factory=list)
    summary: dict[str, object] = field(default_factory=dict)


class GaveUp(Exception):
    """It makes no sense to go on: nothing moves, or the daemon ends again and again by itself."""


class Soak:
    """`run` once."""

    def __init__(self, world: World, count: int, seed: int, mean_fault_seconds: float, say: bool = True) -> None:
        self._world = world
        self._planned = plan.jobs(seed, count, str(world.traces))
        self._saboteur = Saboteur(world, plan.faults(seed, mean_fault_seconds))
        self._operator = Operator(world, plan.commands(seed, MEAN_COMMAND_SECONDS))
        self._bursts = Random(f"bursts-{seed}")
        self._say_progress = say
        self._to_drop = list(reversed(self._planned))
        self._held_back: list[Planned] = []
        self._unsettled: dict[str, Planned] = {}
        self._settled: dict[str, str] = {}
        self._calm_from = count - int(count * CALM_SHARE)
        self._memory: list[tuple[int, int]] = []
        self._began = self._moved = self._said = time.monotonic()
        self._pause = threading.Event()
        self._report = Report()
        self._fresh: Census | None = None
        self._last: Census | None = None

    def run(self) -> Report:
        """Everything; takes as long as it takes, but not for ever without progress."""
        try:
            self._live()
        except GaveUp:
            self._saboteur.stop()
        self._world.stop_and_wait()
        self._report.broken += self._world.faults + self._operator.faults
        self._report.broken += oracle.faults_of(self._world, self._planned)
        self._report.broken += [f"left in TMPDIR: {name}" for name in left_in(self._world.temporary)][:10]
        self._summarize()
        return self._report

    def _live(self) -> None:
        self._go_through(self._until_settled(min(WARM_UP_JOBS, len(self._planned) // 4)), sabotage=False)
        self._fresh = self._quiet_census()
        self._go_through(self._until_settled(len(self._planned)), sabotage=True)
        self._saboteur.stop()
        self._let_go()
        self._last = self._quiet_census(self._leaked)
        self._report.broken += [f"leaked in the daemon: {fault}" for fault in self._leaked(self._last)]

    def _go_through(self, steps: Iterator[None], *, sabotage: bool) -> None:
        for _ in steps:
            if sabotage:
                self._saboteur.spares_daemon = len(self._settled) >= self._calm_from
                self._saboteur.step()
                self._operator.step()
            if self._world.has_ended():
                if len(self._world.faults) > MOST_FAULTS:
                    raise GaveUp
                self._world.start()
            self._look()
            self._operator.serve(list(self._unsettled.values()))
            self._feed()
            self._note_memory()
            self._say()
            self._pause.wait(LOOK_SECONDS)

    def _until_settled(self, count: int) -> Iterator[None]:
        self._limit = count
        while len(self._settled) < count:
            if time.monotonic() > self._moved + STUCK_SECONDS:
                self._report.broken += [f"{job} is stuck: {self._place(job)}" for job in self._unsettled]
                self._report.broken.append(f"nothing has moved for {STUCK_SECONDS} s; {len(self._to_drop)} not dropped")
                raise GaveUp
            yield

    def _let_go(self) -> None:
        deadline = time.monotonic() + LAST_ANSWER_SECONDS
        while not self._operator.let_go() and time.monotonic() < deadline:
            self._pause.wait(LOOK_SECONDS)

    # Dropping

    def _feed(self) -> None:
        """Seeds in bursts; duplicates when their original is done."""
        for job in [job for job in self._held_back if self._settled.get(str(job.duplicate_of)) == "done"]:
            self._held_back.remove(job)
            self._world.workspace.drop(str(job.duplicate_of), job.seed)
            self._unsettled[job.job_id] = job
        room = MOST_WAITING_PER_SLOT * 8 - len(self._unsettled)
        dropped = len(self._planned) - len(self._to_drop)
        burst = min(room, self._bursts.randint(0, 12), self._limit - dropped)
        for _ in range(burst):
            job = self._to_drop.pop()
            if job.duplicate_of is not None:
                self._held_back.append(job)
                continue
            self._world.workspace.drop(job.job_id, job.seed)
            self._unsettled[job.job_id] = job

    # Looking

    def _look(self) -> None:
        complete, rejected = self._names("complete"), self._names("rejected")
        for job_id, job in list(self._unsettled.items()):
            outcome = self._outcome(job, complete, rejected)
            if outcome is not None:
                del self._unsettled[job_id]
                self._settled[job_id] = outcome
                self._moved = time.monotonic()

    def _outcome(self, job: Planned, complete: set[str], rejected: set[str]) -> str | None:
        if job.duplicate_of is not None:
            return "rejected" if self._is_turned_down(job, rejected) else None
        if job.job_id in complete:
            return None if job.order == "again" and self._world.runs_of(job.job_id) < TWICE else "done"
        if job.job_id in rejected:
            return "rejected"
        state = self._world.workspace.state(job.job_id)
        if state == "stopped" and job.outcome == "stopped":
            return "stopped"
        ended = state == "error" and job.outcome != "rejected"  # what is on its way there is in error for a moment
        return "error" if ended else None

    def _is_turned_down(self, job: Planned, rejected: set[str]) -> bool:
        """Several duplicates of one job get `.2`, `.3`, …; which is which, their seeds tell."""
        own = (name for name in rejected if name.partition(".")[0] == job.duplicate_of)
        folder = self._world.workspace.data / "rejected"
        return any((folder / name / "seed.json").read_bytes() == job.seed for name in own)

    def _names(self, folder: str) -> set[str]:
        return {name for name in os.listdir(self._world.workspace.data / folder) if not name.startswith(".")}

    def _place(self, job_id: str) -> str:
        document = self._world.workspace.status(job_id)
        if document is None:
            pending = (self._world.workspace.data / "pending" / f"{job_id}-seed.json").exists()
            return "a seed in pending/" if pending else "nowhere"
        keys = ("state", "current", "currentStage", "lastUpdated", "restarts")
        return json.dumps({key: document[key] for key in keys})

    # Measuring

    def _note_memory(self) -> None:
        if self._saboteur.spares_daemon and len(self._settled) - (self._memory[-1][0] if self._memory else 0) >= 20:
            self._memory.append((len(self._settled), resident_kb(self._world.pid)))

    def _kb_per_job(self) -> float | None:
        """Growth of the last daemon over the second half of the calm stretch; caches have filled by then."""
        half = self._memory[len(self._memory) // 2 :]
        if not half or half[-1][0] - half[0][0] < FEWEST_JOBS:
            return None
        return (half[-1][1] - half[0][1]) / (half[-1][0] - half[0][0])

    def _leaked(self, counted: Census) -> list[str]:
        assert self._fresh is not None
        return counted.exceeds(self._fresh, threads=MORE_THREADS, descriptors=MORE_DESCRIPTORS, sockets=MORE_SOCKETS)

    def _quiet_census(self, leaked: Callable[[Census], list[str]] = lambda _: []) -> Census:
        """Counts when nothing is going on any more: many looks that agree, with no job's process there.

        What is only kept for a while, as an idle connection is, has not `leaked`: it is waited for.
        """
        deadline = time.monotonic() + QUIET_SECONDS
        looks: list[Census] = []
        while time.monotonic() < deadline:
            looks.append(census(self._world.pid))
            busy = bool(self._world.jobs())
            agree = len(looks) > 40 and len(set(looks[-20:])) == 1
            if not busy and agree and not leaked(looks[-1]):
                return looks[-1]
            self._pause.wait(LOOK_SECONDS)
        if not leaked(looks[-1]):
            self._report.broken.append(f"not quiet {QUIET_SECONDS} s after the last job: {looks[-3:]}")
        return looks[-1]

    def _summarize(self) -> None:
        outcomes = list(self._settled.values())
        growth = self._kb_per_job()
        if growth is not None and growth > MOST_KB_PER_JOB:
            self._report.broken.append(f"the daemon grows by {growth:.1f} kB a job, allowed are {MOST_KB_PER_JOB}")
        self._report.summary = {
            "jobs": len(self._planned),
            "outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))},
            "seconds": round(time.monotonic() - self._began, 1),
            "faults": dict(self._saboteur.done),
            "commands": dict(self._operator.done),
            "daemons": len(self._world.lives),
            "calls": len(self._world.calls.read_bytes().splitlines()),
            "kb a job": None if growth is None else round(growth, 1),
            "fresh": str(self._fresh),
            "last": str(self._last),
        }

    def _say(self) -> None:
        if not self._say_progress or time.monotonic() < self._said + SAY_SECONDS:
            return
        self._said = time.monotonic()
        done = list(self._settled.values())
        print(
            f"{self._said - self._began:6.0f} s  {len(done):5}/{len(self._planned)} settled"
            f" ({done.count('done')} done, {done.count('error')} error, {done.count('rejected')} rejected),"
            f" {len(self._unsettled)} waiting or running; {sum(self._saboteur.done.values())} faults,"
            f" daemon no. {len(self._world.lives) + 1}",
            flush=True,
        )
