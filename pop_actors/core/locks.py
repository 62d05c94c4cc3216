"""Who holds what: the things jobs conflict over, each held by one job at a time. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class Locks:
    """What is held, by whom. A job takes all it needs at once, or nothing."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}
        self._held: dict[str, tuple[str, ...]] = {}

    def obstacle(self, job_id: str, locks: Iterable[str]) -> str | None:
        """The job that holds one of them, if another one does."""
        holders = (self._holders.get(lock, job_id) for lock in locks)
        return next((holder for holder in holders if holder != job_id), None)

    def take(self, job_id: str, locks: Iterable[str]) -> None:
        """Hold them, and what was held before. They are free, or the job's own."""
        mine = tuple(dict.fromkeys((*self._held.get(job_id, ()), *locks)))
        if mine:
            self._held[job_id] = mine
            self._holders.update(dict.fromkeys(mine, job_id))

    def release(self, job_id: str) -> None:
        """Let go of all it holds."""
        for lock in self._held.pop(job_id, ()):
            if self._holders.get(lock) == job_id:
                del self._holders[lock]

    def __len__(self) -> int:
        return len(self._holders)

    def __repr__(self) -> str:
        return f"Locks({self._holders})"
