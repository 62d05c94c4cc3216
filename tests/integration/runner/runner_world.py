"""A job's directory and the two peers its process talks to, in memory: what a JobActor needs to run without a daemon.

The status writer writes events.jsonl and drops what it has seen; it can end the process at any event. The gateway keeps
a journal by key, so that a call asked again is not bought again.
"""

from __future__ import annotations

import hashlib
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import orjson

from pop_actors.actors.process_actor import ProcessContext
from pop_actors.core.events import Event, JobCreated, ProcessDown, event_document, event_from
from pop_actors.core.ids import timestamp
from pop_actors.core.messages import Chat, Record
from pop_actors.core.status import fold_all
from pop_actors.errors import Refused
from pop_actors.runner.job import JobActor
from pop_actors.storage.jsonl import AppendLog, read_lines
from pop_actors.storage.layout import JobDirectory


class ProcessDied(BaseException):
    """The process ends here, in the world's play: nothing after this happened."""


class StatusWriter:
    address = "status-writer"

    def __init__(self, directory: JobDirectory) -> None:
        self._log = AppendLog(directory.events)
        self.last = (0, 0)
        self.asked: list[list[str]] = []
        self.frames = 0
        self.dies_before: int | None = None
        self.dies_after: int | None = None
        self.watch: Callable[[Event], None] = lambda event: None
        self.count = 0

    def tell(self, message: object) -> None:
        self._take(message)

    def ask(self, message: object, timeout: float) -> None:
        self._take(message)
        assert isinstance(message, Record)
        self.asked.append([event["type"] for event in message.events])

    def request(self, message: object) -> Future[Any]:
        answer: Future[Any] = Future()
        try:
            self.ask(message, 0)
        except Refused as refused:
            answer.set_exception(refused)
        else:
            answer.set_result(None)
        return answer

    def _take(self, message: object) -> None:
        assert isinstance(message, Record)
        self.frames += 1
        for document in message.events:
            event = event_from(document)
            if (event.epoch, event.seq) <= self.last:
                continue
            have = self.last[1] if self.last[0] == event.epoch else 0
            if event.seq > have + 1:
                raise Refused("gap", "events are missing", {"have": have})
            if self.count == self.dies_before:
                raise ProcessDied
            self.record(event)
            self.count += 1
            if self.count == self.dies_after:
                raise ProcessDied
            self.watch(event)

    def record(self, event: Event) -> None:
        self._log.append([event_document(event)])
        if event.epoch:
            self.last = (event.epoch, event.seq)


class Gateway:
    address = "gateway"

    def __init__(self) -> None:
        self.paid: dict[tuple[Any, ...], Any] = {}
        self.bought: list[Chat] = []
        self.answer: Callable[[Chat], str] = lambda chat: f"reply to {chat.request['messages'][-1]['content']}"

    def tell(self, message: object) -> None:
        raise AssertionError("a chat is asked")

    ask = tell  # type: ignore[assignment]

    def request(self, message: object) -> Future[Any]:
        assert isinstance(message, Chat)
        digest = hashlib.sha256(orjson.dumps(message.request)).hexdigest()
        key = (message.task, message.attempt, message.stage, message.round, message.ordinal, digest)
        future: Future[Any] = Future()
        try:
            if key not in self.paid:
                content = self.answer(message)
                self.bought.append(message)
                self.paid[key] = {
                    "content": content,
                    "usage": {"inputTokens": 3, "outputTokens": 5, "cachedTokens": 0, "reasoningTokens": 0},
                    "costUsd": 0.5,
                    "provider": "offline",
                    "model": "echo",
                    "finishReason": "stop",
                    "replayed": False,
                }
            future.set_result(self.paid[key])
        except Exception as error:
            future.set_exception(error)
        return future


class World:
    """One job. `task` writes a module, `run` runs a process of it."""

    def __init__(self, root: Path, seed: Any = None) -> None:
        self.root = root
        self.directory = JobDirectory(root / "current" / "job-1")
        self.directory.path.mkdir(parents=True, exist_ok=True)
        if not self.directory.seed.exists():
            self.directory.seed.write_text(json.dumps(seed or {"data": {"topic": "tea"}}))
        self.modules: dict[str, str] = {}
        self.entries: list[dict[str, Any]] = []
        self.status_writer = StatusWriter(self.directory)
        self.gateway = Gateway()
        self.mailbox: SimpleQueue[object] = SimpleQueue()
        self.epoch = 0
        self.spec: dict[str, Any] = {}

    def task(self, name: str, source: str, **entry: Any) -> None:
        file = self.root / f"{name}.py"
        file.write_text(textwrap.dedent(source))
        self.modules[name] = str(file)
        needs = [self.entries[-1]["name"]] if self.entries else []
        self.entries.append({"name": name, "task": name, "depends_on": needs, **entry})

    def create(self) -> None:
        names = tuple(entry["name"] for entry in self.entries)
        self.status_writer.record(
            JobCreated(
                at=timestamp(0), id="job-1", run_id="pl-1", name="j", pipeline="p", mode="production", tasks=names
            )
        )

    def run(self) -> None:
        """One process of the job, to its end. Raises what ended it where that was no polite end."""
        if self.epoch == 0 and not self.directory.events.read_bytes():
            self.create()
        spec = {
            "job_id": "job-1", "run_id": "pl-1", "directory": str(self.directory.path), "root": str(self.root),
            "pipeline": "p", "task_modules": self.modules, "entries": self.entries, "resumed": self.epoch > 0,
            "retry_backoff_seconds": 0.01, **self.spec,
        }  # fmt: skip
        self.epoch += 1
        refs = {"status-writer": self.status_writer, "gateway": self.gateway}
        context = ProcessContext("jobs/job-1", self.epoch, refs.__getitem__, self.mailbox)  # type: ignore[arg-type]
        before = sys.path[:], set(sys.modules)
        try:
            self.actor = JobActor(context, spec)
            self.actor.run()
        finally:
            sys.path[:] = before[0]

    def die_and_resume(self, cause: str = "signal") -> None:
        """After ProcessDied: what the daemon notes, then the next process."""
        self.status_writer.dies_before = self.status_writer.dies_after = None
        self.status_writer.record(ProcessDown(at=timestamp(2_000_000_000), cause=cause))
        self.mailbox = SimpleQueue()
        self.run()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [document for _, document in read_lines(self.directory.events)]

    def seen(self, *types: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] in types]

    @property
    def status(self) -> dict[str, Any]:
        document = fold_all(event_from(event) for event in self.events)
        assert document is not None
        return document

    def output(self, task: str) -> Any:
        return json.loads(self.directory.task(task).output.read_text())[task]["content"]

    def paper(self, task: str, name: str) -> Any:
        return json.loads((self.directory.task(task).path / name).read_text())

    def checkpoint(self, task: str) -> list[dict[str, Any]]:
        return [document for _, document in read_lines(self.directory.task(task).checkpoint)]

    def stages_run(self) -> Counter[str]:
        """How often each `task.stage.round` ran, as the tasks themselves noted (`note(ctx, …)` in their modules)."""
        file = self.directory.files("tmp") / "ran.txt"
        return Counter(file.read_text().split()) if file.exists() else Counter()


NOTE = """
def note(ctx, stage):
    ctx.io.write_tmp("ran.txt", f"{ctx.meta.task_name}.{stage}.{ctx.meta.round}\\n", mode="append")
"""
