"""What a task's stages put under files/ for others to read, made durable before a stage counts as finished.

A line of the checkpoint says that its stage never runs again: should it outlive a power cut, so must what it wrote.
Used by the task's thread only.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from pop_actors.storage.files import sync_directory
from pop_actors.storage.layout import JobDirectory
from pop_actors.storage.moves import sync_file

KINDS = ("artifacts", "tmp")  # a later stage may build on these; logs are for people
SQLITE_SUFFIXES = ("-wal", "-journal")
_log = logging.getLogger("pop_actors.runner")


class KeptFiles:
    """The files of one attempt of a task."""

    def __init__(self, job: JobDirectory, task: str) -> None:
        self._job = job
        self._control = job.task(task).control
        self._control_kept: tuple[int, int, int] | None = None
        self._reachable = {job.path}

    def keep(self, files: Iterable[tuple[str, str]]) -> None:
        """Return when these (kind, name) are on disk, with what SQLite puts beside a database, the folders that lead
        there, and the task's control.json where there is a new one. Costs nothing where there is nothing.

        Not to be called again after an OSError: what a sync refused once may be lost although the next one succeeds.
        """
        folders: set[Path] = set()
        for path in sorted(self._job.files(kind) / name for kind, name in files if kind in KINDS):
            if not _sync(path):
                _log.warning("%s: was written by this task, and is no file any more", path)
            for suffix in SQLITE_SUFFIXES:
                _sync(path.with_name(f"{path.name}{suffix}"))
            folders |= self._leading_to(path)
        control = _stamp(self._control)
        if control not in {None, self._control_kept}:
            _sync(self._control)
            folders |= self._leading_to(self._control)
            self._control_kept = control
        for folder in sorted(folders, key=lambda path: len(path.parts), reverse=True):
            if folder.is_dir():
                sync_directory(folder)

    def _leading_to(self, path: Path) -> set[Path]:
        """The folder with that name, and those above it whose own names are not known to be on disk."""
        folder = path.parent
        folders = {folder}
        while folder not in self._reachable:
            self._reachable.add(folder)
            folder = folder.parent
            folders.add(folder)
        return folders


def _sync(path: Path) -> bool:
    """False where there is no such file; anything but a file is left alone."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        sync_file(path)
    except FileNotFoundError:
        return False
    return True


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells one content of a file from the next; None where there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
