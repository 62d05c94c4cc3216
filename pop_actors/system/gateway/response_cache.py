"""The response cache, for development: replies kept by their exact request in `state/response-cache/`, for a time.

Off unless the settings want it. Used by the gateway's loop; a thread does the files. A cache that cannot be read or
written is as good as an empty one: nothing of it is anybody's only copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pop_actors.errors import Damaged
from pop_actors.storage import disk
from pop_actors.storage.files import read_json, readable_json, replace
from pop_actors.system.gateway.call import Call, cache_key

FOLDER = "response-cache"

_log = logging.getLogger("pop_actors.gateway")


class ResponseCache:
    """`clock` gives seconds since the epoch. At most `max_entries` are kept; the oldest go first."""

    def __init__(self, state: Path, ttl_seconds: float, max_entries: int, clock: Callable[[], float]) -> None:
        self._folder = state / FOLDER
        self._ttl = ttl_seconds
        self._most = max_entries
        self._clock = clock
        self._count: int | None = None

    async def find(self, call: Call) -> dict[str, Any] | None:
        """The document of a reply to exactly this request, while it is fresh."""
        return await asyncio.to_thread(self._read, cache_key(call))

    async def keep(self, call: Call, document: dict[str, Any]) -> None:
        """Keep a reply that was bought."""
        await asyncio.to_thread(self._write, cache_key(call), document)

    def _read(self, key: str) -> dict[str, Any] | None:
        path = self._path(key)
        try:
            known = read_json(path)
            if self._clock() - float(known["at"]) <= self._ttl:
                found: dict[str, Any] = known["reply"]
                return found
        except FileNotFoundError:
            return None
        except (OSError, Damaged, KeyError, TypeError, ValueError) as error:
            _log.warning("%s: this entry of the response cache is of no use: %s", path, error)
        self._drop(path)
        return None

    def _write(self, key: str, document: dict[str, Any]) -> None:
        try:
            disk.make_folder(self._folder)
            self._make_room()
            replace(self._path(key), readable_json({"at": self._clock(), "reply": document}))
            self._count = None if self._count is None else self._count + 1
        except OSError as error:
            _log.warning("the response cache in %s could not be written: %s", self._folder, error)

    def _make_room(self) -> None:
        """The folder is read once, and again whenever as many were added as may stand there."""
        if self._count is not None and self._count < self._most:
            return
        ages = sorted((entry.stat().st_mtime, entry.path) for entry in os.scandir(self._folder))
        surplus = max(0, len(ages) - self._most * 9 // 10) if len(ages) >= self._most else 0
        for _, path in ages[:surplus]:
            self._drop(path)
        self._count = len(ages) - surplus

    def _drop(self, path: Path | str) -> None:
        with contextlib.suppress(OSError):
            disk.unlink(path)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"

    def __repr__(self) -> str:
        return f"ResponseCache({str(self._folder)!r}, {self._ttl:g} s)"
