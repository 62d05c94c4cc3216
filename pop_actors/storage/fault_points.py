"""Places where a test can have the process killed, as by `kill -9`, or its disk refuse: between the steps that must
survive it.

`reach` does nothing unless something was armed: by the composition root in the daemon, by the job's actor in its
process (points that begin with `runner.`). Nothing here reads the environment.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from pop_actors.errors import SettingsError
from pop_actors.storage import disk
from pop_actors.storage.disk_faults import Refusals
from pop_actors.storage.disk_trace import Recorder

IN_RUNNER = "runner."
IN_RESUMED = ("runner.code-changed",)
RECORD, FULL_WHILE = "record=", "full-while="

POINTS = (
    "claim.linked",
    "claim.unlinked",
    "claim.attached",
    "claim.built",
    "claim.renamed",
    "reject.linked",
    "reject.written",
    "reject.unlinked",
    "reject.renamed",
    "reject-job.written",
    "reject-job.renamed",
    "finish.logged",
    "finish.run-line",
    "finish.status-written",
    "finish.renamed",
    "reopen.renamed",
    "writer.appended",
    "writer.synced",
    "writer.status-written",
    "scheduler.gate-deciding",
    "scheduler.gate-approved",
    "call.sent",
    "call.replied",
    "call.paid",
    "call.booked",
    "runner.started",
    "runner.code-changed",
    "runner.task-started",
    "runner.stage-started",
    "runner.before-call",
    "runner.asked",
    "runner.answered",
    "runner.stage-ran",
    "runner.stage-done",
    "runner.output-written",
    "runner.task-confirmed",
    "runner.refined",
    "runner.attempt-failed",
    "runner.retry-due",
    "runner.gate-reached",
    "runner.control-taken",
    "runner.before-end",
    "runner.ended",
)


KILL, STOP = "", "stop"
ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}


@dataclass
class _Trap:
    """What happens at a point, and how many passages of it are let through before."""

    spring: Callable[[], None]
    let_through: int


class _Armed:
    """What this process is armed with."""

    traps: ClassVar[dict[str, _Trap]] = {}
    recorder: ClassVar[Recorder | None] = None


def arm(text: str | None) -> None:
    """Arm this process; None disarms, SettingsError where the text says nothing known. Parts, with commas between:

    - `name` or `name:N`: it is killed at that point, or at its Nth passage. With `:stop` behind it is stopped (SIGSTOP)
      instead, so that a test can kill another; with `:enospc` or `:eio` the next few changes it makes to the disk are
      refused. Each once.
    - `full-while=PATH`: whatever needs room on the disk is refused while that file exists.
    - `record=PATH`: every change of the disk, and every point passed, is appended to that file (`disk_trace.py`).
    """
    parts = text.split(",") if text else []
    refusals = Refusals(_value(parts, FULL_WHILE))
    _Armed.traps = dict(_trap(part, refusals) for part in parts if not part.startswith((RECORD, FULL_WHILE)))
    record = _value(parts, RECORD)
    _Armed.recorder = Recorder(record, refusals) if record else None
    disk.tap((_Armed.recorder or refusals) if parts else None)


def for_runner(text: str | None) -> str | None:
    """What a job's process is to be armed with; None where nothing of it concerns that."""
    return _only(text, (IN_RUNNER, RECORD, FULL_WHILE))


def for_resumed(text: str | None) -> str | None:
    """What the first process is armed with that this daemon starts for a run with a past: what holds for each, and the
    points that only such a one can come to."""
    return _only(text, (*IN_RESUMED, RECORD, FULL_WHILE))


def lasting(text: str | None) -> str | None:
    """What holds for each process that takes the job up again, too: what happens once has happened."""
    return _only(text, (RECORD, FULL_WHILE))


def reach(name: str) -> None:
    """The process has come to this point."""
    if _Armed.recorder is not None:
        _Armed.recorder.mark(name)
    trap = _Armed.traps.get(name)
    if trap is None:
        return
    if trap.let_through:
        trap.let_through -= 1
        return
    del _Armed.traps[name]
    trap.spring()


def _trap(part: str, refusals: Refusals) -> tuple[str, _Trap]:
    name, *more = part.split(":")
    number = more.pop(0) if more and more[0].isdecimal() else "1"
    kind = more.pop(0) if more else KILL
    if name not in POINTS or more or number == "0" or kind not in {KILL, STOP, *ERRORS} or part.endswith(":"):
        raise SettingsError(
            f"PO_FAULT_POINT = {part!r}: must be one of {', '.join(POINTS)}, or such a name and :N, :stop, :enospc, "
            f":eio or :N and one of those; or {FULL_WHILE}PATH, or {RECORD}PATH"
        )
    springs = {KILL: _kill, STOP: _stop} | {kind: partial(refusals.refuse, error) for kind, error in ERRORS.items()}
    return name, _Trap(springs[kind], int(number) - 1)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop() -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # to this thread, or it would run on for a moment


def _value(parts: list[str], key: str) -> str | None:
    return next((part.removeprefix(key) for part in parts if part.startswith(key)), None)


def _only(text: str | None, prefixes: tuple[str, ...]) -> str | None:
    return ",".join(part for part in (text or "").split(",") if part.startswith(prefixes)) or None
