"""Jobs that cannot be used as they lie: left alone on disk, shown in error, and what of their files can be believed.

Asked by recovery for the job at hand, and by doctor. Reads only, and gets by with whatever is there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pop_actors.core.ids import timestamp
from pop_actors.core.known_status import known_status, shown
from pop_actors.core.status import Document, fold_all
from pop_actors.errors import FormatRefused, PopError
from pop_actors.storage.job_log import read_log
from pop_actors.storage.layout import Workspace


@dataclass(frozen=True, slots=True)
class SetAside:
    """A job that a start leaves as it is. `document` is the status it appears under, `message` says what is wrong and
    what to do."""

    job_id: str
    message: str
    document: Document


@dataclass(frozen=True, slots=True)
class StatusOnDisk:
    """A tasks-status.json: its bytes (None: there are none), and the document where it is a status of that job."""

    content: bytes | None
    known: Document | None

    @property
    def is_damaged(self) -> bool:
        """Whether there is something that a person might want to see, and it is no status."""
        return self.known is None and self.content is not None and bool(self.content.strip(b"\0"))


def status_on_disk(path: Path, job_id: str) -> StatusOnDisk:
    """What lies there; something that is no file counts as damaged."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return StatusOnDisk(None, None)
    except OSError as error:
        return StatusOnDisk(str(error).encode(), None)
    return StatusOnDisk(content, known_status(job_id, _json_of(content)))


def set_aside(workspace: Workspace, job_id: str, error: Exception) -> SetAside:
    """The job as it is shown while it cannot be used because of `error`."""
    message = _what_to_do(workspace, job_id, error)
    known = status_on_disk(workspace.job(job_id).status, job_id).known or _begun(workspace, job_id)
    name = type(error).__name__
    return SetAside(job_id, message, shown(job_id, known, _modified(workspace, job_id), name, message))


def _what_to_do(workspace: Workspace, job_id: str, error: Exception) -> str:
    path = workspace.job(job_id).path
    if not path.is_dir():
        return f"{path}: is no folder, and takes the id of a job; move it away"
    if isinstance(error, FormatRefused):
        return f"{path}: {error}"
    text = str(error) if isinstance(error, (PopError, OSError)) else repr(error)
    told = text if str(path) in text else f"{path}: {text}"
    return f"{told}; nothing of it was changed; put it right with: popctl doctor --repair {job_id}"


def _begun(workspace: Workspace, job_id: str) -> Document | None:
    """What the sound beginning of its log says."""
    try:
        document = fold_all(read_log(workspace.job(job_id).events.read_bytes()).events)
    except (OSError, PopError, ValueError, KeyError):
        return None
    return document if document is not None and document["id"] == job_id else None


def _modified(workspace: Workspace, job_id: str) -> str:
    try:
        return timestamp(os.lstat(workspace.job(job_id).path).st_mtime)
    except OSError:
        return timestamp(0.0)


def _json_of(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
