"""What the cases of OTP's supervisor suite share: children that come up and end as they are told, and a diary of it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import defaultdict, deque
from typing import Any

import pytest

from pop_actors.actors import (
    Actor,
    ActorSystem,
    ChildSpec,
    ExitReason,
    Json,
    ProcessActor,
    Question,
    Refused,
    Supervisor,
    SupervisorRef,
    thread,
)
from support.daemon import wait_until

SOON = 20.0
AnySupervisor = Supervisor | SupervisorRef


class Diary:
    """What happened in which order: `up x`, `down x`; and how the next starts of each child are to go."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._plans: defaultdict[str, deque[str | threading.Event]] = defaultdict(deque)
        self.failing: set[str] = set()  # every start of these fails, until they are taken out again

    def plan(self, name: str, *starts: str | threading.Event) -> None:
        """Each of the next starts: `ok`, `fail`, `ignore`, or an event to wait for."""
        self._plans[name].extend(starts)

    def next_start(self, name: str) -> str | threading.Event:
        if name in self.failing:
            return "fail"
        with self._lock:
            return self._plans[name].popleft() if self._plans[name] else "ok"

    def write(self, line: str) -> None:
        with self._lock:
            self._lines.append(line)

    def take(self) -> list[str]:
        """The lines since the last time."""
        with self._lock:
            lines, self._lines = self._lines, []
            return lines

    def lines(self) -> list[str]:
        with self._lock:
            return list(self._lines)


class Worker(Actor):
    """A thread that ends as it is told: `normal`, `shutdown`, `shutdown because`, `die`; an event is waited for."""

    def __init__(self, diary: Diary, name: str) -> None:
        super().__init__()
        self._diary, self._name = diary, name

    def on_start(self) -> None:
        self._diary.write(f"try {self._name}")
        match self._diary.next_start(self._name):
            case "fail":
                raise RuntimeError(f"{self._name} does not start")
            case "ignore":
                self.end()
                return
            case threading.Event() as event:
                event.wait(SOON)
        self._diary.write(f"up {self._name}")

    def receive(self, message: object) -> object:
        match message:
            case "normal":
                self.end()
            case "shutdown":
                self.end(ExitReason("shutdown"))
            case "shutdown because":
                self.end(ExitReason("shutdown", "some info"))
            case "die":
                raise RuntimeError("told to die")
            case threading.Event():
                message.wait(SOON)
            case "who":
                return id(self)
        return None

    def on_stop(self) -> None:
        self._diary.write(f"down {self._name}")


class ProcessWorker(ProcessActor):
    """A process that ends as it is told: `normal`, `die`, `exit 0`, `exit 3`, `kill`; `deaf` hears no stop any more."""

    def on_receive(self, message: object) -> None:
        told = message.value if isinstance(message, Json) else None
        match told:
            case "normal":
                self.stop()
            case "die":
                raise RuntimeError("told to die")
            case "exit 0":
                sys.exit(0)
            case "exit 3":
                os._exit(3)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "deaf":
                while True:
                    signal.pause()
            case _ if isinstance(message, Question):
                message.answer(os.getpid())
            case _:
                super().on_receive(message)


class World:
    """An actor system and the words of OTP's suite for it."""

    def __init__(self, system: ActorSystem) -> None:
        self.system = system
        self.diary = Diary()

    def spec(self, name: str, restart: str = "permanent", **more: Any) -> ChildSpec:
        return ChildSpec(name, thread(Worker, diary=self.diary, name=name), restart=restart, **more)  # type: ignore[arg-type]

    def specs(self, *names: str) -> list[ChildSpec]:
        return [self.spec(name) for name in names]

    def exit(self, address: str, how: str) -> None:
        """Have a child end in this way, and wait until it is gone."""
        endpoint = self.system.registry.find(address)
        assert endpoint is not None, f"nobody is at {address}"
        endpoint.tell(how)
        wait_until(lambda: self.system.registry.find(address) is not endpoint, SOON, f"{address} to end")


def rows(top: AnySupervisor) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in top.which_children().result(SOON)}


def states(top: AnySupervisor) -> dict[str, str]:
    return {name: row["state"] for name, row in rows(top).items()}


def epochs(top: AnySupervisor) -> dict[str, int]:
    return {name: row["epoch"] for name, row in rows(top).items()}


def counts(top: AnySupervisor) -> list[int]:
    """[specs, active, supervisors, workers], as OTP's suite writes it."""
    found = top.count_children().result(SOON)
    return [found["specs"], found["active"], found["supervisors"], found["workers"]]


def refusal(call: Any) -> str:
    """The code a command is refused with."""
    with pytest.raises(Refused) as refused:
        call.result(SOON)
    return str(refused.value.code)


def runs_as(top: AnySupervisor, wanted: dict[str, int]) -> None:
    """Wait until exactly these children are there, each running in this incarnation."""

    def as_wanted() -> bool:
        return {name: row["epoch"] for name, row in rows(top).items() if row["state"] == "running"} == wanted

    wait_until(as_wanted, SOON, f"{wanted} to run")


def ended(top: Supervisor) -> ExitReason:
    assert top.wait_ended(SOON), "the supervisor did not end"
    assert top.exit_reason is not None
    return top.exit_reason
