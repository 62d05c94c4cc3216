"""What the machine allows: the same files written and fsynced by a warm process, with no actors around it."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections import deque
from pathlib import Path


def files_of(job: Path) -> dict[str, bytes]:
    """What a finished job consists of: relative path -> content."""
    return {str(path.relative_to(job)): path.read_bytes() for path in sorted(job.rglob("*")) if path.is_file()}


class Floor:
    """Jobs of plain processes: claim by link and unlink, write and fsync each file once, log the run, rename."""

    def __init__(self, root: Path, files: dict[str, bytes], run_line: bytes) -> None:
        self._root = root
        self._files = files
        self._run_line = run_line
        for name in ("pending", "current", "complete"):
            (root / name).mkdir(parents=True)

    def drop(self, job_id: str) -> None:
        hidden = self._root / f".{job_id}"
        hidden.write_bytes(self._files["seed.json"])
        hidden.rename(self._root / "pending" / f"{job_id}-seed.json")

    def do_job(self, job_id: str) -> None:
        """In a process of the job's own."""
        job = self._root / "current" / job_id
        job.mkdir()
        seed = self._root / "pending" / f"{job_id}-seed.json"
        os.link(seed, job / "seed.json")
        seed.unlink()
        for name, content in self._files.items():
            if name == "seed.json":
                continue
            path = job / name
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, content, os.O_CREAT | os.O_TRUNC)
        _write(self._root / "complete" / "runs.jsonl", self._run_line, os.O_CREAT | os.O_APPEND)
        job.rename(self._root / "complete" / job_id)
        for folder in ("current", "complete"):
            descriptor = os.open(self._root / folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

    def latency(self, count: int) -> list[float]:
        """Seconds from the seed's rename to the directory in complete/, one after the other, each in a warm process."""
        times = []
        for number in range(count):
            ours, theirs = socket.socketpair()
            pid = os.fork()
            if pid == 0:
                self.do_job(theirs.recv(200).decode())
                os._exit(0)
            job_id = f"floor-{number}"
            began = time.perf_counter()
            self.drop(job_id)
            ours.send(job_id.encode())
            while not (self._root / "complete" / job_id).exists():
                time.sleep(0.0002)
            times.append(time.perf_counter() - began)
            os.waitpid(pid, 0)
            ours.close()
            theirs.close()
        return times

    def burst(self, count: int, at_once: int) -> float:
        """Jobs per second for `count` jobs dropped at once, `at_once` processes at a time, one process a job."""
        began = time.perf_counter()
        job_ids = [f"burst-{number}" for number in range(count)]
        for job_id in job_ids:
            self.drop(job_id)
        waiting = deque(job_ids)
        running: set[int] = set()
        while waiting or running:
            while waiting and len(running) < at_once:
                job_id = waiting.popleft()
                pid = os.fork()
                if pid == 0:
                    self.do_job(job_id)
                    os._exit(0)
                running.add(pid)
            running.discard(os.wait()[0])
        return count / (time.perf_counter() - began)

    def remove(self) -> None:
        shutil.rmtree(self._root)


def _write(path: Path, content: bytes, how: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | how, 0o644)
    os.write(descriptor, content)
    os.fsync(descriptor)
    os.close(descriptor)


def assert_single_threaded() -> None:
    """The floor forks; other threads in this process would spoil its figure."""
    if threading.active_count() != 1:
        raise RuntimeError("the floor is measured in a process with one thread")
