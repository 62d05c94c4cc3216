"""Commands about jobs: one, many, past ones, what a run cost, and to stop one or begin it anew."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from pop_actors.cli.commands.service import show_service
from pop_actors.cli.daemon import ALL
from pop_actors.cli.failure import USAGE, CommandFailed
from pop_actors.cli.options import options_of
from pop_actors.cli.output import print_facts, print_json, print_table, say
from pop_actors.cli.report import report_of
from pop_actors.cli.wording import ago, duration, money, place
from pop_actors.core.states import JOB_STATES, is_job_state

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]


def register(app: typer.Typer) -> None:
    """Add them to popctl."""
    app.command("list")(list_jobs)
    for command in (status, runs, report, stop, restart, approve, reject):
        app.command()(command)


def status(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The job's id; without it, the service.")] = None,
) -> None:
    """One job, finished or not; or the service."""
    options = options_of(context)
    if job is None:
        show_service(options)
        return
    with options.daemon() as daemon:
        document = daemon.get(f"/api/jobs/{path_part(job)}")
    if options.as_json:
        print_json(document)
    else:
        _show_job(document, time.time())


def path_part(text: str) -> str:
    """A name as one segment of a URL's path."""
    from urllib.parse import quote

    return quote(text, safe="") or "-"


def _show_job(document: dict[str, Any], now: float) -> None:
    error = document.get("error")
    facts = [
        ("job", document["id"]),
        ("run", document["pipelineId"]),
        ("pipeline", f"{document['pipeline']} ({document['mode']})"),
        ("state", document["state"]),
        ("at", place(document["current"], document["currentStage"])),
        ("progress", f"{document['progress']} %"),
        ("created", ago(document["createdAt"], now)),
        ("updated", ago(document["lastUpdated"], now)),
        ("cost", money(document["costUsd"])),
    ]
    if error:
        facts.append(("error", f"{error['reason']}: {error['name']}: {error['message']}"))
    print_facts(facts + _wait_facts(document, now) + _code_facts(document) + _gate_facts(document, now))
    say()
    rows = [_task_row(name, task) for name, task in document["tasks"].items()]
    print_table(("task", "state", "stage", "attempts", "rounds", "time"), rows, state_column=1)
    if document["state"] == "waiting":
        say(f"\nlet it go on: popctl approve {document['id']}; end it: popctl reject {document['id']} --note TEXT")
    if document["state"] == "error":
        say(f"\nlook closer: popctl logs {document['id']}; begin again: popctl restart {document['id']}")


def _wait_facts(document: dict[str, Any], now: float) -> list[tuple[str, Any]]:
    """What keeps a running job waiting that is no fault of its own."""
    waits = {name: task["waitsFor"] for name, task in document["tasks"].items() if task.get("waitsFor")}
    return [
        ("waits for", f"{_AWAITED.get(wait['reason'], wait['reason'])}; task {name}, {ago(wait['since'], now)}")
        for name, wait in waits.items()
    ]


_AWAITED = {
    "budget": "a new day's budget (see popctl gateway budgets)",
    "disk": "room on the disk",
}


def _gate_facts(document: dict[str, Any], now: float) -> list[tuple[str, Any]]:
    gate = document.get("gate")
    if not gate:
        return []
    facts = [("waits for", gate["message"]), ("since", ago(gate["since"], now))]
    return [*facts, ("look at", ", ".join(gate["artifacts"]))] if gate["artifacts"] else facts


def _code_facts(document: dict[str, Any]) -> list[tuple[str, Any]]:
    changed = document.get("codeChanged")
    if not changed:
        return []
    return [
        ("code changed", f"{', '.join(changed['files'])}; {changed['action']}; tasks: {', '.join(changed['tasks'])}")
    ]


def _task_row(name: str, task: dict[str, Any]) -> tuple[Any, ...]:
    took = task.get("executionTime")
    stage = task.get("failedStage") or task.get("currentStage")
    seconds = None if took is None else duration(took / 1000)
    return name, task["state"], stage, task.get("attempts", 0), task.get("refinementAttempts", 0), seconds


def list_jobs(
    context: typer.Context,
    all_jobs: Annotated[bool, typer.Option("--all", help="Finished jobs too.")] = False,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=ALL, help="At most so many.")] = ALL,
) -> None:
    """Jobs that are not finished."""
    options = options_of(context)
    if state is not None and not is_job_state(state):
        raise CommandFailed("usage", f"--state {state}: must be one of {', '.join(JOB_STATES)}", USAGE)
    with options.daemon() as daemon:
        found = daemon.get("/api/jobs", all="true" if all_jobs else None, state=state, limit=limit)
    if options.as_json:
        print_json(found)
    elif not found:
        say(
            "no jobs; submit one with: popctl submit SEED" + ("" if all_jobs else " (finished ones: popctl list --all)")
        )
    else:
        print_job_table(found, time.time())


def print_job_table(found: list[dict[str, Any]], now: float) -> None:
    """Jobs as a table."""
    print_table(JOB_HEADS, [job_row(job, now) for job in found], state_column=2)


JOB_HEADS = ("job", "pipeline", "state", "at", "progress", "cost", "updated")


def job_row(job: dict[str, Any], now: float) -> tuple[str, ...]:
    """The cells of one job under JOB_HEADS."""
    at = place(job["current"], job["currentStage"])
    updated = ago(job["lastUpdated"], now)
    return job["id"], job["pipeline"], job["state"], at, f"{job['progress']} %", money(job["costUsd"]), updated


def runs(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="Only runs of this job.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=ALL, help="At most so many.")] = 100,
) -> None:
    """Runs that are complete, newest first."""
    options = options_of(context)
    with options.daemon() as daemon:
        lines = daemon.get("/api/runs", limit=limit, jobId=job)
    if options.as_json:
        print_json(lines)
    elif not lines:
        say("no run is complete yet; see what is under way with: popctl list")
    else:
        heads = ("job", "pipeline", "run", "finished", "time in tasks", "cost", "attempts")
        print_table(heads, [_run_row(line, time.time()) for line in lines])


def _run_row(line: dict[str, Any], now: float) -> tuple[Any, ...]:
    return (
        line["id"],
        line["pipeline"],
        line["pipelineId"],
        ago(line["finishedAt"], now),
        duration(line["totalExecutionTime"] / 1000),
        money(line["costUsd"]),
        line["attempts"],
    )


def report(context: typer.Context, job: JobArgument) -> None:
    """Cost, tokens and time of a job, task by task."""
    options = options_of(context)
    with options.daemon() as daemon:
        document = daemon.get(f"/api/jobs/{path_part(job)}")
    found = report_of(document)
    if options.as_json:
        print_json(found)
        return
    print_facts([(key, found[key]) for key in ("id", "pipelineId", "pipeline", "state")])
    say()
    total = {"name": "total", "state": "", **found["total"]}
    rows = [
        (
            task["name"],
            task["state"],
            task["attempts"],
            duration(task["executionTime"] / 1000),
            task["calls"],
            task["tokens"]["input"],
            task["tokens"]["output"],
            money(task["costUsd"]),
        )
        for task in [*found["tasks"], total]
    ]
    heads = ("task", "state", "attempts", "time", "calls", "tokens in", "tokens out", "cost")
    print_table(heads, rows, state_column=1)
    if found["unpricedCalls"]:
        say(f"\n{found['unpricedCalls']} calls have no known price and count as $0")


def stop(context: typer.Context, job: JobArgument) -> None:
    """Stop a job; its directory stays in current/."""
    options = options_of(context)
    with options.daemon() as daemon:
        data = daemon.post(f"/api/jobs/{path_part(job)}/stop")
    if options.as_json:
        print_json({"ok": True, "data": data})
    else:
        say(f"{job} is stopped; begin it again with: popctl restart {job}")


def restart(
    context: typer.Context,
    job: JobArgument,
    from_task: Annotated[str | None, typer.Option("--from", metavar="TASK", help="Keep what is before it.")] = None,
    only: Annotated[bool, typer.Option("--only", help="Only the task of --from.")] = False,
) -> None:
    """Begin a new run of a job that has ended."""
    options = options_of(context)
    if only and from_task is None:
        raise CommandFailed("usage", "--only needs --from TASK, the one task to run again", USAGE)
    with options.daemon() as daemon:
        data = daemon.post(f"/api/jobs/{path_part(job)}/restart", {"from": from_task, "only": only})
    if options.as_json:
        print_json({"ok": True, "data": data})
    else:
        say(f"{job} runs again; follow it with: popctl watch {job}")


GateTask = Annotated[str | None, typer.Option("--task", metavar="TASK", help="Only where it is this task's gate.")]


def approve(
    context: typer.Context,
    job: JobArgument,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Kept in the job's log.")] = "",
    task: GateTask = None,
) -> None:
    """Let a job that waits at a gate go on."""
    _decide(context, job, "approve", note, task)


def reject(
    context: typer.Context,
    job: JobArgument,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why; it becomes the job's error.")] = "",
    task: GateTask = None,
) -> None:
    """End a job that waits at a gate: it is in error then, and can be restarted."""
    _decide(context, job, "reject", note, task)


def _decide(context: typer.Context, job: str, decision: str, note: str, task: str | None) -> None:
    options = options_of(context)
    with options.daemon() as daemon:
        data = daemon.post(f"/api/jobs/{path_part(job)}/gate", {"decision": decision, "note": note, "task": task})
    if options.as_json:
        print_json({"ok": True, "data": data})
    elif decision == "approve":
        say(f"{job} goes on; follow it with: popctl watch {job}")
    else:
        say(f"{job} is ended; begin it again with: popctl restart {job}")
