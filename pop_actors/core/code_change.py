"""What an edit of its code means for a run that is taken up again. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pop_actors.core.events import Code

Reaches = Callable[[str], frozenset[str]]
"""The files that the code in one file imports, directly or not."""


def changed_files(before: Code, now: Code) -> tuple[str, ...]:
    """The files that differ, are new, or are gone; sorted."""
    names = before.files.keys() | now.files.keys()
    return tuple(sorted(name for name in names if before.files.get(name) != now.files.get(name)))


def changed_tasks(before: Code, now: Code, tasks: Iterable[str], reaches: Reaches) -> tuple[str, ...]:
    """Those of `tasks` that run other code than before: another file, or one that differs itself or reaches one that
    does. What a task imports in ways that its source does not show is not seen."""
    changed = frozenset(changed_files(before, now))

    def is_changed(task: str) -> bool:
        module = now.modules.get(task, "")
        return module != before.modules.get(task, "") or module in changed or not changed.isdisjoint(reaches(module))

    return tuple(task for task in tasks if is_changed(task))
