"""What every route is built from: the daemon's `Control`, the threads that ask it, the ring of events, the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from pop_actors.api.control import Control
from pop_actors.api.envelope import Fault
from pop_actors.api.events import EventRing
from pop_actors.api.stream import HEARTBEAT_SECONDS

P = ParamSpec("P")
R = TypeVar("R")

FAULTS: dict[int | str, dict[str, Any]] = {
    404: {"model": Fault, "description": "there is no such thing"},
    503: {"model": Fault, "description": "that part of popd is down for the moment"},
}
MUTATION_FAULTS: dict[int | str, dict[str, Any]] = {
    **FAULTS,
    403: {"model": Fault, "description": "this address only reads"},
    409: {"model": Fault, "description": "not in this state"},
}


class Calls:
    """Threads that wait for the daemon, so that the loop does not. Health has its own: busy threads are no illness."""

    def __init__(self) -> None:
        self._calls = ThreadPoolExecutor(4, thread_name_prefix="api-call")
        self._probes = ThreadPoolExecutor(1, thread_name_prefix="api-probe")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """The function's result, computed in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._calls, lambda: function(*args, **kwargs))

    async def probe(self, function: Callable[[], R]) -> R:
        """The same, for health."""
        return await asyncio.get_running_loop().run_in_executor(self._probes, function)

    def close(self) -> None:
        """Take no more calls; those under way end by themselves."""
        self._calls.shutdown(wait=False, cancel_futures=True)
        self._probes.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Parts:
    control: Control
    calls: Calls
    ring: EventRing
    render_metrics: Callable[[], bytes]
    heartbeat_seconds: float = HEARTBEAT_SECONDS
