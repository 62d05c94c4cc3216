"""Breaks what the plan says is to be broken next: kills and freezes processes of the daemon, and the daemon itself, and
fills the disk."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.soak.plan import DAEMON_FAULTS, Fault
from tests.soak.world import World
from tests.support.processes import send

MOST_KILLS_OF_A_JOB = 2  # a job's restart budget is for what it does itself
LONGEST_FREEZE_SECONDS = 1.2
LONGEST_FULL_SECONDS = 2.0


class Saboteur:
    """`step` is called again and again. `spares_daemon`: its faults are passed over from now on."""

    def __init__(self, world: World, faults: Iterator[Fault]) -> None:
        self.spares_daemon = False
        self.done: Counter[str] = Counter()
        self._world = world
        self._faults = faults
        self._next = next(faults)
        self._due = time.monotonic() + self._next.after
        self._full_until: float | None = None
        self._frozen: list[tuple[float, int]] = []
        self._killed: Counter[str] = Counter()
        self._breakers: dict[str, Callable[[float], bool]] = {
            "kill-job": lambda luck: self._strike_job(luck, signal.SIGKILL),
            "kill-idle": lambda luck: self._strike_idle(luck, signal.SIGKILL),
            "kill-forkserver": lambda luck: self._strike_forkserver(luck, signal.SIGKILL),
            "freeze-job": lambda luck: self._strike_job(luck, signal.SIGSTOP),
            "freeze-idle": lambda luck: self._strike_idle(luck, signal.SIGSTOP),
            "freeze-forkserver": lambda luck: self._strike_forkserver(luck, signal.SIGSTOP),
            "freeze-daemon": lambda luck: self._strike(self._world.pid, luck, signal.SIGSTOP),
            "kill-daemon": lambda _: self._end(self._world.kill_daemon),
            "kill-all": lambda _: self._end(self._world.kill_all),
            "fill-disk": self._fill_disk,
            "term-daemon": lambda _: self._end(self._world.stop),
            "shut-down": lambda _: self._end(self._world.shut_down),
        }

    def step(self) -> None:
        """Thaw what has been frozen long enough, and break what is due."""
        now = time.monotonic()
        for due, pid in [pair for pair in self._frozen if pair[0] <= now]:
            self._frozen.remove((due, pid))
            send(pid, signal.SIGCONT)
        if self._full_until is not None and self._full_until <= now:
            self._make_room()
        if now < self._due:
            return
        fault, self._next = self._next, next(self._faults)
        self._due = now + self._next.after
        if not (self.spares_daemon and fault.kind in DAEMON_FAULTS) and self._breakers[fault.kind](fault.luck):
            self.done[fault.kind] += 1

    def stop(self) -> None:
        """Thaw everything, and have room on the disk."""
        self._make_room()
        self._thaw()

    def _thaw(self) -> None:
        while self._frozen:
            send(self._frozen.pop()[1], signal.SIGCONT)

    def _fill_disk(self, luck: float) -> bool:
        self._world.full.touch()
        self._full_until = time.monotonic() + luck * LONGEST_FULL_SECONDS
        return True

    def _make_room(self) -> None:
        self._full_until = None
        self._world.full.unlink(missing_ok=True)

    def _strike_job(self, luck: float, number: signal.Signals) -> bool:
        jobs = sorted((job, process.pid) for job, process in self._world.jobs().items())
        spared = {job for job, count in self._killed.items() if count >= MOST_KILLS_OF_A_JOB}
        victims = [pair for pair in jobs if number != signal.SIGKILL or pair[0] not in spared]
        if not victims:
            return False
        job, pid = victims[int(luck * len(victims))]
        self._killed[job] += number == signal.SIGKILL
        return self._strike(pid, luck, number)

    def _strike_idle(self, luck: float, number: signal.Signals) -> bool:
        idle = self._world.idle()
        return bool(idle) and self._strike(idle[int(luck * len(idle))].pid, luck, number)

    def _strike_forkserver(self, luck: float, number: signal.Signals) -> bool:
        forkserver = self._world.forkserver()
        return forkserver is not None and self._strike(forkserver.pid, luck, number)

    def _strike(self, pid: int, luck: float, number: signal.Signals) -> bool:
        if number == signal.SIGSTOP:
            self._frozen.append((time.monotonic() + luck * LONGEST_FREEZE_SECONDS, pid))
        return send(pid, number)

    def _end(self, end: Callable[[], None]) -> bool:
        if self._world.is_ending:
            return False
        self._thaw()  # a frozen daemon hears no SIGTERM
        end()
        return True
