"""What a soak drops and breaks, and what is to come of it. Pure: one number gives the same plan every time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from tests.soak.pipelines import MAX_REFINEMENTS

SEED_MAX_BYTES = 65536
LOCKS = 12
Outcome = Literal["done", "error", "rejected", "stopped"]
Order = Literal["approve", "reject", "stop", "halt", "again"]
"""What a person has to do about a job: decide at its gate; stop it, for good or to restart it; restart it when done."""

# Trouble the gateway gets over by itself: each form of Retry-After, each status worth another try, each way to break.
TRANSIENT = (
    "fail-429-1+after-50ms", "fail-429-1+after-1s", "fail-429-1+date-1s", "fail-429-2", "fail-500-1", "fail-502-1",
    "fail-503-2+after-20ms", "fail-504-1", "fail-529-1", "fail-408-1", "fail-409-1", "reset-1", "reset-2", "hangup-1",
    "cut-1", "stall-1",
)  # fmt: skip
# Trouble that ends an attempt: the task's next one gets its answer.
FATAL_ONCE = (
    "empty-1", "garbage-1", "notjson-1", "nochoices-1", "wrongtypes-1", "deep-1", "redirect-1", "endless-1",
    "truncated-1", "blocked-1", "emptytext-1",
)  # fmt: skip
CALM = ("ok", "slow-20ms", "slow-100ms", "slow-400ms", "usage-120-340", "usage-900-20+cached-300", "big-1mb")
HOPELESS = ("fail-400", "fail-401", "fail-403", "fail-404", "quota")
FAILURES = ("exception", "timeout", "invalid_result", "flags", "validation", "provider")


@dataclass(frozen=True, slots=True)
class Planned:
    """A seed to drop, and its one right end. `reason` is that of the error or the rejection.

    `attempts`: how many each task takes, where the provider has no say in it; `crashes`: how often its process ends by
    itself. `duplicate_of`: dropped under the id of that job once that one is done; its own id is only the soak's name.
    `order`: what popctl is told about it, which it does not end without.
    """

    job_id: str
    pipeline: str
    seed: bytes
    outcome: Outcome
    reason: str | None = None
    attempts: dict[str, int] = field(default_factory=dict)
    crashes: int = 0
    depends_on: str | None = None
    lock: str | None = None
    duplicate_of: str | None = None
    order: Order | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something to break after so many seconds. `luck` in [0, 1) picks the victim and what else there is to choose."""

    after: float
    kind: str
    luck: float


# How often each is broken, beside the others; the last four take the daemon down.
FAULTS = {
    "kill-job": 30, "kill-idle": 8, "kill-forkserver": 4, "freeze-job": 14, "freeze-idle": 3, "freeze-forkserver": 2,
    "freeze-daemon": 4, "fill-disk": 6, "kill-daemon": 5, "kill-all": 3, "term-daemon": 3, "shut-down": 2,
}  # fmt: skip
DAEMON_FAULTS = frozenset({"kill-daemon", "kill-all", "term-daemon", "shut-down"})

# What popctl is told at random; {n} is a number that luck gives.
COMMANDS = {
    "pause": 6, "status": 3, "list --all": 2, "tree": 2, "runs": 1, "gateway": 1, "events": 1, "doctor": 2,
    "gateway set openai max_concurrency={n}": 3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """A command of popctl to be given after so many seconds. `luck` in [0, 1) is for what there is to choose."""

    after: float
    words: tuple[str, ...]
    luck: float


def commands(seed: int, mean_seconds: float) -> Iterator[Command]:
    """The commands nobody needs, one after the other, without end."""
    random = Random(f"commands-{seed}")
    kinds, weights = list(COMMANDS), list(COMMANDS.values())
    while True:
        kind = random.choices(kinds, weights)[0].format(n=random.randint(8, 32))
        yield Command(random.uniform(0.2, 1.8) * mean_seconds, tuple(kind.split()), random.random())


def faults(seed: int, mean_seconds: float) -> Iterator[Fault]:
    """The faults, one after the other, without end."""
    random = Random(f"faults-{seed}")
    kinds, weights = list(FAULTS), list(FAULTS.values())
    while True:
        pause = random.uniform(0.2, 1.8) * mean_seconds
        yield Fault(pause, random.choices(kinds, weights)[0], random.random())


def jobs(seed: int, count: int, traces: str) -> list[Planned]:
    """So many seeds, in the order they are dropped. `traces` is the file the tasks write to."""
    return _Planner(seed, traces).plan(count)


class _Planner:
    def __init__(self, seed: int, traces: str) -> None:
        self._random = Random(f"jobs-{seed}")
        self._traces = traces
        self._makers = {
            self._quick: 12, self._chain: 24, self._branches: 12, self._batch: 8, self._refined: 10, self._flaky: 9,
            self._crashing: 7, self._failing: 9, self._quality: 4, self._unreadable: 6, self._unloadable: 1,
            self._crashing_for_good: 1, self._gated: 6, self._turned_down: 2, self._stopped: 2, self._halted: 3,
            self._again: 3, self._controlled: 5,
        }  # fmt: skip

    def plan(self, count: int) -> list[Planned]:
        """Each kind once, then at random."""
        planned: list[Planned] = []
        first = list(self._makers)
        for number in range(count):
            job_id = f"s{number:05d}"
            done = [job for job in planned[-60:] if job.outcome == "done" and job.order is None]
            if done and self._random.random() < 0.02:
                planned.append(self._duplicate(job_id, self._random.choice(done)))
                continue
            make = first.pop(0) if first else self._random.choices(list(self._makers), self._makers.values())[0]
            planned.append(make(job_id, done))
        return planned

    def _seed(self, pipeline: str, done: list[Planned], **data: Any) -> tuple[bytes, str | None, str | None]:
        """The seed's bytes, the job it waits for and the lock it takes."""
        random = self._random
        document: dict[str, Any] = {"pipeline": pipeline, "data": {"traces": self._traces, "scripts": {}, **data}}
        waits_for = lock = None
        if random.random() < 0.3:
            document["priority"] = random.randint(-3, 3)
        if done and random.random() < 0.08:
            waits_for = random.choice(done).job_id
            document["dependsOn"] = [waits_for]
        if random.random() < 0.08:
            lock = f"lock-{random.randrange(LOCKS)}"
            document["conflicts"] = [lock]
        return json.dumps(document).encode(), waits_for, lock

    def _made(
        self, job_id: str, pipeline: str, done: list[Planned], outcome: Outcome, *, told: dict[str, Any], **more: Any
    ) -> Planned:
        seed, depends_on, lock = self._seed(pipeline, done, **told)
        return Planned(job_id, pipeline, seed, outcome, depends_on=depends_on, lock=lock, **more)

    def _script(self) -> str:
        random = self._random
        kind = random.choices((CALM, TRANSIENT, FATAL_ONCE), (70, 22, 8))[0]
        return random.choice(kind)

    def _quick(self, job_id: str, done: list[Planned]) -> Planned:
        return self._made(job_id, "quick", done, "done", told={}, attempts={"one": 1, "two": 1})

    def _chain(self, job_id: str, done: list[Planned]) -> Planned:
        scripts = {task: [self._script()] for task in ("research", "write")}
        told = {"scripts": scripts, "twice": self._random.random() < 0.1}
        return self._made(job_id, "chain", done, "done", told=told)

    def _branches(self, job_id: str, done: list[Planned]) -> Planned:
        scripts = {task: [self._script()] for task in ("plan", "left", "right", "join")}
        return self._made(job_id, "branches", done, "done", told={"scripts": scripts})

    def _batch(self, job_id: str, done: list[Planned]) -> Planned:
        items = self._random.randint(2, 7)
        scripts = [self._random.choice((*CALM[:4], *TRANSIENT[:12])) for _ in range(items)]
        return self._made(job_id, "batch", done, "done", told={"items": items, "scripts": {"batch": scripts}})

    def _refined(self, job_id: str, done: list[Planned]) -> Planned:
        told = {"rounds": self._random.randint(0, MAX_REFINEMENTS), "scripts": {"refine": [self._script()]}}
        return self._made(job_id, "refine", done, "done", told=told)

    def _flaky(self, job_id: str, done: list[Planned]) -> Planned:
        fails = self._random.randint(0, 2)
        attempts = {"flaky": fails + 1, "extra": 1, "last": 1}
        return self._made(job_id, "flaky", done, "done", told={"fails": fails}, attempts=attempts)

    def _crashing(self, job_id: str, done: list[Planned]) -> Planned:
        crashes = self._random.randint(1, 2)
        attempts = {"crash": 1, "after": 1}
        return self._made(
            job_id, "crashing", done, "done", told={"crashes": crashes}, attempts=attempts, crashes=crashes
        )

    def _crashing_for_good(self, job_id: str, done: list[Planned]) -> Planned:
        return self._made(job_id, "crashing", done, "error", told={"crashes": 10**6}, reason="crashed")

    def _failing(self, job_id: str, done: list[Planned]) -> Planned:
        how = self._random.choice(FAILURES)
        told = {"how": how, "always": True, "scripts": {"fail": [self._random.choice(HOPELESS)]}}
        attempts = {"fail": 1 if how in {"invalid_result", "flags", "provider"} else 2}
        pipeline = "late" if how == "timeout" else "failing"
        return self._made(job_id, pipeline, done, "error", told=told, reason=how, attempts=attempts)

    def _quality(self, job_id: str, done: list[Planned]) -> Planned:
        strict = self._random.random() < 0.5
        told = {"rounds": MAX_REFINEMENTS + 1, "scripts": {"refine": [self._script()]}}
        return self._made(
            job_id,
            "strict" if strict else "refine",
            done,
            "rejected" if strict else "error",
            told=told,
            reason="quality",
        )

    def _unloadable(self, job_id: str, done: list[Planned]) -> Planned:
        return self._made(job_id, "unloadable", done, "error", told={}, reason="load", attempts={"load": 1})

    def _ordered(
        self, job_id: str, pipeline: str, outcome: Outcome, order: Order, attempts: dict[str, int], **more: Any
    ) -> Planned:
        seed = json.dumps({"pipeline": pipeline, "data": {"traces": self._traces, "scripts": {}}}).encode()
        return Planned(job_id, pipeline, seed, outcome, order=order, attempts=attempts, **more)

    def _gated(self, job_id: str, done: list[Planned]) -> Planned:
        return self._ordered(job_id, "gated", "done", "approve", {"draft": 1, "publish": 1})

    def _turned_down(self, job_id: str, done: list[Planned]) -> Planned:
        return self._ordered(job_id, "gated", "error", "reject", {"draft": 1}, reason="control")

    def _stopped(self, job_id: str, done: list[Planned]) -> Planned:
        return self._ordered(job_id, "halting", "stopped", "stop", {"before": 1, "halt": 1})

    def _halted(self, job_id: str, done: list[Planned]) -> Planned:
        return self._ordered(job_id, "halting", "done", "halt", {"before": 1, "halt": 1})

    def _again(self, job_id: str, done: list[Planned]) -> Planned:
        return self._ordered(job_id, "quick", "done", "again", {"one": 1, "two": 1})

    def _controlled(self, job_id: str, done: list[Planned]) -> Planned:
        attempts = {"plan": 1, "extra": 1, "more": 1, "print": 1}
        return self._made(job_id, "controlled", done, "done", told={}, attempts=attempts)

    def _unreadable(self, job_id: str, done: list[Planned]) -> Planned:
        reason, seed = self._random.choice(
            (
                ("invalid_json", b'{"data": {}'),
                ("invalid_json", b'{"data": {"x": NaN}}'),
                ("invalid_seed", b'{"data": []}'),
                ("invalid_seed", b'{"data": {}, "priority": "high", "dependsOn": [7]}'),
                ("unknown_pipeline", b'{"data": {}, "pipeline": "nowhere"}'),
                ("invalid_pipeline", b'{"data": {}, "pipeline": "invalid"}'),
                ("too_large", json.dumps({"data": {"x": "y" * SEED_MAX_BYTES}}).encode()),
            )
        )
        return Planned(job_id, "none", seed, "rejected", reason)

    def _duplicate(self, job_id: str, original: Planned) -> Planned:
        seed = json.dumps({"pipeline": "quick", "data": {"again": job_id}}).encode()
        return Planned(job_id, "none", seed, "rejected", "duplicate_job", duplicate_of=original.job_id)
