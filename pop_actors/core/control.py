"""control.json: what a task that succeeded wants done with the rest of its run, or the list of all its faults. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from pop_actors.core.events import Patch, Skip
from pop_actors.core.job_spec import Gate
from pop_actors.core.patch import Plan, read_patch
from pop_actors.core.strict_json import parse
from pop_actors.errors import ControlInvalid, InvalidJson

DIRECTIVES = ("patch", "skip", "pause")
MOST_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class Control:
    """Directives without a fault: tasks to skip, what a person is shown before anything builds on the task, and tasks
    to add."""

    skip: tuple[Skip, ...] = ()
    pause: Gate | None = None
    patch: Patch | None = None


def parse_control(content: bytes, writer: str, states: Mapping[str, str], plan: Callable[[], Plan]) -> Control:
    """The directives of the control.json that the task `writer` left. `states` are the run's tasks, `pending` those
    that have not begun; `plan` is asked where one adds tasks.

    ControlInvalid lists every fault, each with its place; then nothing of it is to be done.
    """
    if len(content) > MOST_BYTES:
        raise ControlInvalid([f"/: has more than {MOST_BYTES} bytes"])
    try:
        document = parse(content)
    except InvalidJson as error:
        raise ControlInvalid([str(error)]) from None
    if not isinstance(document, dict):
        raise ControlInvalid([f"/: must be an object with any of {', '.join(DIRECTIVES)}"])
    faults = [
        f"/{key}: no such directive; there are {', '.join(DIRECTIVES)}" for key in document.keys() - {*DIRECTIVES}
    ]
    patch = read_patch(document["patch"], writer, plan(), states, faults) if "patch" in document else None
    skip = _skips(document.get("skip", []), states, faults)
    pause = _pause(document["pause"], faults) if "pause" in document else None
    if faults:
        raise ControlInvalid(sorted(faults))
    return Control(skip, pause, patch)


def _skips(written: Any, states: Mapping[str, str], faults: list[str]) -> tuple[Skip, ...]:
    if not isinstance(written, list):
        faults.append("/skip: must be a list of {task, reason}")
        return ()
    skips = []
    for index, entry in enumerate(written):
        place = f"/skip/{index}"
        if not isinstance(entry, dict) or not _is_made_of(entry, {"task", "reason"}, {"task"}):
            faults.append(f"{place}: must be {{task, reason}}, both texts")
        elif entry["task"] not in states:
            faults.append(f"{place}/task: {entry['task']!r} is no task of this run; there are: {', '.join(states)}")
        elif states[entry["task"]] != "pending":
            faults.append(f"{place}/task: {entry['task']!r} has begun already; only tasks that wait can be skipped")
        else:
            skips.append(Skip(task=entry["task"], reason=entry.get("reason", "")))
    return tuple(skips)


def _is_made_of(entry: Mapping[str, Any], known: Collection[str], needed: Collection[str]) -> bool:
    return (
        entry.keys() <= set(known) and entry.keys() >= set(needed) and all(isinstance(v, str) for v in entry.values())
    )


def _pause(written: Any, faults: list[str]) -> Gate | None:
    artifacts = written.get("artifacts", []) if isinstance(written, dict) else None
    if (
        not isinstance(written, dict)
        or not written.keys() <= {"message", "artifacts"}
        or not isinstance(written.get("message", ""), str)
        or not isinstance(artifacts, list)
        or not all(isinstance(name, str) for name in artifacts)
    ):
        faults.append("/pause: must be {message, artifacts}: a text, and a list of file names")
        return None
    return Gate(message=written.get("message", ""), artifacts=tuple(artifacts))
