"""Which task of a run may start, and when the run is over. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pop_actors.core.job_spec import TaskEntry

# `waiting`: between two attempts. `gated`: done, and nothing is built on it before a person has approved it.
# `passed`: failed, and optional, so that nothing hinges on it.
State = Literal["pending", "running", "waiting", "gated", "done", "skipped", "passed", "failed"]
MET: frozenset[State] = frozenset({"done", "skipped", "passed"})
AT_WORK: frozenset[State] = frozenset({"running", "waiting"})


def ready(entries: Sequence[TaskEntry], states: Mapping[str, State]) -> list[TaskEntry]:
    """The tasks to start now, in the pipeline's order; none once a task has failed."""
    if "failed" in states.values():
        return []
    met = _met(entries, states)
    return [entry for entry in entries if states[entry.name] == "pending" and met.issuperset(entry.depends_on)]


def _met(entries: Sequence[TaskEntry], states: Mapping[str, State]) -> set[str]:
    """The tasks nothing has to wait for. A skipped one stands for those it would have waited for itself."""
    met = {name for name, state in states.items() if state in MET and state != "skipped"}
    skipped = [entry for entry in entries if states[entry.name] == "skipped"]
    grew = bool(skipped)
    while grew:
        more = {entry.name for entry in skipped if entry.name not in met and met.issuperset(entry.depends_on)}
        met |= more
        grew = bool(more)
    return met


def is_done(states: Mapping[str, State]) -> bool:
    """Whether every task is done, skipped, or failed and optional."""
    return all(state in MET for state in states.values())


def upstream(entries: Sequence[TaskEntry], name: str) -> list[str]:
    """The tasks this one builds on, directly or not, in the pipeline's order."""
    needs = {entry.name: entry.depends_on for entry in entries}
    found: set[str] = set()
    open_ = list(needs[name])
    while open_:
        task = open_.pop()
        if task not in found:
            found.add(task)
            open_ += needs[task]
    return [entry.name for entry in entries if entry.name in found]
