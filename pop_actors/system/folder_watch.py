"""A watch on one folder: names of files that may have changed, from the kernel where it tells, else nothing.

Only hints come from here, and they may be missing: whoever uses it looks for itself now and then.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

STOP_SECONDS = 2.0
TELLING = [FileClosedEvent, FileCreatedEvent, FileMovedEvent, FileDeletedEvent]

_log = logging.getLogger(__name__)


class FolderWatch(FileSystemEventHandler):
    """Calls `hint(name)`, in a thread of its own, when a file of `folder` was written, put there or removed."""

    def __init__(
        self, folder: Path, hint: Callable[[str], None], observe: Callable[[], BaseObserver] = Observer
    ) -> None:
        """`observe` makes the thread that listens to the kernel; OSError out of it or its `start`: there is none."""
        self._folder = os.fspath(folder)
        self._hint = hint
        self._observe = observe
        self._observer: BaseObserver | None = None
        self._held = -1  # keeps the watched folder's inode from being given to a folder made again under its name
        self._has_complained = False

    @property
    def is_watching(self) -> bool:
        """Whether the kernel tells of changes now."""
        return self._observer is not None and self._observer.is_alive()

    def renew(self) -> bool:
        """Watch the folder that has the name now, if it is not the watched one; True where the watch is a new one.

        OSError where the folder is missing. Without inotify it says so once and leaves looking to its owner.
        """
        if self.is_watching and os.path.samestat(os.stat(self._folder), os.fstat(self._held)):
            return False
        self.stop()
        self._held = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            observer = self._observe()
        except OSError as error:  # no inotify instance is left
            self._complain(error)
            return False
        try:
            observer.schedule(self, self._folder, recursive=False, event_filter=TELLING)
            observer.start()
        except OSError as error:  # no watch is left
            self._complain(error)
            observer.stop()
            return False
        self._observer, self._has_complained = observer, False
        return True

    def stop(self) -> None:
        """End the watch; a second call does nothing."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(STOP_SECONDS)
        held, self._held = self._held, -1
        if held >= 0:
            os.close(held)

    def dispatch(self, event: FileSystemEvent) -> None:
        """One event of the kernel. Never raises: an exception would silently end watchdog's thread."""
        for path in {event.src_path, event.dest_path}:
            folder, name = os.path.split(os.fsdecode(path))
            if name and folder == self._folder:
                self._hint(name)

    def _complain(self, error: OSError) -> None:
        if not self._has_complained:
            _log.warning("the kernel does not tell of changes in %s (%s); it is read now and then", self._folder, error)
        self._has_complained = True
