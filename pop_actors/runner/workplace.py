"""What the attempts of a job's process share, how one begins, and what it comes to. Handed between job and attempts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from pop_actors.actors.process_actor import Ref
from pop_actors.core import events as e
from pop_actors.core.job_spec import JobSpec
from pop_actors.runner.capture import Capture
from pop_actors.runner.clockwork import Clockwork
from pop_actors.runner.event_stream import EventStream
from pop_actors.runner.failures import Failure
from pop_actors.runner.writes import Writes
from pop_actors.storage.layout import JobDirectory


@dataclass(frozen=True, slots=True)
class Succeeded:
    """`milliseconds` over all attempts of this run; `output` is the task's final one."""

    output: Any
    milliseconds: float
    refinements: int


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure
    milliseconds: float
    refinements: int


@dataclass(frozen=True, slots=True)
class Suspended:
    """The attempt stopped at a stage boundary, or where it waited for room on the disk, and will go on there."""


Outcome = Succeeded | Failed | Suspended


@dataclass(frozen=True, slots=True)
class Workplace:
    """What the attempts of a job's process share. `suspending` is set when no further stage is to start; `writes` are
    over when the run is."""

    spec: JobSpec
    directory: JobDirectory
    epoch: int
    seed: Any
    stream: EventStream
    gateway: Ref
    capture: Capture
    clockwork: Clockwork
    suspending: threading.Event
    writes: Writes = field(default_factory=Writes)


@dataclass(frozen=True, slots=True)
class Begin:
    """How an attempt begins. `is_new`: it was not under way before this process. `overdue`: the stage whose time was
    over when the daemon ended the process before."""

    attempt: int
    is_new: bool = True
    overdue: e.StageStarted | None = None
