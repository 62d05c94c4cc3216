"""Which format a workspace has (`state/workspace.json`), which ones are refused, and the steps up from older ones.

The service asks `check` before it makes anything, and `bring_up` under the lock. A newer workspace is not touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from pop_actors import __version__
from pop_actors.core.events import FORMAT
from pop_actors.errors import Damaged, FormatRefused
from pop_actors.storage.damage import keep_copy
from pop_actors.storage.files import read_json, readable_json, replace, sync_directory
from pop_actors.storage.layout import Workspace
from pop_actors.storage.refusals import is_no_room

OLDEST = 1
"""The first format had no marker; what bears none is taken for it."""

_log = logging.getLogger("pop_actors.recovery")


def _from_1(workspace: Workspace) -> None:
    """Nothing moves: logs without a number are read as they are, statuses are folded anew at the start."""


MIGRATIONS: Mapping[int, Callable[[Workspace], None]] = {1: _from_1}
"""From each format to the next. A step may be killed anywhere and done again, also when it was complete."""


def format_of(workspace: Workspace) -> int:
    """The format the marker names; the oldest where there is none, or none that can be read. OSError where it cannot be
    looked at."""
    try:
        return _number(read_json(workspace.marker))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, Damaged):
        return OLDEST


def check(workspace: Workspace, migrations: Mapping[int, Any] = MIGRATIONS, target: int = FORMAT) -> int:
    """The workspace's format. FormatRefused where this version cannot work with it; reads only."""
    found = format_of(workspace)
    if found > target:
        raise FormatRefused(
            f"{workspace.marker}: this workspace has format {found}, written by {_writer(workspace)}; popd "
            f"{__version__} knows up to {target} and has touched nothing: start that version again, or a newer one"
        )
    if any(step not in migrations for step in range(found, target)):
        raise FormatRefused(
            f"{workspace.marker}: this workspace has format {found}; popd {__version__} can bring up formats from "
            f"{min(migrations, default=target)}: start a version in between once, then this one"
        )
    return found


def bring_up(
    workspace: Workspace,
    migrations: Mapping[int, Callable[[Workspace], None]] = MIGRATIONS,
    target: int = FORMAT,
) -> None:
    """Step by step to the format of this version, under the workspace's lock. FormatRefused as `check`.

    The marker is written after each step, so a kill repeats at most the step it came in.
    """
    found = check(workspace, migrations, target)
    if marker_fault(workspace):
        _log.warning("%s cannot be read; the workspace is brought up from format %d again", workspace.marker, found)
        keep_copy(workspace.marker)
        _mark(workspace, found)
    for step in range(found, target):
        migrations[step](workspace)
        _mark(workspace, step + 1)


def marker_fault(workspace: Workspace) -> str | None:
    """What is wrong with the marker; None where it is sound, or there is none yet."""
    try:
        _number(read_json(workspace.marker))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (IsADirectoryError, Damaged) as error:
        return str(error)
    return None


def _number(document: Any) -> int:
    number = document.get("format") if isinstance(document, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise Damaged('not a marker of a workspace, {"format": N, "writtenBy": VERSION}')
    return number


def _writer(workspace: Workspace) -> str:
    return f"popd {read_json(workspace.marker).get('writtenBy', 'of an unknown version')}"


def _mark(workspace: Workspace, number: int) -> None:
    try:
        replace(workspace.marker, readable_json({"format": number, "writtenBy": __version__}), durable=True)
        sync_directory(workspace.state)
    except OSError as error:
        if not is_no_room(error):
            raise
        _log.warning("no room for %s (%s); the next start writes it", workspace.marker, error)
