"""A run of the service whose every change of the disk is recorded, and the same run cut off anywhere, started again."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fault_world import BAD_SEED, Provider, World
from oracle import (
    Before,
    faults_after_a_power_cut,
    faults_of_controlled,
    faults_of_edited,
    faults_of_gated,
    faults_of_rejection,
    faults_of_second_run,
    places_of,
)
from power import PowerCut
from seeds import SEEDS

from support.daemon import wait_until

SECONDS = 45.0
REPLAY = "POP_RECORDING"
"""The variable of the environment that names the root of a run to be cut again, instead of a new one."""


@dataclass(frozen=True)
class Jobs:
    """What comes of a seed each: two that complete, one that is not good enough, one that is no JSON, one that is run a
    second time once it has completed, one that waits to be approved, one that has its code edited meanwhile, and one
    that adds to its own tasks."""

    traced: tuple[str, str]
    poor: str
    invalid: str
    again: str
    gated: str
    edited: str
    controlled: str


@dataclass(frozen=True)
class Run:
    """What was recorded: the data folder before it, each change of the disk, the stages begun, the provider's calls."""

    jobs: Jobs
    at_first: PowerCut
    lines: list[dict[str, Any]]
    executions: list[dict[str, Any]]
    calls: list[dict[str, Any]]


class Recording:
    """One recorded run in `root`. `cut` puts the workspace back to what a power cut there leaves.

    A root that holds a recorded run already is not recorded anew, so that a cut that failed can be made again.
    """

    def __init__(self, root: Path, provider: Provider) -> None:
        self.world = World(root, provider, "[jobs]\nmax_running = 3\nsettle_seconds = 0\n")
        self.left = root / "left"
        self._provider = provider
        self._calls_file = root / "calls.jsonl"
        kept = root / "run.pickle"
        if kept.exists():
            self._run: Run = pickle.loads(kept.read_bytes())
        else:
            try:
                self._run = self._record(root)
            except BaseException:
                self.world.close()
                raise
            kept.write_bytes(pickle.dumps(self._run))
        self.jobs, self.lines = self._run.jobs, self._run.lines
        self.has_failed = False

    def _record(self, root: Path) -> Run:
        name = f"p{abs(hash(root)) % 10**6:06d}"
        self.jobs = Jobs((f"{name}a", f"{name}b"), *(f"{name}{letter}" for letter in "qsrgec"))
        for job_id in self.jobs.traced:
            self.world.drop(job_id)
        self.world.drop(self.jobs.poor, rejected=True)
        self.world.drop(self.jobs.again, "again")
        for job_id, pipeline in (
            (self.jobs.gated, "gated"),
            (self.jobs.edited, "edited"),
            (self.jobs.controlled, "controlled"),
        ):
            self.world.drop(job_id, pipeline)
        self.world.workspace.drop(self.jobs.invalid, BAD_SEED)
        data = self.world.workspace.data
        at_first = PowerCut(data)
        record = root / "record.jsonl"
        daemon = self.world.start(f"record={record}")
        told = SEEDS["edited"].bring_about(daemon, self.world, self.jobs.edited)
        assert told is not None
        told.wait(SECONDS)
        self._wait_for_all()
        daemon.ctl("restart", self.jobs.again)
        wait_until(lambda: self._runs_of(self.jobs.again) == 2, SECONDS, "the second run to end", daemon)
        wait_until(lambda: self._is_gone(self.jobs.again), SECONDS, "it to depart", daemon)
        self._end()
        shutil.copytree(data, self.left, ignore=shutil.ignore_patterns("state"))
        executions = self.world.workspace.lines(self.world.executions)
        return Run(self.jobs, at_first, self.world.workspace.lines(record), executions, self._calls_so_far())

    def passage(self, point: str, number: int = 1) -> int:
        """The position of the `number`th passage of a fault point."""
        found = [at for at, line in enumerate(self.lines) if (line["op"], line.get("name")) == ("mark", point)]
        assert len(found) >= number, f"{point} was passed {len(found)} times"
        return found[number - 1]

    def model(self, position: int) -> PowerCut:
        """The file system as it was behind the line at that position."""
        cut = copy.deepcopy(self._run.at_first)
        cut.follow(self.lines[: position + 1])
        return cut

    def check(self, position: int, luck: object | None) -> None:
        """AssertionError where a promise is broken after a cut there, with how to have the same again."""
        where = f"cut at {position} with luck {luck!r}; for the same again: {REPLAY}={self.world.workspace.root}"
        has_failed_before, self.has_failed = self.has_failed, True
        try:
            found = self.faults_when_cut(position, luck)
        except AssertionError as error:
            raise AssertionError(f"{where}\n{error}") from None
        assert found == [], where
        self.has_failed = has_failed_before

    def faults_when_cut(self, position: int, luck: object | None) -> list[str]:
        """Cut the power there, strictly or with that luck, start again, and let everything end: what is wrong then."""
        data = self.world.workspace.data
        shutil.rmtree(data)
        cut = self.model(position)
        if luck is None:
            cut.strict(data)
        else:
            cut.lucky(data, luck)
        moment = self.lines[position]["at"]
        traces = [line for line in self._run.executions if line["at"] <= moment]
        self.world.executions.write_text("".join(json.dumps(line) + "\n" for line in traces))
        started = time.time()
        self.world.start()
        try:
            self._wait_for_all()
        finally:
            self._end()
        calls = [call for call in self._run.calls if call["at"] <= moment]
        since = [call for call in self._calls_so_far() if call["at"] >= started]
        self._calls_file.write_text("".join(json.dumps(call) + "\n" for call in calls + since))
        self.world.provider = replace(self._provider, log=self._calls_file)
        return self._faults(position, traces, calls)

    def _faults(self, position: int, traces: list[Any], calls: list[Any]) -> list[str]:
        found = []
        for job_id in self.jobs.traced:
            seen = self._before(job_id, position, traces, calls)
            found += [f"{job_id}: {fault}" for fault in faults_after_a_power_cut(self.world, job_id, seen)]
        data = self.world.workspace.data
        for job_id, reason in ((self.jobs.poor, "quality"), (self.jobs.invalid, "invalid_json")):
            found += [f"{job_id}: {fault}" for fault in faults_of_rejection(data, job_id, reason)]
        if (data / "rejected" / self.jobs.invalid / "seed.json").read_bytes() != BAD_SEED:
            found.append("the rejected seed is not what was dropped")
        found += [f"{self.jobs.gated}: {fault}" for fault in faults_of_gated(self.world, self.jobs.gated)]
        told = faults_of_edited(self.world, self.jobs.edited, told=(0, 1))  # before the first start it is no change
        found += [f"{self.jobs.edited}: {fault}" for fault in told]
        found += [
            f"{self.jobs.controlled}: {fault}" for fault in faults_of_controlled(self.world, self.jobs.controlled)
        ]
        return found + [f"{self.jobs.again}: {fault}" for fault in faults_of_second_run(self.world, self.jobs.again)]

    def _before(self, job_id: str, position: int, traces: list[Any], calls: list[Any]) -> Before:
        own = [line for line in traces if line["job"] == job_id]
        ended = {line["pid"] for line in self.lines[: position + 1] if line.get("name") == "runner.ended"}
        arrived = Counter(call["model"].rpartition("+")[2] for call in calls if job_id in call["model"].split("+"))
        return Before(own, arrived, bool(ended & {line["pid"] for line in own}))

    def _wait_for_all(self) -> None:
        self.world.wait_until_complete(*self.jobs.traced, self.jobs.again, self.jobs.controlled)
        for job_id in (self.jobs.poor, self.jobs.invalid):
            wait_until(
                lambda j=job_id: self.world.workspace.rejection(j), SECONDS, f"{job_id} to be rejected",
                self.world.daemon,
            )  # fmt: skip
            wait_until(lambda j=job_id: self._is_gone(j), SECONDS, f"{job_id} to depart", self.world.daemon)
        for job_id in (self.jobs.gated, self.jobs.edited):
            SEEDS["gated"].wait(self.world, job_id)
        jobs = self.jobs
        for job_id in (*jobs.traced, jobs.again, jobs.gated, jobs.edited, jobs.controlled):
            wait_until(lambda j=job_id: self._is_gone(j), SECONDS, f"{job_id} to be in one place", self.world.daemon)

    def _is_gone(self, job_id: str) -> bool:
        """A cut brings back names that were removed: where all was over before it, only a start removes them again."""
        data = self.world.workspace.data
        staging = data / "staging" / job_id
        return len(places_of(data, job_id)) == 1 and not (staging.is_dir() and os.listdir(staging))

    def _runs_of(self, job_id: str) -> int:
        return len([run for run in self.world.workspace.runs() if run["id"] == job_id])

    def _calls_so_far(self) -> list[Any]:
        jobs = {*self.jobs.traced, self.jobs.poor}
        lines = [json.loads(line) for line in self._provider.log.read_text().splitlines()]
        return [line for line in lines if jobs & set(line["model"].split("+"))]

    def _end(self) -> None:
        self.world.kill_everything()
        self.world.wait_until_all_dead()
