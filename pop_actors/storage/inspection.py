"""What is wrong with a workspace as a whole: its format, folders, disk, moves that were left half done, its socket.

Asked by doctor; reads only. Jobs, the drop box and the past have inspections of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from pop_actors.core.events import FORMAT
from pop_actors.core.ids import is_job_id
from pop_actors.errors import FormatRefused
from pop_actors.storage import control_socket, workspace_format
from pop_actors.storage.claims import CLAIMING, REJECTING
from pop_actors.storage.findings import Finding
from pop_actors.storage.layout import Workspace
from pop_actors.storage.left_behind import mark_of
from pop_actors.storage.runner_pid import process_left_behind

UNDER_WAY_SECONDS = 60.0
"""A move that a running service began this long ago will not be finished by it."""
MEGABYTE = 1 << 20
LEAST_FREE = 0.01
SCARCE = 0.05
SCARCE_BYTES = 1024 * MEGABYTE
SCARCE_INODES = 10_000


def inspect_format(workspace: Workspace) -> list[Finding]:
    """An `error` here: this version must not touch the workspace, and nothing else is to be looked at."""
    try:
        found = workspace_format.check(workspace)
    except FormatRefused as error:
        return [Finding("error", str(workspace.marker), str(error), "start a version that knows this format")]
    fault = workspace_format.marker_fault(workspace)
    if fault is not None:
        return [Finding("note", str(workspace.marker), f"{fault}; the next start writes it anew and keeps a copy")]
    if found < FORMAT and _entries(workspace.data):
        what = f"the workspace has format {found}; the next start brings it up to {FORMAT}"
        return [Finding("note", str(workspace.marker), what)]
    return []


def inspect_workspace(workspace: Workspace, reserve: int, *, live: bool) -> Iterator[Finding]:
    """Everything about the workspace itself. `live`: a service runs on it. `reserve`: bytes that are to stay free."""
    if not workspace.data.is_dir():
        yield Finding("note", str(workspace.data), "is not there yet; popd makes it", f"popd --root {workspace.root}")
        return
    yield from _folders(workspace)
    yield from _disk(workspace.data, reserve)
    yield from _half_moves(workspace, live=live)
    if not live:
        yield from _left_by_the_last_service(workspace)


def _folders(workspace: Workspace) -> Iterator[Finding]:
    for folder in workspace.folders:
        if not os.path.lexists(folder):
            yield Finding("note", str(folder), "is missing; popd makes it when it starts")
        elif not folder.is_dir():
            yield Finding("error", str(folder), "is no folder", "move it away; popd makes the folder when it starts")
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            todo = f"give the user of popd the folder: chown -R USER {folder}"
            yield Finding("error", str(folder), "cannot be read and written by this user", todo)


def _disk(data: Path, reserve: int) -> Iterator[Finding]:
    facts = os.statvfs(data)
    block = facts.f_frsize
    rooms = (
        ("MB of disk space", MEGABYTE, facts.f_bavail * block, facts.f_blocks * block, reserve, SCARCE_BYTES),
        ("inodes", 1, facts.f_favail, facts.f_files, 1, SCARCE_INODES),
    )
    for name, unit, left, whole, least, scarce in rooms:
        if whole and left < min(least, LEAST_FREE * whole):
            what = f"{left // unit} {name} are left: no seed is claimed, and jobs wait"
            yield Finding("error", str(data), what, "make room; all goes on by itself")
        elif whole and left < min(scarce, SCARCE * whole):
            what = f"only {left // unit} {name} are left"
            yield Finding("warning", str(data), what, "make room before they are used up")


def _half_moves(workspace: Workspace, *, live: bool) -> Iterator[Finding]:
    for folder, prefix, what in (
        (workspace.current, CLAIMING, "a claim that was not finished: the seed is, or will be, in pending/ again"),
        (workspace.rejected, REJECTING, "a rejection that was not finished"),
    ):
        for path in _entries(folder):
            if not path.name.startswith(prefix):
                continue
            if not live:
                yield Finding("note", str(path), f"{what}; the next start settles it")
            elif _age(path) > UNDER_WAY_SECONDS:
                yield Finding("warning", str(path), what, "start popd again; it settles it")


def _left_by_the_last_service(workspace: Workspace) -> Iterator[Finding]:
    socket = control_socket.find(workspace.state)
    if os.path.lexists(socket):
        yield Finding("note", str(socket), "nobody listens there; the next start replaces it")
    mark = mark_of(workspace)
    for path in _entries(workspace.current):
        pid = process_left_behind(path / "runner.pid", mark) if is_job_id(path.name) else None
        if pid is not None:
            what = f"process {pid} of an earlier service still runs for this job"
            todo = f"start popd, which ends it, or: kill -9 -- -{pid}"
            yield Finding("warning", str(path / "runner.pid"), what, todo, path.name, repairable=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _age(path: Path) -> float:
    """Seconds since it was last changed; none where it is gone."""
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return 0.0
