"""`python -m tests.bench.peers`: LiteLLM's router and proxy beside popd, before the same provider, as many at once.

They live in an environment of their own, `.bench-peers/venv`, which is made where it is missing; nothing here depends
on them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import secrets
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.bare_client import Run, bare
from tests.bench.embedded_client import embedded
from tests.bench.gateway import bench_in
from tests.bench.provider import provider
from tests.support.daemon import wait_until

PLACE = Path(".bench-peers")
PYTHON = PLACE / "venv" / "bin" / "python"
PACKAGE = "litellm[proxy]"
INSTALL_SECONDS = 180
START_SECONDS = 120.0
AT_ONCE = 16
CALLS = 1500
ROUNDS = 3
ROUTER = """
import asyncio, json, sys, time
import litellm
from litellm import Router

litellm.suppress_debug_info = True
address, count, at_once = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
where = {"model": "openai/0", "api_base": address, "api_key": "no-secret"}
router = Router(model_list=[{"model_name": "bench", "litellm_params": where}], num_retries=3)
messages = [{"role": "user", "content": "a question"}]
latencies = []

async def worker(left):
    for _ in left:
        began = time.perf_counter()
        reply = await router.acompletion(model="bench", messages=messages)
        reply.choices[0].message.content
        latencies.append(time.perf_counter() - began)

async def main():
    await worker(range(20))
    latencies.clear()
    began, cpu = time.perf_counter(), time.process_time()
    left = iter(range(count))
    await asyncio.gather(*(worker(left) for _ in range(at_once)))
    seconds = time.perf_counter() - began
    print(json.dumps({"rate": count / seconds, "cpu": (time.process_time() - cpu) / count, "latencies": latencies}))

asyncio.run(main())
"""
PROXY = """
model_list:
  - model_name: "0"
    litellm_params: {{model: openai/0, api_base: "{address}", api_key: no-secret}}
"""


def main() -> int:
    """Rounds of each in turn, and a line for each."""
    if (trouble := install()) is not None:
        print(f"LiteLLM is not to be had, so there is nothing to compare: {trouble}")
        return 1
    with tempfile.TemporaryDirectory(prefix="pop-bench-", dir=".") as folder, provider() as address:
        place = Path(folder).resolve()
        key = f"sk-{secrets.token_hex(32)}"
        with bench_in(place, address) as popd, proxy(place, address, key) as proxied:
            popd.run("0", 200, AT_ONCE)
            runners: dict[str, Callable[[], Run]] = {
                "httpx2 alone": lambda: bare(address, "0", CALLS, AT_ONCE),
                "popd, through a job": lambda: popd.run("0", CALLS, AT_ONCE),
                "its gateway as a library": lambda: embedded(
                    Path(tempfile.mkdtemp(dir=place)), address, "0", CALLS, AT_ONCE
                ),
                "LiteLLM's router": lambda: router(address),
                "LiteLLM's proxy": lambda: bare(proxied, "0", CALLS // 3, AT_ONCE, key),
            }
            runs = {name: [run() for run in [runner] * ROUNDS] for name, runner in runners.items()}
    ours = statistics.median(run.rate for run in runs["popd, through a job"])
    print(f"{AT_ONCE} at once, a provider that answers at once, median of {ROUNDS}")
    for name, found in runs.items():
        rate = statistics.median(run.rate for run in found)
        middle = statistics.median(statistics.median(run.latencies) for run in found) * 1e3
        print(f"{name:26} {rate:6.0f} /s {middle:8.1f} ms   popd has {ours / rate:.2f} x")
    return 0


def install() -> str | None:
    """What stands in the way, if anything does."""
    if _works():
        return None
    PLACE.mkdir(exist_ok=True)
    steps = ([sys.executable, "-m", "venv", str(PLACE / "venv")], [str(PYTHON), "-m", "pip", "install", "-q", PACKAGE])
    try:
        for step in steps:
            subprocess.run(step, check=True, timeout=INSTALL_SECONDS, capture_output=True, text=True)
    except subprocess.TimeoutExpired:
        return f"it did not install within {INSTALL_SECONDS} s"
    except subprocess.CalledProcessError as error:
        return str(error.stderr)[-500:]
    return None if _works() else "it installs, but cannot be imported"


def router(address: str) -> Run:
    """Its own calls, in a process of its own."""
    command = [str(PYTHON), "-c", ROUTER, address, str(CALLS), str(AT_ONCE)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=_environment())
    return Run(**json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def proxy(place: Path, address: str, key: str) -> Iterator[str]:
    """Its base URL, while it runs, with one worker, for those who have the key."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config, log = place / "proxy.yaml", place / "proxy.log"
    config.write_text(PROXY.format(address=address), encoding="utf-8")
    command = [str(PYTHON.with_name("litellm").absolute()), "--config", str(config), "--host", "127.0.0.1"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=out,
            stderr=out,
            env={**_environment(), "LITELLM_MASTER_KEY": key},
            start_new_session=True,
        )
    try:
        wait_until(lambda: _is_alive(port) or process.poll() is not None, START_SECONDS, "LiteLLM's proxy")
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _works() -> bool:
    return (
        PYTHON.exists() and subprocess.run([str(PYTHON), "-c", "import litellm"], capture_output=True).returncode == 0
    )


def _environment() -> dict[str, str]:
    return {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}


def _is_alive(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/liveliness")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
