"""The gateway as a library, with its journal, in a process of its own: what stands beside another library.

`python -m tests.bench.embedded_client FOLDER BASE_URL MODEL COUNT AT_ONCE` prints what `Run` holds, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

from pop_actors.config import GatewaySettings, ProviderSettings
from pop_actors.gateway import EmbeddedGateway
from tests.bench.bare_client import WARM, Run


def embedded(folder: Path, base_url: str, model: str, count: int, at_once: int) -> Run:
    """Calls through a gateway that keeps its journal in a new folder."""
    arguments = [str(folder), base_url, model, str(count), str(at_once)]
    command = [sys.executable, "-m", "tests.bench.embedded_client", *arguments]
    return Run(**json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


async def calls(gateway: EmbeddedGateway, model: str, count: int, at_once: int) -> Run:
    llm = gateway.session("bench")
    latencies: list[float] = []
    left = iter(range(count))

    async def worker() -> None:
        for number in left:
            began = time.perf_counter()
            await llm.achat(f"question {number}", model=model)
            latencies.append(time.perf_counter() - began)

    for _ in range(WARM):
        await llm.achat("a first question", model="0")
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return Run(count / (time.perf_counter() - began), (time.process_time() - cpu) / count, latencies)


def main() -> None:
    folder, base_url, model, count, at_once = sys.argv[1:]
    table = ProviderSettings(kind="openai", base_url=base_url)
    settings = GatewaySettings(default_provider="bench", providers={"bench": table})
    with EmbeddedGateway(folder, settings, {}) as gateway:
        print(json.dumps(asdict(asyncio.run(calls(gateway, model, int(count), int(at_once))))))


if __name__ == "__main__":
    main()
