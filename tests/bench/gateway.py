"""What a model call costs through the whole of popd, beside httpx2 alone at the same provider and as many at once.

The whole: a job's process, the hub, the gateway, its limits, the journal with its fsync, and back. What the fsync costs
is told apart: the same with the workspace in memory (`/dev/shm`), where an fsync is nothing.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.bare_client import Run, bare
from tests.bench.figures import cpu_seconds, tree_of
from tests.bench.provider import provider
from tests.support.daemon import Daemon, Workspace, wait_until

MEMORY = Path("/dev/shm")
SECONDS = 120.0
ROUNDS = 3
ASKER = """
import asyncio, os, time

async def inference(ctx):
    wish = ctx.data["seed"]["data"]
    left = iter(range(wish["count"]))
    latencies = []

    async def worker():
        for number in left:
            began = time.perf_counter()
            await ctx.llm.achat("a question", model=wish["model"])
            latencies.append(time.perf_counter() - began)

    for _ in range(20):
        await ctx.llm.achat("a question", model="0")
    open(wish["ready"], "w").close()
    while not os.path.exists(wish["go"]):
        await asyncio.sleep(0.01)
    began = time.time()
    await asyncio.gather(*(worker() for _ in range(wish["at_once"])))
    ended = time.time()
    return {"output": {"began": began, "ended": ended, "latencies": latencies}}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """`model`: the provider's delay in milliseconds."""

    name: str
    model: str
    at_once: int
    jobs: int
    count: int


LOADS = (
    Load("16 at once, 0 ms", "0", 16, 1, 3000),
    Load("128 at once, 200 ms", "200", 128, 4, 2500),
    Load("512 at once, 200 ms", "200", 512, 8, 5000),
)


class Bench:
    """A daemon whose jobs do nothing but ask."""

    def __init__(self, folder: Path, base_url: str) -> None:
        self.workspace = Workspace(folder / "root")
        self.workspace.add_pipeline("asker", {"ask": ASKER})
        self.workspace.settings(
            "[http]\nenabled = false\n[jobs]\nmax_running = 8\n"
            f'[gateway]\ndefault_provider = "bench"\n[gateway.providers.bench]\nkind = "openai"\n'
            f'base_url = "{base_url}"\napi_key_env = "BENCH_KEY"\n'
        )
        self.daemon = Daemon(self.workspace, {"BENCH_KEY": "no-secret"})
        self._runs = 0

    def run(self, model: str, count: int, at_once: int, jobs: int = 1) -> Run:
        """So many calls by so many jobs together."""
        self._runs += 1
        go = self.workspace.root / f"go-{self._runs}"
        names = [f"run-{self._runs}-{number}" for number in range(jobs)]
        for name in names:
            wish = {"model": model, "count": count // jobs, "at_once": at_once // jobs, "go": str(go)}
            self.workspace.drop(name, {"data": {**wish, "ready": str(self._ready(name))}})
        wait_until(lambda: all(self._ready(name).exists() for name in names), SECONDS, "the jobs", self.daemon)
        pids = tree_of(self.daemon.pid)
        before = cpu_seconds(pids)
        go.touch()
        wait_until(lambda: all(map(self.workspace.is_complete, names)), SECONDS, "the calls", self.daemon)
        cpu = cpu_seconds(tree_of(self.daemon.pid)) - before
        outputs = [self._output(name) for name in names]
        seconds = max(output["ended"] for output in outputs) - min(output["began"] for output in outputs)
        latencies = [latency for output in outputs for latency in output["latencies"]]
        return Run(len(latencies) / seconds, cpu / len(latencies), latencies)

    def _ready(self, name: str) -> Path:
        return self.workspace.root / f"{name}.ready"

    def _output(self, name: str) -> dict[str, Any]:
        place = self.workspace.data / "complete" / name / "tasks" / "ask" / "output.json"
        document: dict[str, Any] = json.loads(place.read_bytes())["ask"]["content"]
        return document


@contextlib.contextmanager
def bench_in(folder: Path, base_url: str) -> Iterator[Bench]:
    bench = Bench(folder, base_url)
    with bench.daemon:
        yield bench


@contextlib.contextmanager
def in_memory() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="pop-bench-", dir=MEMORY))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, scale: float) -> dict[str, float]:
    """By load: `rate`, `cpu` (seconds a call, all processes) and each one's `_floor`. At one at a time: what is `added`
    to a bare call in the median, its 99th percentile, and how much more it is on disk. Seconds throughout."""
    found: dict[str, float] = {}
    with provider() as address, in_memory() as memory:
        with bench_in(memory, address) as bench:
            for load in LOADS:
                found |= _at_load(bench, address, load, max(load.at_once * 4, int(load.count * scale)))
            found |= _one_at_a_time(bench, address, max(100, int(1000 * scale)))
        with bench_in(folder, address) as bench:
            on_disk = bench.run("0", max(100, int(1000 * scale)), 1)
            found["fsync"] = statistics.median(on_disk.latencies) - found.pop("median")
    return found


def _at_load(bench: Bench, address: str, load: Load, count: int) -> dict[str, float]:
    """Rounds of the real thing and of its floor take turns, so that a busy machine slows both."""
    floors, wholes = [], []
    for _ in range(ROUNDS):
        floors.append(bare(address, load.model, count, load.at_once))
        wholes.append(bench.run(load.model, count, load.at_once, load.jobs))
    return {
        f"rate {load.name}": statistics.median(run.rate for run in wholes),
        f"rate {load.name}_floor": statistics.median(run.rate for run in floors),
        f"cpu {load.name}": statistics.median(run.cpu for run in wholes),
        f"cpu {load.name}_floor": statistics.median(run.cpu for run in floors),
    }


def _one_at_a_time(bench: Bench, address: str, count: int) -> dict[str, float]:
    floor, whole = bare(address, "0", count, 1), bench.run("0", count, 1)
    least = statistics.median(floor.latencies)
    middle = statistics.median(whole.latencies)
    worst = statistics.quantiles(whole.latencies, n=100)[98]
    return {"median": middle, "added": middle - least, "added 99th": worst - least}
