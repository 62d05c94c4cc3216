"""The floor of the gateway: httpx2 and nothing around it, in a process of its own.

`python -m tests.bench.bare_client BASE_URL MODEL COUNT AT_ONCE` prints what `Run` holds, as JSON. A key, where one is
needed, is in the environment.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import httpx2

WARM = 20
KEY = "BENCH_CLIENT_KEY"


@dataclass(frozen=True, slots=True)
class Run:
    """So many calls a second, CPU seconds per call of whoever made them, and each call's seconds."""

    rate: float
    cpu: float
    latencies: list[float]


def bare(base_url: str, model: str, count: int, at_once: int, key: str = "none") -> Run:
    """Calls through httpx2 alone."""
    command = [sys.executable, "-m", "tests.bench.bare_client", base_url, model, str(count), str(at_once)]
    environment = {**os.environ, KEY: key}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return Run(**json.loads(done.stdout))


async def calls(base_url: str, model: str, count: int, at_once: int) -> Run:
    latencies: list[float] = []
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "a question"}]}).encode()
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    left = iter(range(count))

    async def worker(client: httpx2.AsyncClient) -> None:
        for _ in left:
            began = time.perf_counter()
            reply = await client.post(f"{base_url}/chat/completions", content=body)
            json.loads(reply.raise_for_status().content)["choices"][0]["message"]["content"]
            latencies.append(time.perf_counter() - began)

    headers = {"content-type": "application/json", "authorization": f"Bearer {os.environ[KEY]}"}
    async with httpx2.AsyncClient(headers=headers, timeout=None, limits=limits) as client:
        for _ in range(WARM):
            await client.post(f"{base_url}/chat/completions", content=body.replace(model.encode(), b"0"))
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(worker(client) for _ in range(at_once)))
        return Run(count / (time.perf_counter() - began), (time.process_time() - cpu) / count, latencies)


if __name__ == "__main__":
    address, name, number, together = sys.argv[1:]
    print(json.dumps(asdict(asyncio.run(calls(address, name, int(number), int(together))))))
