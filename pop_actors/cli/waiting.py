"""What became of a submitted job, read from the workspace: it answers also while popd is being restarted."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pop_actors.cli.wording import place
from pop_actors.storage.files import read_json
from pop_actors.storage.layout import REJECTION, Workspace

ENDED = frozenset({"done", "error", "stopped", "rejected"})


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where a job was seen: `state` is a job's, `rejected`, or `pending` before there is one."""

    job_id: str
    state: str
    document: dict[str, Any] | None = None
    message: str = ""

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def went_well(self) -> bool:
        return self.state == "done"

    @property
    def line(self) -> str:
        """The sighting in words; two with the same line are the same news."""
        if self.document is None or self.ended:
            return f"{self.job_id}: {self.state}" + (f": {self.message}" if self.message else "")
        if gate := self.document.get("gate"):
            decide = f"popctl approve {self.job_id}, or popctl reject {self.job_id}"
            return f"{self.job_id}: waiting, {self.document['progress']} %: {gate['message']}; {decide}"
        at = place(self.document["current"], self.document["currentStage"])
        return f"{self.job_id}: {self.state}, {self.document['progress']} %, {at}"


class Awaited:
    """A job about to be dropped. Made before the drop, so that older rejections of that id are told apart."""

    def __init__(self, workspace: Workspace, job_id: str) -> None:
        self.job_id = job_id
        self._workspace = workspace
        self._rejection = _first_free(workspace.rejected, job_id) / REJECTION
        self._last = Sighting(job_id, "pending")

    def look(self) -> Sighting:
        """Where it is now; between two places, where it was last."""
        self._last = self._rejected() or self._at_work() or self._last
        return self._last

    def _rejected(self) -> Sighting | None:
        found = _read(self._rejection)
        if found is None:
            return None
        return Sighting(self.job_id, "rejected", message=f"{found['reason']}: {found['message']}")

    def _at_work(self) -> Sighting | None:
        if finished := _read(self._workspace.finished(self.job_id).status):
            return Sighting(self.job_id, "done", finished)
        document = _read(self._workspace.job(self.job_id).status)
        if document is None or document["state"] == "done":
            return None
        error = document.get("error") or {}
        message = f"{error.get('reason')}: {error.get('message')}" if error else ""
        return Sighting(self.job_id, document["state"], document, message)


def _first_free(rejected: Path, job_id: str) -> Path:
    names = itertools.chain([job_id], (f"{job_id}.{number}" for number in itertools.count(2)))
    return next(path for path in (rejected / name for name in names) if not path.exists())


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
