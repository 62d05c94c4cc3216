"""`popctl submit`: check the seeds, attach files, drop them, and with --wait see them to their end."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pop_actors.cli.daemon import listens
from pop_actors.cli.drop import CheckedSeed, attach, check, drop, prepare
from pop_actors.cli.failure import NO_DAEMON, REFUSED, USAGE, CommandFailed
from pop_actors.cli.live_table import LiveTable
from pop_actors.cli.options import Options, options_of
from pop_actors.cli.output import note, print_json, say
from pop_actors.cli.waiting import Awaited, Sighting
from pop_actors.cli.wording import money, place

LOOK_SECONDS = 0.1
STANDARD_INPUT = "-"
_HEADS = ("job", "state", "at", "progress", "cost")


def register(app: typer.Typer) -> None:
    """Add it to popctl."""
    app.command()(submit)


def submit(
    context: typer.Context,
    seeds: Annotated[list[str], typer.Argument(metavar="SEED...", help="Seed files; - reads standard input.")],
    job_id: Annotated[str | None, typer.Option("--id", help="The job's id; for one seed.")] = None,
    pipeline: Annotated[
        str | None, typer.Option(metavar="SLUG", help="Run this pipeline, whatever the seed says.")
    ] = None,
    attachments: Annotated[
        list[Path] | None, typer.Option("--attach", metavar="FILE", help="A file for the job; may be repeated.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until the jobs end; exit code 1 where one fails.")] = False,
) -> None:
    """Submit jobs; prints their ids."""
    options = options_of(context)
    if len(seeds) > 1 and (job_id or attachments):
        raise CommandFailed("usage", "--id and --attach are for one seed; submit the others by themselves", USAGE)
    workspace = options.workspace
    limit = _seed_max_bytes(workspace.root)
    checked = [check(_read(seed), seed, job_id, pipeline, limit) for seed in seeds]
    prepare(workspace)
    awaited = [Awaited(workspace, seed.job_id) for seed in checked]
    for seed in checked:
        if attachments:
            attach(workspace, seed.job_id, attachments)
        drop(workspace, seed)
    there = listens(options.socket_path)
    _tell_dropped(options, checked, there=there, wait=wait)
    if wait:
        _see_to_the_end(options, awaited, there=there)


def _seed_max_bytes(root: Path) -> int:
    """`jobs.seed_max_bytes` of this workspace: what popd would say about a seed, popctl says first."""
    from pop_actors.config import load  # reads pop.toml and the environment; only this command needs a setting

    return load(root, None).jobs.seed_max_bytes


def _read(source: str) -> bytes:
    if source == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise CommandFailed("no_such_file", f"{source}: {error.strerror or error}; nothing was submitted") from None


def _tell_dropped(options: Options, checked: Sequence[CheckedSeed], *, there: bool, wait: bool) -> None:
    if not options.as_json:
        for seed in checked:
            say(seed.job_id)
    elif not wait:
        print_json(_document(checked, there=there))
    if not there:
        note(f"no daemon runs here: the seed waits in pending/; start one with: popd --root {options.workspace.root}")


def _document(checked: Sequence[CheckedSeed] | Sequence[Awaited], *, there: bool) -> dict[str, object]:
    ids = [seed.job_id for seed in checked]
    return {"ok": True, "id": ids[0], "ids": ids, "daemon": there}


def _see_to_the_end(options: Options, awaited: Sequence[Awaited], *, there: bool) -> None:
    if not there:
        if options.as_json:
            print_json(_document(awaited, there=False))
        raise typer.Exit(NO_DAEMON)
    ends = _follow(awaited) if not sys.stderr.isatty() or options.as_json else _follow_live(awaited)
    well = all(end.went_well for end in ends)
    if options.as_json:
        jobs = [{"id": end.job_id, "state": end.state, "message": end.message} for end in ends]
        print_json({**_document(awaited, there=True), "ok": well, "jobs": jobs})
    for end in ends:
        if end.state in {"error", "stopped"}:
            note(f"{end.job_id}: {end.state}; look closer with: popctl status {end.job_id}")
    if not well:
        raise typer.Exit(REFUSED)


def _follow(awaited: Sequence[Awaited]) -> list[Sighting]:
    """Wait for all; a line on stderr at each change."""
    told: dict[str, str] = {}
    while True:
        seen = [one.look() for one in awaited]
        for sighting in seen:
            if told.get(sighting.job_id) != sighting.line:
                told[sighting.job_id] = sighting.line
                note(sighting.line)
        if all(sighting.ended for sighting in seen):
            return seen
        time.sleep(LOOK_SECONDS)


def _follow_live(awaited: Sequence[Awaited]) -> list[Sighting]:
    """Wait for all; a table on the terminal."""
    with LiveTable(_HEADS, state_column=1) as table:
        while True:
            seen = [one.look() for one in awaited]
            table.show(_row(sighting) for sighting in seen)
            if all(sighting.ended for sighting in seen):
                return seen
            time.sleep(LOOK_SECONDS)


def _row(sighting: Sighting) -> tuple[str, ...]:
    document = sighting.document
    if document is None:
        return sighting.job_id, sighting.state, sighting.message, "", ""
    at = sighting.message or place(document["current"], document["currentStage"])
    return sighting.job_id, sighting.state, at, f"{document['progress']} %", money(document["costUsd"])
