"""The watcher: turns files in pending/ into SeedFound, or has them turned down.

File system events are only hints: what counts is what lies there when it looks. It looks at a file when it is told of
it, and at the whole folder at start and every `RESCAN_SECONDS`, which finds what an overflow lost and a folder made
again; where inotify is missing, more often. It never moves or changes a seed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from pop_actors.actors.actor import Actor
from pop_actors.actors.process_actor import Ref
from pop_actors.actors.timers import Timers
from pop_actors.config import JobsSettings
from pop_actors.core import observations as seen
from pop_actors.core.ids import job_id_of_seed_file, seed_file_name
from pop_actors.core.seed import parse_seed
from pop_actors.errors import SeedRejected, Unavailable
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.claims import NotASeed, SeedFile, drop_claimed_name, is_taken, read_seed
from pop_actors.storage.disk import make_folder
from pop_actors.storage.layout import Workspace
from pop_actors.system import messages as m
from pop_actors.system.folder_watch import FolderWatch

RESCAN_SECONDS = 2.0
POLL_SECONDS = 0.5
SCAN_SLICE = 200

_log = logging.getLogger(__name__)
Signature = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Hint:
    """Watch → watcher: something happened to this name."""

    name: str


@dataclass(frozen=True, slots=True)
class _Scan:
    """Watcher → itself: look at these names, or (None) at the whole folder. `found` so far, in earlier slices."""

    names: tuple[str, ...] | None = None
    found: tuple[m.SeedFound, ...] = ()


@dataclass(frozen=True, slots=True)
class _Tick:
    """Watcher → itself: time to look again."""


class Watcher(Actor):
    """Owns the watch on pending/ and what is known of each file there: its signature when it was last judged."""

    mailbox_limit = 10_000
    mailbox_policy = "drop_oldest"  # a hint that is lost costs a moment: the next scan finds what lies there
    may_be_lost = frozenset({_Hint})

    def __init__(
        self,
        workspace: Workspace,
        settings: JobsSettings,
        default_mode: str,
        catalogue: Catalogue,
        feed: seen.Feed,
        timers: Timers,
        scheduler: Ref,
        status_writer: Ref,
        observe: Callable[[], BaseObserver] = Observer,
    ) -> None:
        super().__init__()
        self._workspace = workspace
        self._settings = settings
        self._default_mode = default_mode
        self._catalogue = catalogue
        self._feed = feed
        self._timers = timers
        self._scheduler = scheduler
        self._status_writer = status_writer
        self._observe = observe
        self._judged: dict[str, Signature] = {}
        self._unsettled: dict[str, tuple[Signature, float]] = {}
        self._ignored: set[str] = set()
        self._watch: FolderWatch | None = None
        self._handlers: dict[type, Callable[[Any], None]] = {
            _Hint: lambda hint: self._look_now(hint.name),
            _Scan: self._scan,
            _Tick: self._tick,
            m.LookAgain: self._look_again,
        }

    def on_start(self) -> None:
        self._watch = FolderWatch(self._workspace.pending, self._hint, self._observe)
        self._tell_self(_Tick())

    def on_stop(self) -> None:
        if self._watch is not None:
            self._watch.stop()

    def receive(self, message: object) -> None:
        self._handlers[type(message)](message)

    def snapshot(self) -> dict[str, Any]:
        watches = self._watch is not None and self._watch.is_watching
        return {**super().snapshot(), "watching": "inotify" if watches else "polling", "known": len(self._judged)}

    def _hint(self, name: str) -> None:
        """In the watch's thread, or the timers'."""
        with contextlib.suppress(Unavailable):  # the watcher is over; its successor reads the whole folder
            self.tell(_Hint(name))

    def _tell_self(self, message: object) -> None:
        try:
            self.tell_self(message)
        except Unavailable:
            _log.debug("the watcher is over; its successor reads the whole folder")

    def _tick(self, tick: _Tick) -> None:
        assert self._watch is not None
        try:
            make_folder(self._workspace.pending)
            self._watch.renew()
            self._scan(_Scan())
        except OSError as error:
            _log.warning("pending/ cannot be read: %s", error)
        pause = RESCAN_SECONDS if self._watch.is_watching else POLL_SECONDS
        self._timers.after(pause, lambda: self._tell_self(tick))

    def _scan(self, scan: _Scan) -> None:
        """Look at the folder a slice at a time, so that hints and pings are answered in between."""
        names = scan.names if scan.names is not None else tuple(self._new_names())
        seeds = (self._look_at(name) for name in names[:SCAN_SLICE])
        found = (*scan.found, *(seed for seed in seeds if seed is not None))
        if len(names) > SCAN_SLICE:
            self._tell_self(_Scan(names[SCAN_SLICE:], found))
        elif found:
            self._scheduler.tell(m.SeedsFound(found))

    def _new_names(self) -> list[str]:
        try:
            present = set(os.listdir(self._workspace.pending))
        except FileNotFoundError:
            present = set()
        for gone in self._judged.keys() - present:
            self._forget(gone)
        self._ignored &= present
        return sorted(present - self._judged.keys() - self._ignored)

    def _forget(self, name: str) -> None:
        self._unsettled.pop(name, None)
        if self._judged.pop(name, None) is not None:
            job_id = job_id_of_seed_file(name)
            assert job_id is not None
            self._scheduler.tell(m.SeedGone(job_id))

    def _look_again(self, message: m.LookAgain) -> None:
        if message.job_id is None:
            self._judged.clear()
            self._scan(_Scan())
        else:
            name = seed_file_name(message.job_id)
            self._judged.pop(name, None)
            self._look_now(name)

    def _look_now(self, name: str) -> None:
        seed = self._look_at(name)
        if seed is not None:
            self._scheduler.tell(seed)

    def _look_at(self, name: str) -> m.SeedFound | None:
        """The seed that is news there, if there is one; all else is dealt with."""
        job_id = job_id_of_seed_file(name)
        if job_id is None:
            self._ignore(name, "its name is not {jobId}-seed.json")
            return None
        try:
            file = read_seed(self._workspace.pending / name, self._settings.seed_max_bytes)
        except FileNotFoundError:
            self._forget(name)
        except NotASeed as error:
            self._ignore(name, str(error))
        else:
            if self._judged.get(name) != _signature(file):
                return self._judge(name, job_id, file)
        return None

    def _judge(self, name: str, job_id: str, file: SeedFile) -> m.SeedFound | None:
        try:
            found = self._found(job_id, file)
        except SeedRejected as error:
            if error.reason == "invalid_json" and not self._is_still(name, _signature(file)):
                return None
            self._settle(name, _signature(file))
            self._status_writer.tell(m.TurnDown(job_id, error.reason, error.message))
            return None
        self._settle(name, _signature(file))
        return found

    def _found(self, job_id: str, file: SeedFile) -> m.SeedFound | None:
        seen_at = time.monotonic()
        self._feed.publish(seen.SeedSeen(job_id))
        if drop_claimed_name(self._workspace, job_id):
            return None
        seed = parse_seed(file.content, job_id, self._settings.seed_max_bytes)
        pipeline = self._catalogue.pipeline_for(seed.pipeline)
        if is_taken(self._workspace, job_id):
            raise SeedRejected("duplicate_job", f"there is a job {job_id} already; give the seed another file name")
        return m.SeedFound(
            job_id=job_id,
            name=seed.name,
            priority=seed.priority,
            mode=seed.mode or self._default_mode,
            skip=tuple(seed.skip),
            depends_on=tuple(seed.depends_on),
            conflicts=tuple(seed.conflicts),
            pipeline=pipeline,
            file=replace(file, content=b""),
            seen_at=seen_at,
            budget_usd=seed.budget_usd,
        )

    def _is_still(self, name: str, signature: Signature) -> bool:
        """Whether a file that does not parse has stayed as it is for the settle time; else it is looked at again."""
        now = time.monotonic()
        known, since = self._unsettled.get(name, (None, now))
        if known != signature:
            since = now
            self._unsettled[name] = (signature, now)
        left = since + self._settings.settle_seconds - now
        if left > 0:
            self._timers.after(left, lambda: self._hint(name))
        return left <= 0

    def _settle(self, name: str, signature: Signature) -> None:
        self._unsettled.pop(name, None)
        self._judged[name] = signature

    def _ignore(self, name: str, why: str) -> None:
        if name not in self._ignored:
            self._ignored.add(name)
            self._feed.publish(seen.SeedIgnored(name, why))


def _signature(file: SeedFile) -> Signature:
    return (file.inode, file.size, file.mtime_ns)
