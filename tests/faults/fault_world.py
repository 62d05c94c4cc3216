"""A workspace whose every step leaves a trace outside of it, a daemon that can be killed or stopped anywhere, and a
model provider that counts for itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from support.daemon import Daemon, Workspace, wait_until
from support.processes import Process, of_session, processes

PROVIDER = Path(__file__).resolve().parents[1] / "support" / "provider_server.py"
COMPLETE_SECONDS = 45.0
DEATH_SECONDS = 4.0

# Every stage that begins, and every reply a task has got, leaves a line outside of the workspace.
BEGIN = """
import json, os, time

def begin(ctx, stage):
    line = {"job": ctx.meta.job_id, "task": ctx.meta.task_name, "stage": stage, "attempt": ctx.meta.attempt,
            "round": ctx.meta.round, "pid": os.getpid(), "at": time.time()}
    place = os.open(ctx.data["seed"]["data"]["executions"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(place, json.dumps(line).encode() + b"\\n")
    os.close(place)
"""
ASK = (
    BEGIN
    + """
def ask(ctx):
    meta = ctx.meta
    model = f"ok+slow-40ms+{meta.job_id}+{meta.task_name}-{meta.attempt}-{meta.round}"
    text = ctx.llm.chat("a question", model=model).content
    begin(ctx, "answered")
    return {"output": {"text": text}}

def ingestion(ctx):
    begin(ctx, "ingestion")
    return {"output": {"upstream": sorted(ctx.data["tasks"])}}

def inference(ctx):
    begin(ctx, "inference")
    return ask(ctx)
"""
)
# Its first attempt fails after all its stages.
RESEARCH = (
    ASK
    + """
def integration(ctx):
    begin(ctx, "integration")
    ctx.io.write_artifact("research.md", ctx.output["text"])
    if ctx.meta.attempt == 1:
        raise RuntimeError("on purpose")
    return {"output": {"text": ctx.output["text"]}}
"""
)
# Refines once, and builds on the file that refine left; `seed.data.rejected` has it want more rounds than there are.
WRITE = (
    ASK
    + """
def validate_quality(ctx):
    begin(ctx, "validateQuality")
    wanted = 9 if ctx.data["seed"]["data"].get("rejected") else 1
    return {"output": {}, "flags": {"needsRefinement": ctx.meta.round < wanted}}

def refine(ctx):
    begin(ctx, "refine")
    result = ask(ctx)
    ctx.io.write_tmp("draft.txt", result["output"]["text"])
    return result

def integration(ctx):
    begin(ctx, "integration")
    ctx.io.write_artifact("write.md", ctx.io.read_tmp("draft.txt"))
    return {"output": {"text": ctx.output["text"]}}
"""
)
QUICK = (
    BEGIN
    + """
def ingestion(ctx):
    begin(ctx, "ingestion")
    return {"output": {}}
"""
)
# It has one task of its run left out and another one added. Written through the seam to the disk, it is recorded.
PLAN = (
    BEGIN
    + """
from pop_actors.storage.files import replace

def ingestion(ctx):
    begin(ctx, "ingestion")
    control = {"patch": {"add": [{"name": "extra", "task": "print"}]}, "skip": [{"task": "draw"}]}
    replace(os.path.join(ctx.io.get_task_dir(), "control.json"), json.dumps(control).encode())
    return {"output": {}}
"""
)
EDITED = QUICK.replace('"output": {}', '"output": {"edited": True}')
BAD_SEED = b'{"data": {'
TRACED = {"research": RESEARCH, "write": WRITE}
ENTRIES = ["research", {"name": "write", "maxRefinements": 1, "onRefinementExhausted": "reject"}]


@dataclass(frozen=True)
class Provider:
    """The provider's process, as its log and its address."""

    base_url: str
    log: Path

    def calls(self, job_id: str) -> list[str]:
        """The models a job asked for, one for each request that arrived."""
        lines = (json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines())
        return [line["model"] for line in lines if job_id in line["model"].split("+")]


@contextlib.contextmanager
def provider_process(folder: Path) -> Iterator[Provider]:
    """A provider on a real socket, in a process of its own."""
    port_file, log = folder / "port", folder / "calls.jsonl"
    log.touch()
    process = subprocess.Popen([sys.executable, str(PROVIDER), "--port-file", str(port_file), "--log", str(log)])
    try:
        wait_until(port_file.exists, 10, "the provider to listen")
        yield Provider(f"http://127.0.0.1:{port_file.read_text()}/v1", log)
    finally:
        process.kill()
        process.wait(10)


def is_alive(pid: int) -> bool:
    """Whether that process lives, and is no zombie."""
    return any(process.pid == pid for process in processes())


def is_stopped(pid: int) -> bool:
    return any(process.pid == pid and process.state == "T" for process in processes())


def kill_9(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class World:
    """One workspace with its daemons, one after the other. Nothing of it is left alive by `close`."""

    def __init__(self, root: Path, provider: Provider, settings: str = "") -> None:
        self.workspace = Workspace(root)
        self.provider = provider
        self.executions = root / "executions.jsonl"
        self.executions.touch()
        self.daemon: Daemon | None = None
        self._sessions: list[int] = []
        self.workspace.settings(
            "[http]\nenabled = false\n"
            '[gateway]\ndefault_provider = "fake"\n'
            f'[gateway.providers.fake]\nkind = "openai"\nbase_url = "{provider.base_url}"\napi_key_env = "FAKE_KEY"\n'
            f"{settings}"
        )
        self.workspace.add_pipeline("traced", TRACED, ENTRIES)
        self.workspace.add_pipeline("again", {"again": QUICK})
        gated = [{"name": "first", "gate": True}, "then"]
        for name in ("gated", "edited"):
            self.workspace.add_pipeline(name, {"first": QUICK, "then": QUICK}, gated)
        self.workspace.add_pipeline("controlled", {"plan": PLAN, "draw": QUICK, "print": QUICK})

    def start(self, fault_point: str | None = None) -> Daemon:
        """A daemon, armed or not. It is not waited for."""
        armed = {} if fault_point is None else {"PO_FAULT_POINT": fault_point}
        quick = {"PO_TASKS__RETRY_BACKOFF_SECONDS": "0.05"}
        self.daemon = Daemon(self.workspace, {"FAKE_KEY": "no-secret", **quick, **armed})
        self.daemon.start()
        self._sessions.append(self.daemon.pid)
        return self.daemon

    def drop(self, job_id: str, pipeline: str = "traced", **data: Any) -> None:
        """A seed, with a file attached to it."""
        staging = self.workspace.data / "staging" / job_id
        staging.mkdir(parents=True)
        (staging / "attached.csv").write_text("1,2\n")
        self.workspace.drop(job_id, {"pipeline": pipeline, "data": {"executions": str(self.executions), **data}})

    def edit(self) -> None:
        """Give the second task of the pipeline `edited` other code."""
        tasks = self.workspace.root / "pipeline-config" / "edited" / "tasks"
        (tasks / "then.py").write_text(EDITED, encoding="utf-8")

    def family(self) -> list[Process]:
        """The daemon now, or what is left of it: forkserver, pool, jobs, and what these have started."""
        assert self.daemon is not None
        return of_session(self.daemon.pid)

    def job_process(self, job_id: str) -> Process | None:
        name = f"jobs/{job_id}"[-15:]
        return next((process for process in self.family() if process.name == name), None)

    def wait_for_job_process(self, job_id: str) -> Process:
        wait_until(lambda: self.job_process(job_id), 15, f"a process of {job_id}", self.daemon)
        process = self.job_process(job_id)
        assert process is not None
        return process

    def has_stopped(self) -> bool:
        """Whether a process has come to the point it stops at."""
        return any(process.state == "T" for process in self.family())

    def wait_until_stopped(self) -> int:
        """The pid of the process that has come to the point it stops at."""
        stopped: list[int] = []

        def look() -> bool:
            stopped[:] = [process.pid for process in self.family() if process.state == "T"]
            return bool(stopped)

        wait_until(look, 15, "a process to stop at the fault point", self.daemon)
        return stopped[0]

    def wait_until_complete(self, *job_ids: str) -> None:
        """In complete/, and no process runs them any more. AssertionError at once where one ends in error."""
        for job_id in job_ids:
            wait_until(lambda j=job_id: self._has_ended_well(j), COMPLETE_SECONDS, f"{job_id} to end", self.daemon)
            wait_until(lambda j=job_id: self.job_process(j) is None, 10, f"{job_id}'s process to end", self.daemon)

    def _has_ended_well(self, job_id: str) -> bool:
        if self.workspace.is_complete(job_id):
            return True
        with contextlib.suppress(ValueError):  # a status that a power cut tore, until a start writes it anew
            status = self.workspace.status(job_id) or {}
            assert status.get("state") != "error", f"{job_id} is in error: {status['error']}"
        return False

    def wait_until_all_dead(self, seconds: float = DEATH_SECONDS) -> None:
        """Nothing the daemon started has outlived it."""
        assert self.daemon is not None
        assert self.daemon.process is not None
        self.daemon.process.wait(10)
        wait_until(lambda: not self.family(), seconds, f"the daemon's processes to die: {self.family()}")

    def kill_daemon(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()

    def kill_everything(self) -> None:
        """kill -9 of the daemon, its forkserver, the pool and every job."""
        for process in self.family():
            kill_9(process.pid)

    def resume_daemon(self) -> None:
        """SIGCONT."""
        assert self.daemon is not None
        os.kill(self.daemon.pid, signal.SIGCONT)

    def traces(self, job_id: str) -> list[dict[str, Any]]:
        """Every stage of that job that began, in order."""
        return [line for line in self.workspace.lines(self.executions) if line["job"] == job_id]

    def events(self, job_id: str) -> list[dict[str, Any]]:
        """The whole lines of its log, wherever it is."""
        return self._log(job_id, "events.jsonl")

    def turns(self, job_id: str) -> list[str]:
        """The events of its log that say whether it runs."""
        turns = {"JobCreated", "JobStarted", "JobDone"}
        return [event["type"] for event in self.events(job_id) if event["type"] in turns]

    def calls_without_reply(self, job_id: str) -> int:
        """How many calls its journal has as sent and not as paid."""
        kinds = [line["type"] for line in self._log(job_id, "llm-calls.jsonl")]
        return kinds.count("sent") - kinds.count("paid")

    def _log(self, job_id: str, name: str) -> list[dict[str, Any]]:
        for place in ("current", "complete"):
            with contextlib.suppress(FileNotFoundError):
                text = (self.workspace.data / place / job_id / name).read_text(encoding="utf-8")
                return [json.loads(line) for line in text.split("\n")[:-1]]
        return []

    def close(self) -> None:
        for process in processes():
            if process.session in self._sessions:
                kill_9(process.pid)
        if self.daemon is not None and self.daemon.process is not None:
            self.daemon.process.wait(10)


RANKS = {"pending": 0, "running": 1, "done": 2, "skipped": 2, "error": 2}


@dataclass
class StatusWatch:
    """Reads a job's status file again and again, in a thread, and notes whatever is torn or goes backwards."""

    workspace: Workspace
    job_id: str
    faults: list[str] = field(default_factory=list)
    seen: int = 0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._last: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.003):
            try:
                document = self.workspace.status(self.job_id)
            except ValueError as error:
                self.faults.append(f"not whole: {error}")
                continue
            if document is not None and document != self._last:
                self.seen += 1
                self._compare(document)
                self._last = document

    def _compare(self, now: dict[str, Any]) -> None:
        before = self._last
        if before is None:
            return
        if now["pipelineId"] != before["pipelineId"]:
            self.faults.append(f"run id {before['pipelineId']} became {now['pipelineId']}")
        old, new = _marks(before), _marks(now)
        self.faults += [f"{key}: {old[key]!r} became {new[key]!r}" for key in old if new[key] < old[key]]


def _marks(document: dict[str, Any]) -> dict[str, Any]:
    """What may only grow."""
    marks = {key: document[key] for key in ("lastUpdated", "restarts", "progress", "costUsd")}
    marks |= {f"tokens.{kind}": count for kind, count in document["tokens"].items()}
    for name, task in document["tasks"].items():
        marks |= {f"{name}.state": RANKS[task["state"]], f"{name}.attempts": task["attempts"]}
        marks[f"{name}.usage"] = len(task["tokenUsage"])
    return marks
