"""Whatever the wall clock does, and however long a machine sleeps: no timeout fires early or never, no stamp of a job
goes backwards, and nothing is declared dead that only was not let run."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fault_world import BEGIN, Provider, StatusWatch, World

from pop_actors.storage import control_socket
from support.daemon import Daemon, wait_until

DAY, HOUR = 86400, 3600
MOST_MILLISECONDS = 60_000  # of work in these tests; a duration taken from the wall clock would be hours

# Put before the daemon's modules by PYTHONPATH, and inherited by whatever it starts: a wall clock that can be set.
SITECUSTOMIZE = """
import os, time

_time, _time_ns = time.time, time.time_ns

def _offset():
    with open(os.environ["CLOCK_OFFSET_FILE"]) as file:
        return int(file.read())

time.time = lambda: _time() + _offset()
time.time_ns = lambda: _time_ns() + _offset() * 10**9
"""
HOLD = (
    BEGIN
    + """
import threading

def ingestion(ctx):
    begin(ctx, "ingestion")
    while not os.path.exists(ctx.data["seed"]["data"]["release"]):
        threading.Event().wait(0.02)
    return {"output": {}}
"""
)
RETRIED = (
    BEGIN
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    if ctx.meta.attempt == 1:
        raise RuntimeError("on purpose")
    return {"output": {}}
"""
)
CALLING = (
    BEGIN
    + """
def inference(ctx):
    begin(ctx, "inference")
    return {"output": {"text": ctx.llm.chat("a question", model=f"ok+slow-700ms+{ctx.meta.job_id}").content}}
"""
)
LATE = (
    BEGIN
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    while True:
        time.sleep(0.01)
"""
)


class ClockWorld(World):
    """A world with a clock of its own, which is right at first."""

    def __init__(self, root: Path, provider: Provider, settings: str = "", **environment: str) -> None:
        super().__init__(root, provider, settings)
        site = root / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
        self._clock = root / "clock"
        self._environment = {"PYTHONPATH": str(site), "CLOCK_OFFSET_FILE": str(self._clock), **environment}
        self._release = root / "release"
        self.step(0)
        self.workspace.add_pipeline("hold", {"hold": HOLD}, [{"name": "hold", "stageTimeout": HOUR}])
        self.workspace.add_pipeline("retried", {"retried": RETRIED})
        self.workspace.add_pipeline("calling", {"calling": CALLING})
        self.workspace.add_pipeline("late", {"late": LATE}, [{"name": "late", "stageTimeout": 1.5, "maxAttempts": 1}])

    def start(self, fault_point: str | None = None) -> Daemon:
        self.daemon = Daemon(self.workspace, {"FAKE_KEY": "no-secret", **self._environment})
        self.daemon.start()
        self._sessions.append(self.daemon.pid)
        return self.daemon

    def step(self, seconds: int) -> None:
        """Set the clock so far from the right time."""
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(str(seconds))
        fresh.rename(self._clock)

    def drop_held(self, job_id: str) -> None:
        """A job that goes on until `release`."""
        self.drop(job_id, "hold", release=str(self._release))

    def release(self) -> None:
        self._release.touch()

    def wait_until_begun(self, *job_ids: str) -> None:
        for job_id in job_ids:
            wait_until(lambda j=job_id: self.traces(j), 20, f"{job_id} to begin", self.daemon)

    def wait_for_event(self, job_id: str, kind: str, count: int = 1) -> None:
        def has_it() -> bool:
            return sum(event["type"] == kind for event in self.events(job_id)) >= count

        wait_until(has_it, 20, f"{kind} of {job_id}", self.daemon)

    def metric(self, name: str) -> float:
        """The sum over its labels, from the control socket."""
        socket = control_socket.find(self.workspace.data / "state")
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(socket))) as client:
            lines = client.get("http://popd/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


@pytest.fixture
def make_clock_world(tmp_path: Path, provider: Provider) -> Iterator[Callable[..., ClockWorld]]:
    """`make(settings, **environment)`."""
    made: list[ClockWorld] = []

    def make(settings: str = "", **environment: str) -> ClockWorld:
        made.append(ClockWorld(tmp_path, provider, settings, **environment))
        return made[-1]

    yield make
    for world in made:
        world.close()


def durations_of(world: World, job_id: str) -> list[float]:
    """Every duration its files tell of, ms."""
    status = world.workspace.status(job_id)
    assert status is not None
    told = [task["executionTime"] for task in status["tasks"].values()]
    told += [event["ms"] for event in world.events(job_id) if event["type"] == "StageFinished"]
    return told + [run["totalExecutionTime"] for run in world.workspace.runs() if run["id"] == job_id]


@pytest.mark.parametrize(
    ("seconds", "settles"),
    [
        pytest.param(DAY, False, id="a day on"),
        pytest.param(-DAY, True, id="a day back", marks=pytest.mark.faults),
        pytest.param(-HOUR, True, id="an hour back", marks=pytest.mark.faults),
    ],
)
def test_a_step_of_the_wall_clock_moves_stamps_and_nothing_else(
    make_clock_world: Callable[..., ClockWorld], job_id: str, seconds: int, settles: bool
) -> None:
    """A stage at work, one that outlives its time, a retry that waits, a call under way and a torn seed that settles:
    each goes on as if the clock had not been touched."""
    settle = 0.5 if settles else HOUR
    world = make_clock_world(f"[jobs]\nsettle_seconds = {settle}\n[tasks]\nretry_backoff_seconds = 1.0\n")
    held, retried, calling, late, torn = (f"{job_id}{kind}" for kind in "hrclt")
    daemon = world.start()
    with StatusWatch(world.workspace, held) as watch, StatusWatch(world.workspace, retried) as other:
        world.drop_held(held)
        for job, pipeline in ((retried, "retried"), (calling, "calling"), (late, "late")):
            world.drop(job, pipeline)
        world.wait_until_begun(held, calling, late)
        world.wait_for_event(retried, "AttemptFailed")
        world.workspace.drop(torn, b'{"data": {')
        world.step(seconds)
        world.wait_until_complete(retried, calling)
        wait_until(lambda: world.workspace.state(late) == "error", 20, "the late stage to be ended", daemon)
        if settles:
            wait_until(lambda: world.workspace.rejection(torn), 20, "the torn seed to be rejected", daemon)
        world.release()
        world.wait_until_complete(held)
    assert [*watch.faults, *other.faults] == []
    assert (world.workspace.data / "pending" / f"{torn}-seed.json").exists() is not settles
    failed = world.workspace.status(late)
    assert failed is not None
    assert failed["error"]["reason"] == "timeout"
    for job, attempts in ((held, 1), (retried, 2), (calling, 1)):
        assert [line["attempt"] for line in world.traces(job)] == list(range(1, attempts + 1))
        assert all(0 <= duration <= MOST_MILLISECONDS for duration in durations_of(world, job))
    assert 1400 <= max(durations_of(world, late)) <= MOST_MILLISECONDS  # its time counts from a little before
    wait_until(lambda: world.metric("pop_job_duration_seconds_count") == 4, 10, "four jobs to be counted", daemon)
    assert world.metric("pop_job_duration_seconds_sum") >= 0


@pytest.mark.faults
@pytest.mark.parametrize("seconds", [DAY, -DAY])
def test_a_start_under_another_date_takes_every_job_up(
    make_clock_world: Callable[..., ClockWorld], job_id: str, seconds: int
) -> None:
    """Jobs of a past or a future that never was: the one at work and the one between two attempts go on, in one run."""
    world = make_clock_world("[tasks]\nretry_backoff_seconds = 2.0\n")
    held, retried, after = (f"{job_id}{kind}" for kind in "hra")
    world.start()
    world.drop_held(held)
    world.drop(retried, "retried")
    world.wait_until_begun(held)
    world.wait_for_event(retried, "AttemptFailed")
    world.kill_daemon()
    world.wait_until_all_dead()
    world.step(seconds)
    with StatusWatch(world.workspace, held) as watch, StatusWatch(world.workspace, retried) as other:
        world.start()
        world.drop(after, "calling")
        world.wait_for_event(held, "JobStarted", 2)
        world.release()
        world.wait_until_complete(held, retried, after)
    assert [*watch.faults, *other.faults] == []
    assert sorted(run["id"] for run in world.workspace.runs()) == sorted([held, retried, after])
    assert [line["attempt"] for line in world.traces(retried)] == [1, 2]
    assert all(0 <= duration <= MOST_MILLISECONDS for job in (held, retried) for duration in durations_of(world, job))


@pytest.mark.faults
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
def test_stamps_are_utc_in_every_time_zone(make_clock_world: Callable[..., ClockWorld], job_id: str, zone: str) -> None:
    """Fourteen hours ahead or three and a half behind, with daylight saving or without."""
    world = make_clock_world(TZ=zone)
    world.start()
    began = datetime.now(UTC)
    world.drop(job_id, "calling")
    world.wait_until_complete(job_id)
    ended = datetime.now(UTC)
    status = world.workspace.status(job_id)
    assert status is not None
    stamps = [
        *stamps_in(status),
        *stamps_in(world.workspace.runs()),
        *stamps_in(world.events(job_id)),
        *stamps_in(world._log(job_id, "llm-calls.jsonl")),
    ]
    assert len(stamps) > 10
    assert all(stamp.endswith("Z") for stamp in stamps)
    moments = [datetime.fromisoformat(stamp).timestamp() for stamp in stamps]
    assert began.timestamp() - 0.001 <= min(moments)  # stamps are cut to milliseconds
    assert max(moments) <= ended.timestamp()


def stamps_in(document: Any) -> list[str]:
    """Everything under a key that names a moment."""
    if isinstance(document, list):
        return [stamp for entry in document for stamp in stamps_in(entry)]
    if not isinstance(document, dict):
        return []
    own = [value for key, value in document.items() if key == "at" or key.endswith(("At", "lastUpdated"))]
    return own + [stamp for value in document.values() for stamp in stamps_in(value)]


def fall_asleep(world: World) -> bool:
    """Stop all that runs; whether everything had been stopped already."""
    awake = [process.pid for process in world.family() if process.state != "T"]
    for pid in awake:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    return not awake


@pytest.mark.faults
def test_a_machine_that_slept_finds_its_jobs_alive(make_clock_world: Callable[..., ClockWorld], job_id: str) -> None:
    """Daemon, forkserver and jobs stand still for longer than the heartbeat's deadline; the daemon wakes first, and
    ends nobody for having been as silent as itself."""
    deadline = 3
    world = make_clock_world(f"[jobs]\nheartbeat_deadline_seconds = {deadline}\n")
    held, retried = f"{job_id}h", f"{job_id}r"
    daemon = world.start()
    world.drop_held(held)
    world.drop(retried, "retried")
    world.wait_until_begun(held, retried)
    wait_until(lambda: fall_asleep(world), 5, "all to stop")
    since = time.monotonic()
    wait_until(lambda: time.monotonic() - since > 1.5 * deadline, 60, "the night to be over")
    for process in sorted(world.family(), key=lambda process: process.pid != daemon.pid):
        os.kill(process.pid, signal.SIGCONT)
    world.wait_until_complete(retried)
    world.release()
    world.wait_until_complete(held)
    for job in (held, retried):
        assert [event for event in world.events(job) if event["type"] == "ProcessDown"] == []
    assert daemon.is_alive()
