"""Which gate closes behind a task that succeeded: its entry's, and those its control.json asks for. Reads that file.

Used by the job's actor. What it finds becomes an event before anything acts on it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from pop_actors.core.control import MOST_BYTES, parse_control
from pop_actors.core.events import ControlTaken, GateReason
from pop_actors.core.ids import timestamp
from pop_actors.core.job_spec import TaskEntry
from pop_actors.errors import ControlInvalid, Damaged
from pop_actors.runner.plan import State
from pop_actors.runner.run_tasks import RunTasks
from pop_actors.storage.layout import TaskDirectory


@dataclass(frozen=True, slots=True)
class ClosedGate:
    """What a person is asked."""

    reason: GateReason
    message: str
    artifacts: tuple[str, ...] = ()


def control_of(
    entry: TaskEntry, directory: TaskDirectory, states: Mapping[str, State], tasks: RunTasks
) -> ControlTaken | None:
    """What the task's control.json comes to; None where it wrote none. Where it has a fault, the faults and no more.

    `tasks`: those of the run as they are; asked where it adds some.
    """
    try:
        with directory.control.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        return ControlTaken(at=timestamp(time.time()), task=entry.name, faults=(f"cannot be read: {error.strerror}",))
    try:
        control = parse_control(content, entry.name, states, tasks.plan)
        if control.patch is not None:
            tasks.refuse_missing_files(control.patch)
    except ControlInvalid as invalid:
        return ControlTaken(at=timestamp(time.time()), task=entry.name, faults=invalid.faults)
    except Damaged as error:
        return ControlTaken(at=timestamp(time.time()), task=entry.name, faults=(f"/patch: {error}",))
    pause = control.pause
    return ControlTaken(
        at=timestamp(time.time()),
        task=entry.name,
        patch=control.patch,
        skip=control.skip,
        pauses=pause is not None,
        message=pause.message if pause else "",
        artifacts=pause.artifacts if pause else (),
    )


def gate_of(entry: TaskEntry, control: ControlTaken | None) -> ClosedGate | None:
    """The gate behind the task; None where there is none. Where there are several, one decision opens them all."""
    gates: list[ClosedGate] = []
    if control is not None and control.faults:
        faults = "; ".join(control.faults)
        message = f"control.json of {entry.name} was not applied: {faults}; approve to go on without it"
        gates.append(ClosedGate("control", message))
    if control is not None and control.pauses:
        message = control.message or f"{entry.name} wants somebody to look before the run goes on"
        gates.append(ClosedGate("control", message, control.artifacts))
    if entry.gate is not None:
        gates.append(ClosedGate("task", entry.gate.message or f"approve what {entry.name} did", entry.gate.artifacts))
    if not gates:
        return None
    artifacts = tuple(dict.fromkeys(name for gate in gates for name in gate.artifacts))
    return ClosedGate(gates[0].reason, "; ".join(gate.message for gate in gates), artifacts)
