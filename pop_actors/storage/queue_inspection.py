"""Why seeds wait: what lies in pending/ and staging/, and what holds it there. Asked by doctor; reads only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pop_actors.core.ids import job_id_of_seed_file
from pop_actors.core.seed import Seed, parse_seed
from pop_actors.errors import SeedRejected
from pop_actors.storage.catalogue import Catalogue
from pop_actors.storage.claims import NotASeed, is_taken, read_seed
from pop_actors.storage.findings import Finding
from pop_actors.storage.layout import Workspace
from pop_actors.storage.set_aside import status_on_disk

MOST_SEEDS = 1000


def inspect_queue(workspace: Workspace, catalogue: Catalogue, max_bytes: int, *, live: bool) -> Iterator[Finding]:
    """Every seed that waits, up to `MOST_SEEDS`, with the reason; and files in staging/ that wait for none."""
    names = _names(workspace.pending)
    for name in names[:MOST_SEEDS]:
        path = workspace.pending / name
        job_id = job_id_of_seed_file(name)
        if job_id is None:
            yield Finding("note", str(path), "its name is not {jobId}-seed.json: it is no seed and is left alone")
        else:
            yield _about_seed(workspace, catalogue, path, job_id, max_bytes, live=live)
    if len(names) > MOST_SEEDS:
        yield Finding("note", str(workspace.pending), f"{len(names) - MOST_SEEDS} more seeds wait")
    waiting = set(names)
    for name in _names(workspace.staging):
        if f"{name}-seed.json" not in waiting:
            what = "waits for a seed of that name, and there is none"
            todo = "submit it, or remove these files"
            if name.startswith("."):
                what, todo = "is left of a submission that was not finished", "remove it"
            yield Finding("note", str(workspace.staging / name), what, todo)


def _about_seed(
    workspace: Workspace, catalogue: Catalogue, path: Path, job_id: str, max_bytes: int, *, live: bool
) -> Finding:
    def waits(what: str, todo: str = "", *, for_ever: bool = False) -> Finding:
        return Finding("warning" if for_ever else "note", str(path), what, todo, job_id)

    try:
        seed = parse_seed(read_seed(path, max_bytes).content, job_id, max_bytes)
        catalogue.pipeline_for(seed.pipeline)
    except FileNotFoundError:
        return waits("was claimed this moment")
    except NotASeed as error:
        return waits(f"waits for ever: {error}", "put a plain file there", for_ever=True)
    except SeedRejected as error:
        return waits(f"is about to be rejected ({error.reason}): {error.message}")
    if is_taken(workspace, job_id):
        return waits("is about to be rejected (duplicate_job)")
    obstacle = _obstacle(workspace, path, seed, job_id)
    if obstacle is None and live:
        return waits("waits for a slot, or for what it conflicts over; see: popctl status")
    return obstacle or waits("waits: no popd runs", f"popd --root {workspace.root}")


def _obstacle(workspace: Workspace, path: Path, seed: Seed, job_id: str) -> Finding | None:
    """The job it depends on that is not done."""
    for other in seed.depends_on:
        if workspace.finished(other).path.is_dir():
            continue
        if os.path.lexists(workspace.job(other).path):
            known = status_on_disk(workspace.job(other).status, other).known
            state = known["state"] if known is not None else "not readable"
            if state in {"error", "stopped", "not readable"}:
                what = f"waits for job {other}, which is {state}"
                return Finding("warning", str(path), what, f"popctl doctor {other}", job_id)
            return Finding("note", str(path), f"waits for job {other}, which is {state}", "", job_id)
        if os.path.lexists(workspace.seed(other)):
            return Finding("note", str(path), f"waits for job {other}, whose seed waits too", "", job_id)
        what = f"waits for job {other}, and there is none"
        return Finding("warning", str(path), what, f"submit {other}, or remove this seed", job_id)
    return None


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
