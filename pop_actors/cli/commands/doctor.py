"""popctl doctor: everything that is wrong with a workspace and what to type; with --repair, what can be put right."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pop_actors.cli.failure import REFUSED, CommandFailed
from pop_actors.cli.options import Options, options_of
from pop_actors.cli.output import coloured, print_json, say
from pop_actors.errors import PopError
from pop_actors.storage.findings import Finding

if TYPE_CHECKING:
    from pop_actors.cli.checkup import Presence

SEVERITIES = ("error", "warning", "note")
_STATES = {"error": "error", "warning": "stopped", "note": "running"}  # coloured as these states of a job are


def register(app: typer.Typer) -> None:
    """Add it to popctl."""
    app.command()(doctor)


def doctor(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="One job; without it, the workspace.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be; what was there is kept.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="The whole history, not only the newest runs.")] = False,
) -> None:
    """What is wrong, where, and what to type. Exit 1 where something needs action."""
    from pop_actors.cli.checkup import examine, presence  # over 100 ms of models that only doctor needs

    options = options_of(context)
    present = presence(options)
    found = examine(options, present, job, everything=everything)
    outcome: dict[str, Any] = {"repaired": [], "failed": [], "also": []}
    if repair:
        outcome.update(_repair(options, present, job, everything=everything))
        found = examine(options, presence(options), job, everything=everything)
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    healthy = not outcome["failed"] and not any(finding.needs_action for finding in found)
    if options.as_json:
        print_json({"healthy": healthy, "findings": [finding.document() for finding in found], **outcome})
    else:
        _tell_outcome(outcome)
        _tell(found, healthy=healthy)
    if not healthy:
        raise typer.Exit(REFUSED)


def _repair(options: Options, present: Presence, job: str | None, *, everything: bool) -> dict[str, Any]:
    if present.answers:
        with options.daemon() as daemon:
            answer: dict[str, Any] = daemon.post("/api/service/repair", {"job": job})
            return answer
    from pop_actors.storage.offline_repair import repair_offline

    logging.getLogger("pop_actors").addHandler(logging.NullHandler())  # what a service would log, the outcome says
    try:
        done = repair_offline(options.workspace, job, time.time(), everything=everything)
    except (PopError, OSError) as error:
        raise CommandFailed("failed", str(error)) from None
    return {"repaired": done.repaired, "failed": done.failed, "also": done.also}


def _tell_outcome(outcome: dict[str, Any]) -> None:
    for line in outcome["also"]:
        say(line)
    for one in outcome["repaired"]:
        say(f"{one['id']}: {one['done']}")
        for copy in one["copies"]:
            say(f"    what was there is kept as {copy}")
    for one in outcome["failed"]:
        say(f"{one['id']}: cannot be repaired: {one['message']}")


def _tell(found: Sequence[Finding], *, healthy: bool) -> None:
    for finding in found:
        say(f"{coloured(finding.severity, _STATES[finding.severity])}  {finding.where}")
        say(f"    {finding.what}")
        if finding.todo:
            say(f"    → {finding.todo}")
    if healthy:
        say("healthy: nothing needs to be done")
    else:
        number = sum(finding.needs_action for finding in found)
        say(f"{number} {'thing needs' if number == 1 else 'things need'} action")
