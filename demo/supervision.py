"""The actor framework on its own: a supervised counter, a process, and a crowd that comes and goes.

    python demo/supervision.py

docs/actors.md explains what happens here.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable

from pop_actors.actors import (
    Actor,
    ActorSystem,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    ExitReason,
    Json,
    Policy,
    ProcessActor,
    Question,
    Report,
    Strategy,
    Supervisor,
    thread,
)

SECONDS = 20.0


class Counter(Actor):
    """A thread: adds what it is told, answers `total`, and cannot stand words."""

    def __init__(self) -> None:
        super().__init__()
        self._total = 0

    def receive(self, message: object) -> object:
        if message == "total":
            return self._total
        if isinstance(message, int):
            self._total += message
            return None
        raise TypeError(f"{message!r} is no number")  # ends this actor; its supervisor starts another one


class Square(ProcessActor):
    """A process of its own: answers squares, and its pid."""

    def on_receive(self, message: object) -> None:
        if isinstance(message, Question) and isinstance(message.message, Json):
            number = message.message.value
            message.answer({"square": number * number, "pid": os.getpid()})
        else:
            super().on_receive(message)  # the supervisor's Stop


class Visitor(Actor):
    """A thread that ends by itself when it is told to leave."""

    def receive(self, message: object) -> object:
        if message == "leave":
            self.end(ExitReason("normal", "it has seen enough"))
        return None


def say(*words: object) -> None:
    """A line, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def show(report: Report) -> None:
    """A line for everything that happens to a child."""
    say(f"  {report.supervisor}: {report.child} (epoch {report.epoch}) {report.kind} {report.reason or ''}".rstrip())


def main() -> None:
    """Start, break, watch it mend, stop."""
    logging.disable(logging.CRITICAL)  # the reports say it all
    with ActorSystem(report=show) as system:
        say("a supervisor with two children, in order")
        top = system.supervise(
            "top",
            [
                ChildSpec("counter", thread(Counter)),
                ChildSpec("square", system.process("supervision:Square"), backoff=Backoff(0.05, 1.0)),
            ],
            policy=Policy(strategy=Strategy.REST_FOR_ONE, max_restarts=5, period_seconds=10.0),
        )
        counter, square = system.ref("counter"), system.ref("square")
        counter.tell(41)
        say("total:", counter.ask("total", SECONDS))

        say("the process is killed, and comes back after a short pause")
        first = square.ask(Json(7), SECONDS)
        os.kill(first["pid"], signal.SIGKILL)
        wait_for(lambda: epoch_of(top, "square") == 2)
        say("49 again:", square.ask(Json(7), SECONDS)["square"], "from another process")

        say("the counter fails: rest-for-one takes the process down and up with it")
        counter.tell("a word")
        wait_for(lambda: (epoch_of(top, "counter"), epoch_of(top, "square")) == (2, 3))
        say("begun anew:", counter.ask("total", SECONDS))

        say("a crowd")
        crowd = system.supervise("crowd", kind=DynamicSupervisor, policy=Policy(max_children=3), prefix="crowd/")
        for name in ("ann", "bob", "eve"):
            crowd.start_child(ChildSpec(name, thread(Visitor), restart="transient")).result(SECONDS)
        system.ref("crowd/bob").tell("leave")
        wait_for(lambda: crowd.count_children().result(SECONDS)["active"] == 2)
        say("left:", [row["id"] for row in crowd.which_children().result(SECONDS)])
        say("everything is stopped:", system.stop())


def epoch_of(top: Supervisor, child: str) -> int:
    """The number of the incarnation that runs; 0 while none does."""
    rows = {row["id"]: row for row in top.which_children().result(SECONDS)}
    return int(rows[child]["epoch"]) if rows[child]["state"] == "running" else 0


def wait_for(condition: Callable[[], bool]) -> None:
    """Look again and again, not for ever."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("that took too long")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
