"""Reads the files of a task for the API: only regular files inside the job's directory, in pieces of bounded size."""

from __future__ import annotations

import base64
import mimetypes
import os
import stat
from pathlib import Path
from typing import Any

from pop_actors.api.control import Control
from pop_actors.core.ids import timestamp
from pop_actors.errors import Refused

PIECE_BYTES = 1024 * 1024
LONGEST_CHARACTER = 4


def describe(control: Control, job_id: str, task: str, kind: str) -> dict[str, Any]:
    """{jobId, taskId, type, files: [{name, size, mtime, mime}]}."""
    names = control.task_files(job_id, task, kind)
    files = [_facts(name, control.task_file(job_id, task, kind, name)) for name in names]
    return {"jobId": job_id, "taskId": task, "type": kind, "files": [facts for facts in files if facts is not None]}


def _facts(name: str, path: Path) -> dict[str, Any] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return {"name": name, "size": found.st_size, "mtime": timestamp(found.st_mtime), "mime": _mime(name)}


def read_piece(control: Control, job_id: str, task: str, kind: str, name: str, offset: int) -> dict[str, Any]:
    """{jobId, taskId, type, path, mime, size, mtime, encoding, content, offset, nextOffset}.

    `encoding` is utf8, or base64 where the bytes are no text. Read on from `nextOffset` until it is `size`.
    """
    path = control.task_file(job_id, task, kind, name)
    inside = control.job_directory(job_id).resolve()
    if not path.resolve().is_relative_to(inside):
        raise Refused("not_found", f"{name!r} is not among the {kind} of {task}")
    piece, found = _read(path, offset, f"{name!r} is not among the {kind} of {task}")
    encoding, content, length = _encoded(piece)
    return {
        "jobId": job_id,
        "taskId": task,
        "type": kind,
        "path": name,
        "mime": _mime(name),
        "size": found.st_size,
        "mtime": timestamp(found.st_mtime),
        "encoding": encoding,
        "content": content,
        "offset": offset,
        "nextOffset": offset + length,
    }


def _read(path: Path, offset: int, missing: str) -> tuple[bytes, os.stat_result]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        raise Refused("not_found", missing) from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise Refused("not_found", missing)
        return os.pread(descriptor, PIECE_BYTES, offset), found
    finally:
        os.close(descriptor)


def _encoded(piece: bytes) -> tuple[str, str, int]:
    """(encoding, content, bytes used). A character cut in two at the end waits for the next piece."""
    for cut in range(min(LONGEST_CHARACTER, len(piece) + 1)):
        whole = piece[: len(piece) - cut]
        try:
            return "utf8", whole.decode("utf-8"), len(whole)
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data":
                break
    return "base64", base64.b64encode(piece).decode("ascii"), len(piece)


def _mime(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
