"""Imported by the forkserver, before it sets its memory apart: a task that does nothing is run some times.

What Python prepares when code first runs (specialised byte code, caches) is then there, and shared, in each process of
a job, which would else prepare it anew in copies of the pages. It starts no thread, since the forkserver forks, and
what fails costs time only. Nobody else imports this module: doing its work at import time is the one hook that
multiprocessing's preload offers.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from pop_actors.actors.wire import Envelope
from pop_actors.actors.worker import VOCABULARY
from pop_actors.core import events as e
from pop_actors.core.job_spec import JobSpec, LlmDefaults, LlmOverride, TaskEntry
from pop_actors.core.messages import Start
from pop_actors.runner.capture import Capture
from pop_actors.runner.clockwork import Clockwork
from pop_actors.runner.event_stream import EventStream
from pop_actors.runner.task import Attempt
from pop_actors.runner.workplace import Begin, Workplace
from pop_actors.storage import disk
from pop_actors.storage.files import write_first
from pop_actors.storage.layout import JobDirectory

TIMES = 12  # CPython 3.11 specialises what has run eight times
SHARED_MEMORY = "/dev/shm"  # noqa: S108  (in a folder of a random name)
NAME = "rehearsal"
TASK = b"def ingestion(ctx):\n    return {'output': {}}\n"


class _StillClock(Clockwork):
    """Its moments never come, so it has no thread."""

    def at(self, moment: float, call: Callable[[], None]) -> None:
        pass


class _Nobody:
    """Takes what it is told and is content with it."""

    address = "status-writer"

    def tell(self, message: object) -> None:
        VOCABULARY.encode(Envelope(self.address, "tell", 0, message))

    def request(self, message: object) -> Future[Any]:
        self.tell(message)
        answer: Future[Any] = Future()
        answer.set_result(None)
        return answer

    def ask(self, message: object, timeout: float) -> None:
        self.request(message).result(timeout)


def _memory() -> str | None:
    """A folder where no fsync takes its time; None where there is no such."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else None


def rehearse(root: Path, times: int = TIMES) -> None:
    """Run the task, each time as another job's below `root`."""
    code = root / f"{NAME}.py"
    write_first(code, TASK)
    path, capture = sys.path[:], Capture(root / "logs")
    try:
        for number in range(times):
            _run_one(_told(_spec(root, code, f"{NAME}-{number}")), capture)
    finally:
        sys.path[:] = path
        sys.modules.pop(f"pop_task_{NAME}", None)


def _spec(root: Path, code: Path, job_id: str) -> JobSpec:
    return JobSpec(
        job_id=job_id, run_id="pl-0", directory=str(root / job_id), root=str(root), pipeline=NAME, mode="default",
        task_modules={NAME: str(code)}, entries=(TaskEntry(name=NAME, task=NAME),), llm=LlmDefaults(),
        llm_override=LlmOverride(), skip=(), resumed=False, code=e.Code(files={}, modules={}),
        on_code_change="continue", retry_backoff_seconds=1.0, request_timeout=1.0,
    )  # fmt: skip


def _told(spec: JobSpec) -> JobSpec:
    """As it comes through the wire."""
    start = Start(f"jobs/{spec.job_id}", 1, NAME, {"spec": spec.model_dump(mode="json")}, {})
    frame = VOCABULARY.encode(Envelope("parent", "tell", 0, start))
    arrived: Start = VOCABULARY.decode(frame[4:]).body
    return JobSpec.model_validate(arrived.arguments["spec"])


def _run_one(spec: JobSpec, capture: Capture) -> None:
    directory = JobDirectory(Path(spec.directory))
    disk.make_folder(directory.task(NAME).path)
    clock, nobody = _StillClock(), _Nobody()
    stream = EventStream(nobody, spec.job_id, spec.run_id, 1, clock)
    place = Workplace(spec, directory, 1, {}, stream, nobody, capture, clock, threading.Event())
    Attempt(place, spec.entries[0], Begin(1), {}).run()
    stream.confirm(e.TaskDone, task=NAME, attempt=1, execution_time=1.0, refinements=0)


with contextlib.suppress(Exception), tempfile.TemporaryDirectory(prefix="pop-rehearsal-", dir=_memory()) as folder:
    rehearse(Path(folder))
