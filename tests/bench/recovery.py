"""How long a start takes among jobs that were under way when everything was killed, and thousands that are finished."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import struct
import time
from pathlib import Path

from tests.support.daemon import Daemon, Workspace, wait_until
from tests.support.processes import of_session, send

IN_ACCESS, IN_OPEN, IN_ISDIR = 0x1, 0x20, 0x40000000
EVENT = struct.Struct("iIII")
READY_SECONDS = 60.0
BUSY_SECONDS = 60.0

# Works until the file seed.data.release is there; each beginning leaves a line in seed.data.begun.
WAITING = """
import os, threading

def ingestion(ctx):
    told = ctx.data["seed"]["data"]
    place = os.open(told["begun"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(place, f"{ctx.meta.job_id}\\n".encode())
    os.close(place)
    while not os.path.exists(told["release"]):
        threading.Event().wait(0.2)
    return {"output": {}}
"""
DONE = """
def ingestion(ctx):
    print("a line of its log")
    return {"output": {"text": "x" * 2000}}

def integration(ctx):
    ctx.io.write_artifact(f"{ctx.meta.task_name}.md", "y" * 1000)
    return {"output": ctx.output}
"""
FAILING = "def ingestion(ctx):\n    raise ValueError('as planned')\n"


def measure(folder: Path, scale: float = 1.0) -> dict[str, float]:
    """Seconds to ready and from there to every slot busy with 4 and 16 slots, and how often complete/ was looked into.

    `unfinished` jobs in current/, a fifth of them killed in the middle of a run; `finished` ones in complete/.
    """
    unfinished, finished = int(1000 * scale), int(10_000 * scale)
    place = _Place(folder)
    place.fill(midrun=unfinished // 5, unfinished=unfinished, finished=finished)
    figures: dict[str, float] = {"unfinished": unfinished, "finished": finished}
    for slots in (4, 16):
        with _Trap(place.workspace.data / "complete") as trap:
            ready, busy = place.start_and_kill(slots)
        figures |= {f"ready {slots}": ready, f"busy {slots}": busy, f"looks {slots}": trap.looks()}
    return figures


class _Place:
    """A workspace and the file its jobs write to as they begin."""

    def __init__(self, folder: Path) -> None:
        self.workspace = Workspace(folder / "root")
        self._begun = folder / "begun"
        self._release = folder / "release"
        tasks = {"first": DONE, "second": DONE, "wait": WAITING}
        self.workspace.add_pipeline("waiting", tasks)
        self.workspace.add_pipeline("done", {"first": DONE, "second": DONE})
        entries = ["first", {"name": "fail", "maxAttempts": 1}]
        self.workspace.add_pipeline("failing", {"first": DONE, "fail": FAILING}, entries)

    def fill(self, *, midrun: int, unfinished: int, finished: int) -> None:
        """Really run as many as are to be in the middle, and one of each other kind; copy the rest."""
        daemon = self._start(midrun)
        self.workspace.drop("failed", {"pipeline": "failing", "data": {}})
        self.workspace.drop("done", {"pipeline": "done", "data": {}})
        wait_until(lambda: self.workspace.state("failed") == "error", 30, "a job to fail", daemon)
        wait_until(lambda: self.workspace.is_complete("done"), 30, "a job to be done", daemon)
        for number in range(midrun + 1):
            self._drop(f"job-{number:04}")
        wait_until(lambda: len(self._lines()) == midrun, 120, "the jobs to run", daemon)
        claimed = self.workspace.data / "current" / f"job-{midrun:04}"
        wait_until(claimed.is_dir, 30, "a job to be claimed and to wait", daemon)
        _kill(daemon)
        copies = unfinished - midrun - 2
        for number in range(copies):
            source = "failed" if number % 2 else claimed.name
            self._copy("current", source, f"copy-{number:05}", "")
        for number in range(finished - 1):
            self._copy("complete", "done", f"old-{number:05}", f"{number:06x}")

    def start_and_kill(self, slots: int) -> tuple[float, float]:
        """Seconds from exec to ready, and from ready to as many jobs at work as there are slots."""
        self._begun.unlink()
        with _Listener(self.workspace.root / "notify") as listener:
            began = time.perf_counter()
            daemon = self._start(slots, {"NOTIFY_SOCKET": listener.path})
            listener.wait_for_ready()
            ready = time.perf_counter()
            wait_until(lambda: len(self._lines()) >= slots, BUSY_SECONDS, "every slot to be busy", daemon)
            busy = time.perf_counter()
        _kill(daemon)
        return ready - began, busy - ready

    def _start(self, slots: int, environment: dict[str, str] | None = None) -> Daemon:
        self.workspace.settings(f"[http]\nport = 0\n[jobs]\nmax_running = {slots}\n")
        daemon = Daemon(self.workspace, environment)
        daemon.start()
        return daemon

    def _drop(self, job_id: str) -> None:
        told = {"begun": str(self._begun), "release": str(self._release)}
        self.workspace.drop(job_id, {"pipeline": "waiting", "data": told})

    def _lines(self) -> list[str]:
        try:
            return self._begun.read_text().splitlines()
        except FileNotFoundError:
            return []

    def _copy(self, folder: str, source: str, job_id: str, run: str) -> None:
        """Another job like that one: its id, and where one is given its run id, stand in its files instead."""
        data = self.workspace.data / folder
        shutil.copytree(data / source, data / job_id)
        for name in ("events.jsonl", "tasks-status.json"):
            path = data / job_id / name
            path.write_text(path.read_text().replace(f'"{source}"', f'"{job_id}"'))
        if run:
            with (data / "runs.jsonl").open("a+") as runs:
                runs.seek(0)
                line = json.loads(runs.readline())
                runs.write(json.dumps({**line, "id": job_id, "pipelineId": line["pipelineId"][:-6] + run}) + "\n")


class _Listener:
    """The service manager's end of sd_notify."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __enter__(self) -> _Listener:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(READY_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        os.unlink(self.path)

    def wait_for_ready(self) -> None:
        while not self._socket.recv(4096).startswith(b"READY=1"):
            pass


class _Trap:
    """The kernel's own account of who lists a folder, or opens what is in it. runs.jsonl may be opened."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._libc = ctypes.CDLL(None, use_errno=True)

    def __enter__(self) -> _Trap:
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        watch = self._libc.inotify_add_watch(self._descriptor, os.fsencode(self._folder), IN_ACCESS | IN_OPEN)
        assert watch >= 0, os.strerror(ctypes.get_errno())
        return self

    def __exit__(self, *_: object) -> None:
        self._events = self._read()
        os.close(self._descriptor)

    def looks(self) -> int:
        """How often the folder was listed or an entry of it opened."""
        listed = sum(not name and bool(mask & IN_ACCESS) for mask, name in self._events)
        opened = sum(bool(name) and name != b"runs.jsonl" for _, name in self._events)
        return listed + opened

    def _read(self) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        while True:
            try:
                chunk = os.read(self._descriptor, 1 << 20)
            except BlockingIOError:
                return found
            offset = 0
            while offset < len(chunk):
                _, mask, _, length = EVENT.unpack_from(chunk, offset)
                offset += EVENT.size
                found.append((mask, chunk[offset : offset + length].rstrip(b"\0")))
                offset += length


def _kill(daemon: Daemon) -> None:
    """kill -9 of everything it consists of, as a power cut would."""
    for process in of_session(daemon.pid):
        send(process.pid, signal.SIGKILL)
    assert daemon.process is not None
    daemon.process.wait(10)
    wait_until(lambda: not of_session(daemon.pid), 10, "the daemon's processes to die")
