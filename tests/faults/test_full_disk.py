"""A disk that fills up under a daemon with jobs: intake pauses and says why, jobs wait, and all goes on by itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fault_world import BEGIN, Provider, World

from support.daemon import wait_until

pytestmark = pytest.mark.faults
SOON = 20.0
STAGE_SECONDS = 1.5
SETTINGS = f"[jobs]\nmax_running = 2\n[tasks]\nstage_timeout_seconds = {STAGE_SECONDS}\n"

WRITER = (
    BEGIN
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    gate = ctx.data["seed"]["data"]["gate"]
    while not os.path.exists(gate):
        time.sleep(0.01)
    for number in range(20):
        ctx.io.write_artifact("lines.txt", f"line {number}", mode="append")
    return {"output": {"text": "x" * 5000}}

def inference(ctx):
    begin(ctx, "inference")
    return {"output": ctx.output}
"""
)

BUYER = (
    BEGIN
    + """
def inference(ctx):
    begin(ctx, "inference")
    seed = ctx.data["seed"]["data"]
    return {"output": {"text": ctx.llm.chat("a question", model=f"ok+slow-700ms+{ctx.meta.job_id}").content}}
"""
)


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """While there is a file of this name, the disk of daemon and jobs is full."""
    return tmp_path / "full"


@pytest.fixture
def flagged(make_world: Callable[..., World], full: Path) -> World:
    world = make_world(SETTINGS)
    world.workspace.add_pipeline("writer", {"writer": WRITER})
    world.workspace.add_pipeline("buyer", {"buyer": BUYER})
    world.start(f"full-while={full}").wait_until_ready()
    return world


@contextlib.contextmanager
def api(world: World) -> Iterator[httpx2.Client]:
    socket = str(world.workspace.data / "state" / "popd.sock")
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=socket), base_url="http://popd") as client:
        yield client


def readiness(world: World) -> tuple[int, str]:
    with api(world) as client:
        answer = client.get("/readyz")
        return answer.status_code, answer.text


def metric(world: World, name: str) -> float:
    with api(world) as client:
        found = re.search(rf"^{re.escape(name)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def wait_until_past_its_time(since: float) -> None:
    """Until a stage that began at `since` would be overdue, and the daemon's grace over."""
    wait_until(lambda: time.monotonic() > since + STAGE_SECONDS + 2.0, SOON, "the stage's time to be over")


def task_of(world: World, job_id: str) -> dict[str, Any]:
    document = world.workspace.status(job_id)
    assert document is not None
    (task,) = document["tasks"].values()
    return dict(task)


def test_a_full_disk_pauses_intake_and_holds_jobs_until_there_is_room(
    flagged: World, full: Path, tmp_path: Path, job_id: str
) -> None:
    """The reason is to be seen everywhere; the time of a stage stands still; nothing is done twice or torn."""
    gate = tmp_path / "gate"
    flagged.drop(job_id, "writer", gate=str(gate))
    wait_until(lambda: flagged.traces(job_id), SOON, "the stage to run", flagged.daemon)
    began = time.monotonic()
    full.touch()
    gate.touch()
    wait_until(lambda: readiness(flagged)[0] == 503, SOON, "the service to be unready", flagged.daemon)
    assert "disk_full" in readiness(flagged)[1]
    assert metric(flagged, "pop_disk_full") == 1
    assert metric(flagged, 'pop_intake_paused{reason="disk_full"}') == 1
    assert flagged.daemon is not None
    assert "disk_full" in flagged.daemon.ctl("status").stdout
    flagged.drop(f"{job_id}b", "writer", gate=str(gate))
    wait_until_past_its_time(began)
    assert flagged.job_process(job_id) is not None
    assert (flagged.workspace.data / "pending" / f"{job_id}b-seed.json").exists()
    full.unlink()
    flagged.wait_until_complete(job_id, f"{job_id}b")
    task = task_of(flagged, job_id)
    assert (task["state"], task["attempts"]) == ("done", 1)
    lines = flagged.workspace.data / "complete" / job_id / "files" / "artifacts" / "lines.txt"
    assert lines.read_text() == "".join(f"line {number}" for number in range(20))
    assert [trace["stage"] for trace in flagged.traces(job_id)] == ["ingestion", "inference"]
    assert {"TaskHeld", "TaskReleased"} <= {event["type"] for event in flagged.events(job_id)}
    wait_until(lambda: readiness(flagged)[0] == 200, SOON, "the service to be ready", flagged.daemon)
    log = flagged.daemon.text_of_log()
    assert log.count("no seed is claimed for now") == 1
    assert "the disk refuses" not in log
    assert log.count("the disk has room again") == 1


def test_a_reply_that_comes_while_the_disk_is_full_is_kept_and_not_bought_again(
    flagged: World, full: Path, job_id: str
) -> None:
    """It is written down, and only then delivered."""
    flagged.drop(job_id, "buyer")
    wait_until(lambda: flagged.provider.calls(job_id), SOON, "the call to arrive", flagged.daemon)
    began = time.monotonic()
    full.touch()
    wait_until_past_its_time(began)
    assert flagged.calls_without_reply(job_id) == 1
    full.unlink()
    flagged.wait_until_complete(job_id)
    assert len(flagged.provider.calls(job_id)) == 1
    assert flagged.calls_without_reply(job_id) == 0
    assert task_of(flagged, job_id)["attempts"] == 1


def test_a_call_that_cannot_be_written_down_is_not_sent(flagged: World, full: Path, job_id: str) -> None:
    """The task asks again until there is room, and its attempt does not fail."""
    gate = full.with_name("gate")
    source = BEGIN + (
        "\ndef inference(ctx):\n    begin(ctx, 'inference')\n"
        "    while not os.path.exists(ctx.data['seed']['data']['gate']):\n        time.sleep(0.01)\n"
        "    model = f'ok+{ctx.meta.job_id}'\n"
        "    return {'output': {'text': ctx.llm.chat('a question', model=model).content}}\n"
    )
    flagged.workspace.add_pipeline("late", {"late": source})
    flagged.drop(job_id, "late", gate=str(gate))
    wait_until(lambda: flagged.traces(job_id), SOON, "the stage to run", flagged.daemon)
    began = time.monotonic()
    full.touch()
    gate.touch()
    wait_until_past_its_time(began)
    assert flagged.provider.calls(job_id) == []
    full.unlink()
    flagged.wait_until_complete(job_id)
    assert len(flagged.provider.calls(job_id)) == 1
    assert task_of(flagged, job_id)["attempts"] == 1


def test_a_service_with_a_full_disk_stops_when_told_and_goes_on_with_room(
    flagged: World, full: Path, tmp_path: Path, job_id: str
) -> None:
    """A job that waits for room leaves at once; nothing it had done is lost."""
    gate = tmp_path / "gate"
    flagged.drop(job_id, "writer", gate=str(gate))
    wait_until(lambda: flagged.traces(job_id), SOON, "the stage to run", flagged.daemon)
    full.touch()
    gate.touch()
    wait_until(lambda: readiness(flagged)[0] == 503, SOON, "the service to be unready", flagged.daemon)
    assert flagged.daemon is not None
    assert flagged.daemon.stop(15) == 0
    log = flagged.daemon.text_of_log()
    assert "job suspended" in log
    assert "process down" not in log
    full.unlink()
    flagged.start().wait_until_ready()
    flagged.wait_until_complete(job_id)
    assert task_of(flagged, job_id)["attempts"] == 1


def test_a_job_that_waits_for_room_can_be_stopped(flagged: World, full: Path, tmp_path: Path, job_id: str) -> None:
    """Its process goes and its slot is free."""
    gate = tmp_path / "gate"
    flagged.drop(job_id, "writer", gate=str(gate))
    wait_until(lambda: flagged.traces(job_id), SOON, "the stage to run", flagged.daemon)
    full.touch()
    gate.touch()
    wait_until(lambda: readiness(flagged)[0] == 503, SOON, "the service to be unready", flagged.daemon)
    assert flagged.daemon is not None
    flagged.daemon.ctl("stop", job_id, check=False)
    wait_until(lambda: flagged.job_process(job_id) is None, SOON, "the process to be gone", flagged.daemon)
    full.unlink()
    wait_until(lambda: flagged.workspace.state(job_id) == "stopped", SOON, "the job to be stopped", flagged.daemon)


def test_little_room_pauses_intake_before_jobs_suffer(make_world: Callable[..., World], job_id: str) -> None:
    """The reserve is for those that run; nothing is refused, and the reason names figures."""
    world = make_world(f"[jobs]\ndisk_reserve_mb = {10**9}\n")
    world.start().wait_until_ready()
    world.drop(job_id)
    wait_until(lambda: metric(world, "pop_pending_seeds") == 1, SOON, "the seed to be seen", world.daemon)
    status, reason = readiness(world)
    assert (status, "disk_low" in reason, "jobs.disk_reserve_mb" in reason) == (503, True, True)
    assert metric(world, 'pop_intake_paused{reason="disk_low"}') == 1
    assert (world.workspace.data / "pending" / f"{job_id}-seed.json").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB where the jobs will be."""
    place = tmp_path / "pipeline-data"
    place.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place]).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """Write until the last byte is taken; the file that takes them."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


def test_a_real_file_system_that_is_full(small_disk: Path, tmp_path: Path, provider: Provider, job_id: str) -> None:
    """The same with a kernel that says no: what was written before is whole, and the jobs end when there is room."""
    world = World(tmp_path, provider, SETTINGS)
    try:
        world.workspace.add_pipeline("writer", {"writer": WRITER})
        world.start().wait_until_ready()
        gate = tmp_path / "gate"
        names = [f"{job_id}{letter}" for letter in "ab"]
        for name in names:
            world.drop(name, "writer", gate=str(gate))
        wait_until(lambda: all(world.traces(name) for name in names), SOON, "the stages to run", world.daemon)
        began = time.monotonic()
        filler = fill(small_disk)
        gate.touch()
        wait_until(lambda: readiness(world)[0] == 503, SOON, "the service to be unready", world.daemon)
        wait_until_past_its_time(began)
        for name in names:
            json.loads((small_disk / "current" / name / "tasks-status.json").read_bytes())
            assert world.job_process(name) is not None
        filler.unlink()
        world.wait_until_complete(*names)
        assert [task_of(world, name)["attempts"] for name in names] == [1, 1]
    finally:
        world.close()


def test_a_service_starts_on_a_full_disk(flagged: World, full: Path, tmp_path: Path, job_id: str) -> None:
    """It says so, claims nothing, takes up what it finds, and goes on when there is room."""
    gate = tmp_path / "gate"
    flagged.drop(job_id, "writer", gate=str(gate))
    wait_until(lambda: flagged.traces(job_id), SOON, "the stage to run", flagged.daemon)
    flagged.kill_everything()
    flagged.wait_until_all_dead()
    flagged.drop(f"{job_id}b", "writer", gate=str(gate))
    full.touch()
    gate.touch()
    flagged.start(f"full-while={full}").wait_until_ready()
    wait_until(lambda: readiness(flagged)[0] == 503, SOON, "the service to be unready", flagged.daemon)
    full.unlink()
    flagged.wait_until_complete(job_id, f"{job_id}b")
