"""Puts seeds into the drop box: checked, attached files first, whole or not at all, never over another one."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pop_actors.cli.failure import CommandFailed
from pop_actors.core.ids import SEED_SUFFIX, is_job_id
from pop_actors.errors import SeedRejected
from pop_actors.storage import files
from pop_actors.storage.claims import drop_seed
from pop_actors.storage.layout import Workspace

RANDOM_CHARACTERS = 6
LONGEST_SLUG = 100
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, slots=True)
class CheckedSeed:
    """A seed that may be dropped, under this id."""

    job_id: str
    content: bytes


def slug(text: str) -> str:
    """A text as the beginning of a job id: lower case, runs of anything else than letters and digits as one dash."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:LONGEST_SLUG].strip("-") or "job"


def check(content: bytes, source: str, job_id: str | None, pipeline: str | None, max_bytes: int) -> CheckedSeed:
    """The seed of a file, with its pipeline replaced where one is given. CommandFailed with the contract's reason."""
    from pop_actors.core.seed import parse_seed  # brings pydantic, 50 ms: only a submit pays for it

    if job_id is not None and not is_job_id(job_id):
        raise CommandFailed("invalid_request", f"--id {job_id}: letters, digits, _ and - are allowed, at most 128")
    fallback = slug(Path(source).name.removesuffix(SEED_SUFFIX).removesuffix(".json"))
    try:
        seed = parse_seed(content, job_id or fallback, max_bytes)
        if pipeline is not None:
            content = json.dumps({**seed.raw, "pipeline": pipeline}, ensure_ascii=False, indent=2).encode("utf-8")
            seed = parse_seed(content, job_id or fallback, max_bytes)
    except SeedRejected as rejected:
        raise CommandFailed(rejected.reason, f"{source}: {rejected.message}; nothing was submitted") from None
    return CheckedSeed(job_id or _new_id(seed.name), content)


def _new_id(name: str) -> str:
    import secrets  # brings hashlib and random; only a submit pays for it

    token = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return f"{slug(name)}-{token}"


def prepare(workspace: Workspace) -> None:
    """Make the drop box where popd has not run yet. CommandFailed where there is no workspace at all."""
    if not workspace.config.is_dir() and not workspace.data.is_dir():
        raise CommandFailed(
            "no_workspace", f"no workspace at {workspace.root}; make one with: popctl init, or set --root"
        )
    try:
        for folder in (workspace.pending, workspace.staging):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _disk_says(error) from None


def attach(workspace: Workspace, job_id: str, attachments: Sequence[Path]) -> None:
    """Copy files into the job's staging folder, durably. CommandFailed where one cannot be; then none is left."""
    folder = workspace.staging / job_id
    made: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for attachment in attachments:
            target = folder / attachment.name
            files.write_new(target, attachment.read_bytes(), durable=True)
            made.append(target)
        files.sync_directory(folder)
        files.sync_directory(folder.parent)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise CommandFailed("conflict", f"{error.filename} is there already; nothing was submitted") from None
        raise _disk_says(error) from None


def drop(workspace: Workspace, seed: CheckedSeed) -> Path:
    """Publish a seed in the drop box, atomically and durably. CommandFailed where its id is in use."""
    try:
        return drop_seed(workspace, seed.job_id, seed.content)
    except SeedRejected as rejected:
        raise CommandFailed(rejected.reason, rejected.message) from None
    except OSError as error:
        raise _disk_says(error) from None


def _disk_says(error: OSError) -> CommandFailed:
    return CommandFailed("failed", f"{error.filename}: {error.strerror or error}; nothing was submitted")
