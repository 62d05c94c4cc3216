"""What did not arrive, counted by address for as long as the registry lives, and said in the log.

Refs, mailboxes and the hub count here; metrics read. A sender that was told no has lost nothing: that is `refused`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter

MOST_ADDRESSES = 300
OTHERS = "others"
QUIET_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Undelivered:
    """Messages dropped and refused. Thread-safe.

    Children of a supervisor count together (`jobs/*`), and what is sent to made-up names in the end as `others`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dropped: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._known: set[str] = set()
        self._said_at: dict[tuple[str, str], float] = {}

    def know(self, address: str) -> None:
        """Somebody is at `address`: what is missed there from now on is a loss."""
        with self._lock:
            if len(self._known) < MOST_ADDRESSES:
                self._known.add(_shared_name(address))

    def count_missed(self, address: str, message: object) -> None:
        """Nobody is at `address` to take it. No loss where nobody ever was: actors announce themselves as they start,
        some before those who would care."""
        kind = type(message).__name__
        if _shared_name(address) in self._known:
            self.count_dropped(address, f"nobody is there to take a {kind}")
        else:
            _log.debug("nobody has ever been at %s to take a %s", address, kind)

    def count_dropped(self, address: str, why: str, number: int = 1) -> None:
        """So many messages to `address` are lost; nobody else is told."""
        self._count(self._dropped, "dropped", address, why, number)

    def count_refused(self, address: str, why: str) -> None:
        """A message to `address` was not taken; its sender knows."""
        self._count(self._refused, "refused", address, why, 1)

    def dropped(self) -> dict[str, int]:
        """Messages lost, by address, since the start."""
        with self._lock:
            return dict(self._dropped)

    def refused(self) -> dict[str, int]:
        """Messages not taken, by address, since the start."""
        with self._lock:
            return dict(self._refused)

    def _count(self, counter: Counter[str], what: str, address: str, why: str, number: int) -> None:
        name = _shared_name(address)
        now = time.monotonic()
        with self._lock:
            if name not in counter and len(counter) >= MOST_ADDRESSES:
                name = OTHERS
            counter[name] += number
            total = counter[name]
            quiet = now - self._said_at.get((what, name), -QUIET_SECONDS) < QUIET_SECONDS
            if not quiet:
                self._said_at[what, name] = now
        if not quiet:
            _log.warning("%s: %d messages %s: %s; %d since the start", address, number, what, why, total)


def _shared_name(address: str) -> str:
    parent, is_child, _ = address.partition("/")
    return f"{parent}/*" if is_child else parent
