"""`make bench`: the figures of docs/performance.md, each beside a floor measured in the same run.

Usage: python -m tests.bench [--quick] [latency|burst|idle|crowd|recovery|messages|supervision|gateway …]

Nothing is deleted before the end: ext4 searches past inodes freed in the last minutes, which makes every new file dear.
For the same reason, leave the file system alone for five minutes before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import gateway, messages, recovery, supervision
from tests.bench.figures import cpu_seconds, own_mb, resident_mb, tree_of
from tests.bench.floor import Floor, assert_single_threaded, files_of
from tests.support.daemon import Daemon, Workspace, wait_until

AT_ONCE = 4
SLEEPER = """import time

def ingestion(ctx):
    time.sleep(ctx.data["seed"]["data"]["seconds"])
    return {"output": {}}
"""


def main() -> int:
    """Measure what was asked for; print a line a figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help=f"any of {', '.join(MEASURES)}; all of them where none is named")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, for a first look")
    options = parser.parse_args()
    if unknown := set(options.what) - set(MEASURES):
        parser.error(f"no such measure: {', '.join(unknown)}")
    assert_single_threaded()
    scale = 0.1 if options.quick else 1.0
    print(f"{'figure':58} {'value':>12} {'floor':>12} {'ratio':>7}  aim")
    with tempfile.TemporaryDirectory(prefix="pop-bench-", dir=".") as folder:
        for name in options.what or MEASURES:
            place = Path(folder).resolve() / name
            place.mkdir()
            MEASURES[name](place, scale)
    return 0


def say(figure: str, value: float, unit: str, floor: float | None = None, aim: str = "") -> None:
    """One line of the table."""
    shown = f"{value:.2f} {unit}"
    under = "" if floor is None else f"{floor:.2f} {unit}"
    ratio = "" if not floor else f"{value / floor:.2f}"
    print(f"{figure:58} {shown:>12} {under:>12} {ratio:>7}  {aim}", flush=True)


def workspace_in(folder: Path) -> Workspace:
    """A workspace with the no-op pipeline."""
    workspace = Workspace(folder / "root")
    workspace.add_noop_pipeline()
    workspace.add_pipeline("sleeper", {"sleep": SLEEPER})
    return workspace


def run_one(workspace: Workspace, job_id: str) -> float:
    """Seconds from the seed's rename to the directory in complete/."""
    place = workspace.data / "complete" / job_id
    began = time.perf_counter()
    workspace.drop(job_id)
    while not place.exists():
        time.sleep(0.0002)
    return time.perf_counter() - began


def latencies(workspace: Workspace, count: int, prefix: str) -> list[float]:
    """One job after the other, with a pause for the pool to fill again."""
    for number in range(3):
        run_one(workspace, f"{prefix}-warm-{number}")
    times = []
    for number in range(count):
        time.sleep(0.05)
        times.append(run_one(workspace, f"{prefix}-{number}"))
    return times


def burst(workspace: Workspace, daemon: Daemon, count: int, prefix: str) -> tuple[float, float]:
    """Jobs per second of `count` seeds dropped at once, and CPU seconds per job of all processes."""
    finished = workspace.data / "complete"
    names = [f"{prefix}-{number}" for number in range(count)]
    before = cpu_seconds(tree_of(daemon.pid))
    began = time.perf_counter()
    for name in names:
        workspace.drop(name)
    left = set(names)
    while left:
        time.sleep(0.01)
        left = {name for name in left if not (finished / name).exists()}
    seconds = time.perf_counter() - began
    time.sleep(0.3)
    return count / seconds, (cpu_seconds(tree_of(daemon.pid)) - before) / count


def floor_in(folder: Path, workspace: Workspace, job_id: str) -> Floor:
    """A floor that writes what this finished job consists of."""
    line = (json.dumps(workspace.runs()[-1]) + "\n").encode()
    return Floor(folder / "floor", files_of(workspace.data / "complete" / job_id), line)


def measure_latency(folder: Path, scale: float) -> None:
    workspace = workspace_in(folder)
    with Daemon(workspace):
        times = latencies(workspace, max(10, int(100 * scale)), "lat")
    floor = floor_in(folder, workspace, "lat-0")
    floors = floor.latency(max(10, int(100 * scale)))
    middle, lowest = statistics.median(times) * 1e3, statistics.median(floors) * 1e3
    say("no-op job of four tasks, seed to complete/, median", middle, "ms", lowest, "<= 40 ms, <= 2.5 x")
    say("the same, 99th percentile", sorted(times)[int(len(times) * 0.99) - 1] * 1e3, "ms")


def measure_burst(folder: Path, scale: float) -> None:
    workspace = workspace_in(folder)
    count = max(20, int(200 * scale))
    with Daemon(workspace) as daemon:
        burst(workspace, daemon, 8, "warm")
        rate, cpu = burst(workspace, daemon, count, "burst")
    lowest = floor_in(folder, workspace, "burst-0").burst(count, AT_ONCE)
    say(f"{count} such jobs dropped at once, jobs/s", rate, "/s", lowest, ">= 50 /s, >= 0.5 x")
    say("CPU per job, all processes", cpu * 1e3, "ms", None, "<= 30 ms")


def measure_idle(folder: Path, scale: float) -> None:
    workspace = workspace_in(folder)
    seconds = max(4.0, 20 * scale)
    with Daemon(workspace) as daemon:
        run_one(workspace, "once")
        time.sleep(1.0)
        pids = tree_of(daemon.pid)
        before = cpu_seconds(pids)
        time.sleep(seconds)
        used = (cpu_seconds(pids) - before) / seconds * 100
        say("idle daemon, resident", resident_mb(daemon.pid), "MB", None, "<= 100 MB")
        say("idle, CPU of all processes", used, "%", None, "< 0.5 %")
        workspace.drop("sleeper", {"pipeline": "sleeper", "data": {"seconds": 3}})
        pid_file = workspace.data / "current" / "sleeper" / "runner.pid"
        wait_until(lambda: (workspace.status("sleeper") or {}).get("currentStage") == "ingestion", 10, "the job to run")
        own = own_mb(int(pid_file.read_text().split()[0]))
        say("a job's process, memory of its own (USS)", own, "MB", None, "<= 15 MB")
        wait_until(lambda: workspace.is_complete("sleeper"), 20, "the job to end")


def measure_crowd(folder: Path, scale: float) -> None:
    """The same figures in an empty workspace and among 10,000 finished jobs and 10,000 pending seeds."""
    workspace = workspace_in(folder)
    many = max(500, int(10_000 * scale))
    count, jobs = max(10, int(60 * scale)), max(20, int(200 * scale))
    with Daemon(workspace) as daemon:
        empty = figures_of(workspace, daemon, count, jobs, "empty")
        crowd(workspace, many)
        wait_until(lambda: pending_seeds(daemon) >= many, 120, "the seeds to be seen")
        full = figures_of(workspace, daemon, count, jobs, "full")
        resident = resident_mb(daemon.pid)
    for name, unit in (("latency", "ms"), ("rate", "/s"), ("status", "ms")):
        say(f"{name} among {many} finished, {many} pending", full[name], unit, empty[name], "empty; within 1.5 x")
    say("daemon among them, resident", resident, "MB")


def figures_of(workspace: Workspace, daemon: Daemon, count: int, jobs: int, prefix: str) -> dict[str, float]:
    latency = statistics.median(latencies(workspace, count, f"{prefix}-l")) * 1e3
    rate, _ = burst(workspace, daemon, jobs, f"{prefix}-b")
    times = []
    for _ in range(10):
        began = time.perf_counter()
        daemon.ctl("status", f"{prefix}-l-0")
        times.append(time.perf_counter() - began)
    return {"latency": latency, "rate": rate, "status": statistics.median(times) * 1e3}


def crowd(workspace: Workspace, many: int) -> None:
    """Finished jobs and their runs, and seeds that wait for a job that never comes."""
    status = workspace.status("empty-l-0")
    assert status is not None
    run = workspace.runs()[0]
    with (workspace.data / "complete" / "runs.jsonl").open("a", encoding="utf-8") as runs:
        for number in range(many):
            job = workspace.data / "complete" / f"old-{number}"
            job.mkdir()
            (job / "tasks-status.json").write_text(json.dumps({**status, "id": f"old-{number}"}), encoding="utf-8")
            runs.write(json.dumps({**run, "id": f"old-{number}", "pipelineId": f"pl-old-{number}"}) + "\n")
    for number in range(many):
        workspace.drop(f"pending-{number}", {"data": {}, "dependsOn": ["never"]})


def pending_seeds(daemon: Daemon) -> int:
    return int(json.loads(daemon.ctl("--json", "status").stdout)["pendingSeeds"])


def measure_recovery(folder: Path, scale: float) -> None:
    """A start after kill -9 of everything, among jobs that were under way and jobs that are finished."""
    found = recovery.measure(folder, scale)
    among = f"among {found['unfinished']:.0f} unfinished, {found['finished']:.0f} finished"
    for slots in (4, 16):
        say(f"start {among}: exec to ready, {slots} slots", found[f"ready {slots}"], "s", None, "<= 3 s")
        say("from there to every slot busy", found[f"busy {slots}"], "s", None, "<= 1 s")
        say("looks into complete/ meanwhile", found[f"looks {slots}"], "", None, "0")


def measure_messages(folder: Path, scale: float) -> None:
    """Messages between actors, each beside the bare thing below it."""
    found = messages.measure()
    for name in (name for name in found if not name.endswith(("_floor", "_ratio"))):
        aim = "<= 3 x" if name.startswith("process") else "<= 1.5 x"
        say(f"a message: {name.replace('_', ' ')}", found[name], "us", found.get(f"{name}_floor"), aim)


def measure_supervision(folder: Path, scale: float) -> None:
    """Crowds of children, per child: what is linear costs the same in both."""
    found = supervision.measure()
    restart = found.pop("process_restart")
    for name, seconds in found.items():
        say(f"supervisor, per child: {name.replace('_', ' ')}", seconds * 1e6, "us")
    say("a process actor's death to its successor, no backoff", restart * 1e3, "ms", None, "<= 50 ms")


def measure_gateway(folder: Path, scale: float) -> None:
    """Model calls through a job, the gateway and its journal, beside httpx2 alone."""
    found = gateway.measure(folder, scale)
    aims = ("", ">= 0.5 x"), ("", ">= 0.9 x"), (">= 800 /s", "")
    for load, (least, ratio) in zip(gateway.LOADS, aims, strict=True):
        rate, cpu = f"rate {load.name}", f"cpu {load.name}"
        say(f"model calls, {load.name}", found[rate], "/s", found[f"{rate}_floor"], least or ratio)
        say("CPU per call, all processes", found[cpu] * 1e6, "us", found[f"{cpu}_floor"] * 1e6, "<= 2 x")
    say("a model call, one at a time: added, median", found["added"] * 1e3, "ms", None, "<= 1 ms")
    say("the same, 99th percentile", found["added 99th"] * 1e3, "ms", None, "<= 5 ms")
    say("and its fsync, median", found["fsync"] * 1e3, "ms")


MEASURES: dict[str, Callable[[Path, float], None]] = {
    "latency": measure_latency,
    "burst": measure_burst,
    "idle": measure_idle,
    "crowd": measure_crowd,
    "recovery": measure_recovery,
    "messages": measure_messages,
    "supervision": measure_supervision,
    "gateway": measure_gateway,
}

if __name__ == "__main__":
    sys.exit(main())
