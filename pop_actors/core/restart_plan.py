"""Which tasks run again when an operator restarts a job. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pop_actors.core.events import Patch
from pop_actors.errors import Refused


def tasks_to_reset(
    depends_on: Mapping[str, Sequence[str]], from_task: str | None, *, only: bool = False
) -> tuple[str, ...]:
    """The tasks to run again, in pipeline order; the others keep what they have.

    `depends_on` maps each task to those it waits for, in pipeline order. Without `from_task`: all of them. With it:
    that task and everything that waits for it, directly or not; with `only`, that task alone. Refused `not_found`
    where the pipeline has no such task.
    """
    if from_task is None:
        return tuple(depends_on)
    if from_task not in depends_on:
        raise Refused("not_found", f"the pipeline has no task {from_task!r}; it has: {', '.join(depends_on)}")
    reset = {from_task}
    grew = not only
    while grew:
        more = {name for name, needs in depends_on.items() if name not in reset and not reset.isdisjoint(needs)}
        reset |= more
        grew = bool(more)
    return tuple(name for name in depends_on if name in reset)


def tasks_to_drop(patches: Iterable[Patch], reset: Iterable[str]) -> frozenset[str]:
    """The tasks that the new run does not have at first: added by one that runs again, which may add them again, or by
    one that is dropped itself. `patches`: oldest first."""
    gone, dropped = set(reset), set[str]()
    for patch in patches:
        if patch.task in gone:
            dropped.update(patch.names)
            gone |= dropped
    return frozenset(dropped)
