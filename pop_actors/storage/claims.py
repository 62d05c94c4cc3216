"""How a seed leaves pending/: it becomes a job's directory in current/, or an entry of rejected/. Atomic and durable.

A claim links the seed, and what is attached to it, into `current/.claiming-{id}/`, builds the job there, renames it to
`current/{id}` and unlinks what it was made from last: until the rename is on disk all is still where the user put it,
and afterwards the same inode in both places tells what is left of a claim from a duplicate. (No rename out of pending/:
that delays watchdog's next events.)
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pop_actors.core.ids import timestamp
from pop_actors.errors import SeedRejected, StorageError
from pop_actors.storage import disk
from pop_actors.storage.fault_points import reach
from pop_actors.storage.files import readable_json, replace, sync_directory, write_new
from pop_actors.storage.layout import EVENTS, PIPELINE, REJECTION, SEED, STATUS, JobDirectory, Workspace
from pop_actors.storage.moves import (
    NotASeed,
    is_same_file,
    move_to_free_name,
    open_regular,
    rename_durably,
    sync_file,
    take,
    unlink_if_there,
)

__all__ = [
    "JobFiles",
    "NotASeed",
    "SeedChanged",
    "SeedFile",
    "attachments",
    "claim",
    "drop_attached_names",
    "drop_claimed_name",
    "drop_seed",
    "is_taken",
    "read_seed",
    "reject",
    "settle_rejection",
    "undo_claim",
]

CLAIMING = ".claiming-"
REJECTING = ".rejecting-"
READ_BYTES = 65536


class SeedChanged(StorageError):
    """The seed is not the one that was read any more; read it again."""


@dataclass(frozen=True, slots=True)
class SeedFile:
    """A seed as it was read. `content` ends one byte beyond the limit where the file is larger."""

    content: bytes
    mtime_ns: int
    size: int
    device: int
    inode: int

    @property
    def mtime(self) -> float:
        """Seconds since the epoch."""
        return self.mtime_ns / 1e9

    def is_still(self, now: os.stat_result) -> bool:
        return (self.device, self.inode, self.mtime_ns, self.size) == (
            now.st_dev,
            now.st_ino,
            now.st_mtime_ns,
            now.st_size,
        )


@dataclass(frozen=True, slots=True)
class JobFiles:
    """What a new job's directory begins with: its pipeline.json, the first lines of its log, its status, the names of
    the files to bring from staging/, and those of its tasks: their folders are made here, with one fsync for all."""

    pipeline: bytes
    events: bytes
    status: bytes
    attached: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()


def read_seed(path: Path, max_bytes: int) -> SeedFile:
    """The seed at `path`. FileNotFoundError where it is gone, NotASeed for symlinks, folders and other non-files."""
    descriptor = open_regular(path)
    try:
        facts = os.fstat(descriptor)
        content = _read_at_most(descriptor, max_bytes + 1)
    finally:
        os.close(descriptor)
    return SeedFile(content, facts.st_mtime_ns, facts.st_size, facts.st_dev, facts.st_ino)


def _read_at_most(descriptor: int, size: int) -> bytes:
    content = b""
    while len(content) < size and (chunk := os.read(descriptor, min(READ_BYTES, size - len(content)))):
        content += chunk
    return content


def is_taken(workspace: Workspace, job_id: str) -> bool:
    """Whether a job of that id is in current/ or complete/."""
    return os.path.lexists(workspace.current / job_id) or os.path.lexists(workspace.complete / job_id)


def attachments(workspace: Workspace, job_id: str) -> tuple[str, ...]:
    """The names of the files waiting in staging/{jobId}/; what is no plain file with a UTF-8 name stays there."""
    folder = workspace.staging / job_id
    if folder.is_symlink() or not folder.is_dir():
        return ()
    with os.scandir(folder) as entries:
        return tuple(
            sorted(entry.name for entry in entries if entry.is_file(follow_symlinks=False) and _is_text(entry.name))
        )


def drop_seed(workspace: Workspace, job_id: str, content: bytes) -> Path:
    """Put a seed into pending/, whole and durable; where it is. SeedRejected (duplicate_job) where the id is in use."""
    pending = workspace.seed(job_id)
    if is_taken(workspace, job_id):
        raise SeedRejected("duplicate_job", f"there is a job {job_id} already; give the seed another id")
    unseen = workspace.staging / f".{job_id}-{os.getpid()}-{os.urandom(4).hex()}"
    write_new(unseen, content, durable=True)
    try:
        disk.link(unseen, pending)
    except FileExistsError:
        raise SeedRejected("duplicate_job", f"a seed {job_id} waits already; give this one another id") from None
    finally:
        disk.unlink(unseen)
    sync_directory(workspace.pending)
    return pending


def claim(workspace: Workspace, job_id: str, seed: SeedFile, files: JobFiles) -> bool:
    """Make the pending seed a job, durably. False where it was one already, and only its name was left in pending/.

    SeedRejected (duplicate_job) where another job has the id; SeedChanged or FileNotFoundError where the seed is not
    what was read; OSError where the disk refuses. After an error the seed is in pending/ as before.
    """
    pending, building = workspace.seed(job_id), workspace.claiming(job_id)
    if is_taken(workspace, job_id):
        return _drop_leftover(workspace, job_id)
    undo_claim(workspace, job_id)
    disk.mkdir(building)
    try:
        _take_unchanged(pending, building / SEED, seed)
        reach("claim.linked")
        _attach(workspace.staging / job_id, JobDirectory(building).files("artifacts"), files.attached)
        reach("claim.attached")
        _build(building, files)
        reach("claim.built")
        rename_durably(building, workspace.current / job_id, "claim.renamed")
    except BaseException:
        undo_claim(workspace, job_id)
        raise
    _leave_staging(workspace.staging / job_id, workspace.job(job_id).files("artifacts"))
    _leave_pending(pending, seed)
    reach("claim.unlinked")
    return True


def undo_claim(workspace: Workspace, job_id: str) -> None:
    """Take back what an interrupted claim left: its seed and its attachments are where they were before."""
    building, pending, staging = workspace.claiming(job_id), workspace.seed(job_id), workspace.staging / job_id
    if not building.is_dir():
        return
    artifacts = JobDirectory(building).files("artifacts")
    for name in os.listdir(artifacts) if artifacts.is_dir() else ():
        if is_same_file(staging / name, artifacts / name):
            disk.unlink(artifacts / name)
        else:
            disk.make_folder(staging)
            move_to_free_name(artifacts / name, staging, name)
    if (building / SEED).exists() and not os.path.lexists(pending):
        take(building / SEED, pending)
    for name in (SEED, PIPELINE, EVENTS, STATUS):
        unlink_if_there(building / name)
    tasks = JobDirectory(building).tasks
    for folder in (*(tasks.iterdir() if tasks.is_dir() else ()), tasks, artifacts, artifacts.parent, building):
        if folder.is_dir():
            disk.rmdir(folder)


def drop_claimed_name(workspace: Workspace, job_id: str) -> bool:
    """Remove the seed's name from pending/ where the job of that id was claimed from it, or it was rejected. Whether it
    was. (A power cut brings names back that were removed, and nobody fsyncs pending/ for that.)"""
    pending = workspace.seed(job_id)
    settled = (workspace.job(job_id), workspace.finished(job_id), *_rejected(workspace, job_id))
    claimed = next((job for job in settled if is_same_file(pending, job.seed)), None)
    if claimed is None:
        return False
    _leave_staging(workspace.staging / job_id, claimed.files("artifacts"))
    unlink_if_there(pending)
    return True


def drop_attached_names(workspace: Workspace, job_id: str) -> None:
    """Remove from staging/ what the job of that id was claimed with: `drop_claimed_name` may find no seed's name."""
    for job in (workspace.job(job_id), workspace.finished(job_id), *_rejected(workspace, job_id)):
        _leave_staging(workspace.staging / job_id, job.files("artifacts"))


def reject(workspace: Workspace, job_id: str, reason: str, message: str, now: float) -> Path | None:
    """Move the pending seed, whatever its size, to rejected/ with a rejection.json. Where it is; None where none was.

    Built in `rejected/.rejecting-{id}/`; once rejection.json stands there the rejection happens, whoever finishes it.
    `now` in seconds since the epoch. NotASeed for symlinks, folders and other non-files: they stay where they are.
    """
    settle_rejection(workspace, job_id)
    building = workspace.rejected / f"{REJECTING}{job_id}"
    disk.mkdir(building)
    try:
        take(workspace.seed(job_id), building / SEED)
    except FileNotFoundError:
        disk.rmdir(building)
        return None
    except NotASeed:
        disk.rmdir(building)
        raise
    reach("reject.linked")
    sync_file(building / SEED)
    replace(building / REJECTION, rejection_document(job_id, reason, message, now), durable=True)
    sync_directory(building)
    sync_directory(workspace.rejected)
    reach("reject.written")
    return settle_rejection(workspace, job_id)


def settle_rejection(workspace: Workspace, job_id: str) -> Path | None:
    """Finish a rejection that was decided, undo one that was not. Where it went to; None where there was none."""
    building, pending = workspace.rejected / f"{REJECTING}{job_id}", workspace.seed(job_id)
    if not building.is_dir():
        return None
    if not (building / REJECTION).exists():
        if (building / SEED).exists() and not os.path.lexists(pending):
            take(building / SEED, pending)
        for entry in os.listdir(building):
            disk.unlink(building / entry)
        disk.rmdir(building)
        return None
    if is_same_file(pending, building / SEED):
        unlink_if_there(pending)
    reach("reject.unlinked")
    place = move_to_free_name(building, workspace.rejected, job_id)
    reach("reject.renamed")
    sync_directory(workspace.rejected)
    return place


def rejection_document(job_id: str, reason: str, message: str, now: float) -> bytes:
    """The bytes of rejection.json; `now` in seconds since the epoch."""
    return readable_json({"jobId": job_id, "reason": reason, "message": message, "rejectedAt": timestamp(now)})


def _rejected(workspace: Workspace, job_id: str) -> Iterator[JobDirectory]:
    """What was rejected under that id, however often."""
    for number in count(1):
        directory = workspace.rejected / (job_id if number == 1 else f"{job_id}.{number}")
        if not os.path.lexists(directory):
            return
        yield JobDirectory(directory)


def _drop_leftover(workspace: Workspace, job_id: str) -> bool:
    if not drop_claimed_name(workspace, job_id):
        raise SeedRejected("duplicate_job", f"there is a job {job_id} already; give the seed another file name")
    return False


def _leave_pending(pending: Path, seed: SeedFile) -> None:
    """The job stands; a name that cannot be removed now is removed when it is next seen (`drop_claimed_name`)."""
    with contextlib.suppress(OSError):
        if seed.is_still(os.lstat(pending)):
            disk.unlink(pending)


def _take_unchanged(pending: Path, target: Path, seed: SeedFile) -> None:
    if not seed.is_still(take(pending, target)):
        raise SeedChanged(f"{pending}: has changed since it was read")


def _attach(staging: Path, artifacts: Path, names: tuple[str, ...]) -> None:
    if not names:
        return
    disk.make_folder(artifacts)
    for name in names:
        try:
            take(staging / name, artifacts / name)
        except NotASeed:
            raise SeedChanged(f"{staging / name}: is no file any more") from None
        sync_file(artifacts / name)
    for folder in (artifacts, artifacts.parent):
        sync_directory(folder)


def _leave_staging(staging: Path, artifacts: Path) -> None:
    """What is attached belongs to the job; a name that cannot be removed stays until a start of the service."""
    with contextlib.suppress(OSError):
        names = os.listdir(staging)
        left = [name for name in names if not is_same_file(staging / name, artifacts / name)]
        for name in set(names) - set(left):
            disk.unlink(staging / name)
        if names and not left:
            disk.rmdir(staging)


def _build(building: Path, files: JobFiles) -> None:
    sync_file(building / SEED)
    write_new(building / PIPELINE, files.pipeline, durable=True)
    write_new(building / EVENTS, files.events, durable=True)
    write_new(building / STATUS, files.status)  # the fold of the log, which is durable; a start writes it anew
    tasks = JobDirectory(building).tasks
    disk.mkdir(tasks)
    for name in files.tasks:
        disk.mkdir(tasks / name)
    sync_directory(tasks)
    sync_directory(building)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
