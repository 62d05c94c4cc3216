"""What supervision costs: 500 and 2,000 dynamic children started, counted, crashed and stopped; a process restarted."""

from __future__ import annotations

import logging
import os
import signal
import statistics
import threading
import time
from concurrent.futures import Future
from typing import Any

from pop_actors.actors import Actor, ActorSystem, ChildSpec, DynamicSupervisor, Policy, Report, thread
from tests.support.echo_actor import do

CROWDS = (500, 2000)
SECONDS = 120.0
RESTARTS = 15
ENTRY = "tests.support.echo_actor:Echo"


class _Mortal(Actor):
    """Dies of whatever it is told."""

    def receive(self, message: Any) -> object:
        raise SystemExit(message)


def measure() -> dict[str, float]:
    """Seconds per child, by `{what}_{children}`; and `process_restart`, the median from the death of a process actor to
    its successor's `Started`, without backoff."""
    figures: dict[str, float] = {}
    logging.disable(logging.CRITICAL)  # thousands of tracebacks on a terminal would be what is measured
    try:
        for children in CROWDS:
            figures.update({f"{what}_{children}": taken / children for what, taken in _crowd(children).items()})
        figures["process_restart"] = _process_restart()
    finally:
        logging.disable(logging.NOTSET)
    return figures


def _crowd(children: int) -> dict[str, float]:
    """Seconds to start so many thread actors, to count them, to crash all and have them back, and to stop them."""
    back = _Countdown(2 * children)
    with ActorSystem(report=back.hear) as system:
        crowd = system.supervise("crowd", kind=DynamicSupervisor, policy=Policy(max_restarts=children))
        figures = {}
        began = time.perf_counter()
        _all([crowd.start_child(ChildSpec(f"c{number}", thread(_Mortal))) for number in range(children)])
        figures["start"] = time.perf_counter() - began
        began = time.perf_counter()
        counted = crowd.count_children().result(SECONDS)
        figures["count"] = time.perf_counter() - began
        assert counted["active"] == children
        began = time.perf_counter()
        for number in range(children):
            system.ref(f"c{number}").tell("die")
        assert back.reached.wait(SECONDS)
        figures["crash_restart"] = time.perf_counter() - began
        began = time.perf_counter()
        assert crowd.stop_and_wait(SECONDS)
        figures["stop"] = time.perf_counter() - began
    return figures


def _process_restart() -> float:
    seconds = []
    started = threading.Semaphore(0)

    def hear(report: Report) -> None:
        if report.kind == "progress":
            started.release()

    with ActorSystem(report=hear, preload=("tests.support.echo_actor",)) as system:
        spec = ChildSpec("it", system.process(ENTRY), kind="process")
        top = system.supervise("top", [spec], policy=Policy(max_restarts=RESTARTS))
        started.acquire()
        for _ in range(RESTARTS):
            system.ref("it").ask(do("who"), SECONDS)
            running = top.running("it")
            assert running is not None
            assert running.pid is not None
            began = time.perf_counter()
            os.kill(running.pid, signal.SIGKILL)
            assert started.acquire(timeout=SECONDS)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


class _Countdown:
    """An event after so many starts."""

    def __init__(self, starts: int) -> None:
        self._left = starts
        self.reached = threading.Event()

    def hear(self, report: Report) -> None:
        self._left -= report.kind == "progress"
        if not self._left:
            self.reached.set()


def _all(futures: list[Future[Any]]) -> None:
    for future in futures:
        future.result(SECONDS)


if __name__ == "__main__":
    for figure, value in measure().items():
        print(f"{figure:20} {value * 1e6:10.1f} µs")
