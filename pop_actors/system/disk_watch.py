"""Whether the disk takes new jobs: looked at once a second and before each claim, and told by whoever it refused.

While it does not, intake pauses and running jobs wait; the log says once when that begins and once when it ends. It
tries the disk by itself, in a thread of its own, so it is over without anybody else's doing. It never touches a job.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pop_actors.storage import disk, files
from pop_actors.storage.refusals import is_no_room, is_trouble

LOOK_SECONDS = 1.0
STANDS_SECONDS = 2.0  # longer than whoever was refused takes to try again
JOIN_SECONDS = 2.0
PROBE = ".probe"
PROBE_BYTES = 16384
MEGABYTE = 1024 * 1024
RESERVE_MB = 16
RESERVE_INODES = 1000
MOST_RESERVED = 0.01
CALM = 1.25

_log = logging.getLogger(__name__)
Reason = Literal["disk_full", "disk_low", "disk_error"]
REASONS: tuple[Reason, ...] = ("disk_full", "disk_low", "disk_error")


class NoRoom(OSError):
    """A job is not begun now: the disk has too little room. The seed stays where it is."""


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why no seed is claimed now."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Space:
    """What a file system has: bytes and inodes, 0 of `inodes` where it does not count them."""

    bytes: int
    free_bytes: int
    inodes: int
    free_inodes: int


def space_of(folder: Path) -> Space:
    """OSError where it cannot be looked at."""
    found = os.statvfs(folder)
    return Space(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize, found.f_files, found.f_favail)


def shortage(space: Space, reserve_mb: int | None, *, is_short: bool) -> str | None:
    """What there is too little of, in words; None where there is enough. Pure.

    `reserve_mb` None: 16, and at most 1 % of the file system. Where it `is_short` already, a quarter more must be free
    before it is not, so that intake does not flutter.
    """
    most = space.bytes * MOST_RESERVED
    reserve = min(RESERVE_MB * MEGABYTE, most) if reserve_mb is None else reserve_mb * MEGABYTE
    calm = CALM if is_short else 1.0
    if space.free_bytes < reserve * calm:
        free, kept = space.free_bytes / MEGABYTE, reserve / MEGABYTE
        return f"{free:.1f} MB are free and {kept:.1f} MB are kept for jobs that run (jobs.disk_reserve_mb)"
    if space.free_inodes < min(RESERVE_INODES, space.inodes * MOST_RESERVED) * calm:
        return f"{space.free_inodes} of {space.inodes} inodes are free: there are too many small files"
    return None


class DiskWatch:
    """The one judgement of the disk that everybody goes by. Thread-safe."""

    def __init__(self, folder: Path, reserve_mb: int | None, changed: Callable[[], None] = lambda: None) -> None:
        """`folder` is looked at, and written to by trials. `changed` is called after each change of `obstacle`."""
        self._folder = folder
        self._reserve_mb = reserve_mb
        self._changed = changed
        self._lock = threading.Lock()
        self._obstacle: Obstacle | None = None
        self._refusal: Obstacle | None = None
        self._refused_at = 0.0
        self._short: str | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def obstacle(self) -> Obstacle | None:
        """Why no job may begin now; None: it may."""
        return self._obstacle

    def start(self) -> None:
        """Look again and again, from now on."""
        with contextlib.suppress(OSError):  # what a daemon left that was killed in the middle of a trial
            disk.unlink(self._folder / PROBE)
        self._thread = threading.Thread(target=self._look_for_ever, name="disk-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """A second call does nothing. A disk that hangs does not hold it up for long."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(JOIN_SECONDS)

    def look(self) -> Obstacle | None:
        """How much is free now; cheap. A refusal stands until a trial succeeds."""
        try:
            space = space_of(self._folder)
        except OSError:
            return self._obstacle  # whoever writes there will hear why
        self._short = shortage(space, self._reserve_mb, is_short=self._short is not None)
        return self._judge()

    def refused(self, error: OSError) -> bool:
        """A write failed. Whether it is a matter of the disk: want of room, or of a sound device; the log says so then.
        What is the matter with one file only is left to whoever was refused."""
        if is_no_room(error):
            message = "the disk is full; jobs wait, and go on by themselves when there is room"
            self._refusal = Obstacle("disk_full", message)
        elif is_trouble(error) or error.errno == errno.EROFS:
            self._refusal = Obstacle("disk_error", f"the disk fails: {error}; jobs wait until it takes writes again")
        else:
            return False
        self._refused_at = time.monotonic()
        self._judge()
        return True

    def _look_for_ever(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                if self._refusal is not None and time.monotonic() >= self._refused_at + STANDS_SECONDS:
                    self._try()
                self.look()
            except Exception:  # noqa: BLE001  (without this thread, intake would stay paused for good)
                _log.exception("a look at the disk failed")

    def _try(self) -> None:
        probe = self._folder / PROBE
        try:
            files.replace(probe, bytes(PROBE_BYTES), durable=True)
        except OSError as error:
            self.refused(error)
        else:
            self._refusal = None
        with contextlib.suppress(OSError):
            disk.unlink(probe)

    def _judge(self) -> Obstacle | None:
        with self._lock:
            before = self._obstacle
            self._obstacle = now = self._refusal or (Obstacle("disk_low", self._short) if self._short else None)
        if (before and before.reason) != (now and now.reason):
            self._say(before, now)
            self._changed()
        return now

    @staticmethod
    def _say(before: Obstacle | None, now: Obstacle | None) -> None:
        if now is None:
            _log.info("the disk has room again: seeds are claimed, jobs that waited go on")
        elif before is None or now.reason != "disk_low":
            _log.error("no seed is claimed for now (%s): %s", now.reason, now.message)

    def __repr__(self) -> str:
        return f"DiskWatch({self._folder}, {self._obstacle.reason if self._obstacle else 'room'})"
