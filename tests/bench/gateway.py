"""What a model call costs through the whole of popd, beside httpx2 alone at the same provider and as many at once.

The whole: a job's process, the hub, the gateway, its limits, the journal with its fsync, and back. What the fsync costs
is told apart: the same with the workspace in memory (`/dev/shm`), where an fsync is nothing.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.bare_client import Run, bare
from tests.bench.figures import cpu_seconds, tree_of
from tests.bench.provider import provider
from tests.support.daemon import Daemon, Workspace, wait_until

MEMORY = Path("/dev/shm")
SECONDS = 120.0
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


def main() -> None:
    """A first look."""
    with provider() as base_url, in_memory() as memory, bench_in(memory, base_url) as bench:
        for model, count, at_once, jobs in (
            ("0", 500, 1, 1),
            ("0", 3000, 16, 1),
            ("200", 2000, 128, 4),
            ("200", 6000, 512, 8),
        ):
            floor = bare(base_url, model, count, at_once)
            whole = bench.run(model, count, at_once, jobs)
            for run in (floor, whole):
                ordered = sorted(run.latencies)
                print(
                    at_once,
                    model,
                    f"{run.rate:.0f}/s cpu {run.cpu * 1e6:.0f} us, p50 {ordered[len(ordered) // 2] * 1e3:.2f} p99 {ordered[int(len(ordered) * 0.99)] * 1e3:.2f} ms",
                )


if __name__ == "__main__":
    main()
