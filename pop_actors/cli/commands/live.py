"""Commands that show what goes on: a table that follows, a job's logs, the stream of events."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import typer

from pop_actors.cli.commands.jobs import JOB_HEADS, JobArgument, job_row, path_part
from pop_actors.cli.daemon import ALL, Daemon, StreamEvent
from pop_actors.cli.failure import CommandFailed, not_found
from pop_actors.cli.live_table import LiveTable
from pop_actors.cli.options import options_of
from pop_actors.cli.output import note, print_json, say, say_raw
from pop_actors.cli.wording import place, text_of
from pop_actors.core.states import ENDED

LOOK_SECONDS = 0.5
RECONNECT_TRIES = 20
FROM_THE_BEGINNING = "0"
FollowOption = Annotated[bool, typer.Option("-f", "--follow", help="Go on as more comes.")]


def register(app: typer.Typer) -> None:
    """Add them to popctl."""
    for command in (watch, logs, events):
        app.command()(command)


def watch(
    context: typer.Context,
    job: Annotated[str | None, typer.Argument(metavar="[JOB]", help="The job's id; without it, all jobs.")] = None,
) -> None:
    """Jobs as they change; one job until it ends."""
    options = options_of(context)
    with options.daemon() as daemon:
        if options.as_json:
            _watch(daemon, job, _json_lines, only_changes=True)
        elif sys.stdout.isatty() and sys.stderr.isatty():
            with LiveTable(JOB_HEADS, state_column=2) as table:
                _watch(daemon, job, lambda found: table.show(job_row(one, time.time()) for one in found))
        else:
            _watch(daemon, job, _say_jobs, only_changes=True)


def _watch(
    daemon: Daemon, job: str | None, show: Callable[[list[dict[str, Any]]], None], *, only_changes: bool = False
) -> None:
    shown: dict[str, tuple[Any, ...]] = {}
    while True:
        found = [daemon.get(f"/api/jobs/{path_part(job)}")] if job else daemon.get("/api/jobs", limit=ALL)
        changed = [one for one in found if shown.get(one["id"]) != _news(one)]
        changed += _finished(daemon, shown.keys() - {one["id"] for one in found})
        shown = {one["id"]: _news(one) for one in found}
        show(changed if only_changes else found)
        if job and found[0]["state"] in ENDED:
            return
        time.sleep(LOOK_SECONDS)


def _finished(daemon: Daemon, ids: set[str]) -> list[dict[str, Any]]:
    """How jobs ended that are no longer among the unfinished; a rejected one is nowhere."""
    ended = []
    for job_id in sorted(ids):
        try:
            ended.append(daemon.get(f"/api/jobs/{path_part(job_id)}"))
        except CommandFailed as failed:
            if failed.code != "not_found":
                raise
    return ended


def _news(job: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(job[key] for key in ("state", "current", "currentStage", "progress", "costUsd"))


def _say_jobs(found: list[dict[str, Any]]) -> None:
    for job in found:
        say(_job_line(job))


def _job_line(job: dict[str, Any]) -> str:
    return f"{job['lastUpdated']}  {job['id']}  {job['state']}  {job['progress']} %  {_place_of(job)}"


def _place_of(job: dict[str, Any]) -> str:
    return place(job["current"], job["currentStage"])


def logs(
    context: typer.Context,
    job: JobArgument,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    follow: FollowOption = False,
) -> None:
    """What a job's stages printed and logged."""
    options = options_of(context)
    with options.daemon() as daemon:
        reader = LogReader(daemon, job, task, stage)
        if options.as_json and not follow:
            _, pieces = reader.look()
            print_json(pieces)
            return
        show = _json_lines if options.as_json else _LogPrinter().show
        ended, pieces = reader.look()
        show(pieces)
        if not pieces and not follow:
            note("nothing was logged" if ended else f"nothing was logged yet; popctl logs {job} -f waits for more")
        while follow and not ended:
            time.sleep(LOOK_SECONDS)
            ended, pieces = reader.look()
            show(pieces)


class LogReader:
    """Reads on in the log files of a job from where it read last."""

    def __init__(self, daemon: Daemon, job: str, task: str | None, stage: str | None) -> None:
        self._daemon = daemon
        self._job = job
        self._task = task
        self._stage = stage
        self._offsets: dict[str, int] = {}

    def look(self) -> tuple[bool, list[dict[str, str]]]:
        """Whether the job has ended, and what is new: {task, file, text} for each file that grew."""
        document = self._daemon.get(f"/api/jobs/{path_part(self._job)}")
        if self._task is not None and self._task not in document["tasks"]:
            raise not_found(f"{self._job} has no task {self._task!r}; it has: {', '.join(document['tasks'])}")
        pieces = []
        for task, name in self._names(document):
            text = "".join(self._new_text(task, name))
            if text:
                pieces.append({"task": task, "file": name, "text": text})
        return document["state"] in ENDED, pieces

    def _names(self, document: dict[str, Any]) -> Iterator[tuple[str, str]]:
        for task, facts in document["tasks"].items():
            if self._task in {None, task}:
                for name in facts.get("files", {}).get("logs", []):
                    if self._stage is None or name == f"{task}-{self._stage}.log":
                        yield task, name

    def _new_text(self, task: str, name: str) -> Iterator[str]:
        path = f"/api/jobs/{path_part(self._job)}/tasks/{path_part(task)}/file"
        while True:
            offset = self._offsets.get(name, 0)
            try:
                piece = self._daemon.get(path, type="logs", filename=name, offset=offset)
            except CommandFailed as failed:
                if failed.code == "not_found":  # indexed, and not written yet or moved just now
                    return
                raise
            self._offsets[name] = piece["nextOffset"]
            if piece["encoding"] == "base64":
                yield base64.b64decode(piece["content"]).decode("utf-8", "replace")
            else:
                yield piece["content"]
            if piece["nextOffset"] in {offset, piece["size"]}:
                return


class _LogPrinter:
    """Prints pieces of logs, with the file's name where it changes."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, pieces: list[dict[str, str]]) -> None:
        for piece in pieces:
            if piece["file"] != self._shown:
                say(f"{'' if not self._shown else chr(10)}==> {piece['file']} <==")
                self._shown = piece["file"]
            text = piece["text"]
            say_raw(text if text.endswith("\n") else f"{text}\n")


def _json_lines(documents: list[dict[str, Any]]) -> None:
    for document in documents:
        print_json(document, compact=True)


def events(
    context: typer.Context,
    job: Annotated[str | None, typer.Option("--job", help="Only events of this job.")] = None,
    follow: FollowOption = False,
) -> None:
    """What happened lately; with -f, what happens."""
    options = options_of(context)
    with options.daemon() as daemon:
        if follow:
            _follow_events(daemon, job, as_json=options.as_json)
            return
        found = [event for event in daemon.events(job, FROM_THE_BEGINNING, follow=False) if event.kind != "heartbeat"]
    if options.as_json:
        print_json([_event_document(event) for event in found])
        return
    for event in found:
        say(_event_line(event))
    if not found:
        note("nothing has happened since popd started; popctl events -f waits for more")


def _follow_events(daemon: Daemon, job: str | None, *, as_json: bool) -> None:
    """Print events for as long as the daemon lives; a short absence (its restart) is bridged."""
    last: str | None = None
    absent = 0
    while True:
        try:
            for event in daemon.events(job, last, follow=True):
                absent = 0
                last = event.id or last or str(event.data.get("lastEventId", "")) or None
                if event.kind != "heartbeat":
                    _show_event(event, as_json=as_json)
        except CommandFailed as failed:
            absent += 1
            if failed.code != "no_daemon" or last is None or absent > RECONNECT_TRIES:
                raise
        time.sleep(LOOK_SECONDS)


def _show_event(event: StreamEvent, *, as_json: bool) -> None:
    if as_json:
        print_json(_event_document(event), compact=True)
    else:
        say(_event_line(event))


def _event_document(event: StreamEvent) -> dict[str, Any]:
    return {"id": event.id, "event": event.kind, "data": event.data}


def _event_line(event: StreamEvent) -> str:
    data = event.data
    if event.kind.startswith("job:"):
        return f"{data['lastUpdated']}  {event.kind}  {data['event']}  {data['id']}  {data['state']}  {_place_of(data)}"
    return f"{event.kind}  {text_of(data)}"
