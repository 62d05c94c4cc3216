"""Processes as the kernel shows them in /proc, for tests that kill, freeze and count them. It never signals by name."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A line of /proc. `state` is the kernel's letter: T is stopped."""

    pid: int
    name: str
    state: str
    parent: int
    group: int
    session: int


def processes() -> list[Process]:
    """All that live; zombies do not."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = Path(f"/proc/{entry}/stat").read_text(encoding="utf-8", errors="replace")
                head, _, tail = stat.rpartition(")")
                state, parent, group, session, *_ = tail.split()
                name = head.partition("(")[2]
                found.append(Process(int(entry), name, state, int(parent), int(group), int(session)))
    return [process for process in found if process.state not in {"Z", "X"}]


def of_session(session: int) -> list[Process]:
    """What a daemon started with `start_new_session` has become: itself, forkserver, pool, jobs and their children."""
    return [process for process in processes() if process.session == session]


def send(pid: int, number: signal.Signals) -> bool:
    """Signal it; False where it is gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


@dataclass(frozen=True)
class Census:
    """What a daemon has open when nothing is going on."""

    processes: int
    threads: int
    descriptors: int
    sockets: int

    def exceeds(self, other: Census, *, threads: int = 0, descriptors: int = 0, sockets: int = 0) -> list[str]:
        """In what it is more than `other` and so many on top, as sentences."""
        allowed = {"processes": 0, "threads": threads, "descriptors": descriptors, "sockets": sockets}
        return [
            f"{kind}: {getattr(self, kind)}, a fresh daemon has {getattr(other, kind)}"
            for kind, more in allowed.items()
            if getattr(self, kind) > getattr(other, kind) + more
        ]


def census(pid: int) -> Census:
    """Count what the daemon of this pid (and session) has."""
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return Census(
        len(of_session(pid)),
        len(os.listdir(f"/proc/{pid}/task")),
        len(links),
        sum(link.startswith("socket:") for link in links),
    )


def resident_kb(pid: int) -> int:
    """Resident set of one process, kB."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)
