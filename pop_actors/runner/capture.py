"""What a job's process prints and logs: routed to the log file of the stage that does it, bounded.

Which stage that is, is a context variable; a thread a task started itself belongs to the only stage at work. Prints of
no stage, of C code and of subprocesses go to files/logs/process.log.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pop_actors.storage import disk
from pop_actors.storage.files import write_all
from pop_actors.storage.process_log import PROCESS_LOG, keep_bounded

LIMIT_BYTES = 10 * 1024 * 1024
PENDING_BYTES = 8192
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class StageLog:
    """One stage's log file, opened with the first byte. Thread-safe through the capture's lock."""

    def __init__(self, path: Path, header: str, lock: threading.RLock, opened: Callable[[str], None]) -> None:
        """`header` is the line an appended part begins with; `opened` is called once, with the file's name."""
        self._path = path
        self._header = header
        self._lock = lock
        self._opened = opened
        self._descriptor = -1
        self._pending = bytearray()
        self._room = LIMIT_BYTES
        self._dropped = 0
        self._is_over = False

    def write(self, content: bytes) -> None:
        """Append; what is over the limit is counted and dropped."""
        with self._lock:
            if self._is_over:
                return
            kept = content[: self._room]
            self._room -= len(kept)
            self._dropped += len(content) - len(kept)
            if kept:
                self._pending += kept
                if b"\n" in kept or len(self._pending) > PENDING_BYTES:
                    self.flush()

    def flush(self) -> None:
        """Hand what is pending to the system. What the disk refuses is counted and dropped: no print fails a stage."""
        with self._lock:
            if not self._pending:
                return
            try:
                if self._descriptor < 0:
                    self._open()
                write_all(self._descriptor, bytes(self._pending))
            except OSError:
                self._dropped += len(self._pending)
            self._pending = bytearray()

    def end(self) -> None:
        """The run is over: what comes from now on is of no stage."""
        with self._lock:
            self.flush()
            self._is_over = True

    def close(self) -> None:
        """The stage is over: say how much was dropped, if anything was."""
        with self._lock:
            if self._dropped and not self._is_over:
                self._pending += f"\n[truncated: {self._dropped} bytes dropped]\n".encode()
            self.flush()
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            self._descriptor = disk.open_file(self._path, flags)
        except FileNotFoundError:
            disk.make_folder(self._path.parent)
            self._descriptor = disk.open_file(self._path, flags)
        if os.fstat(self._descriptor).st_size:
            self._pending[:0] = f"--- {self._header} ---\n".encode()
        self._opened(self._path.name)


class Capture:
    """Routes sys.stdout, sys.stderr and logging of the whole process while installed."""

    def __init__(self, logs: Path) -> None:
        """`logs` is the job's files/logs."""
        self.logs = logs
        self.lock = threading.RLock()
        self._current: ContextVar[StageLog | None] = ContextVar("stage_log", default=None)
        self._at_work: set[StageLog] = set()
        self._is_over = False
        _flush_before_forks(self)

    @contextlib.contextmanager
    def stage(self, task: str, stage: str, header: str, opened: Callable[[str], None]) -> Iterator[None]:
        """What this thread prints and logs in here goes to `{task}-{stage}.log`."""
        log = StageLog(self.logs / f"{task}-{stage}.log", header, self.lock, opened)
        token = self._current.set(log)
        self._at_work.add(log)
        if self._is_over:
            log.end()
        try:
            yield
        finally:
            self._at_work.discard(log)
            self._current.reset(token)
            log.close()

    def route(self) -> StageLog | None:
        """The log of the stage at work here; None where there is none, or more than one it might be."""
        log = self._current.get()
        if log is not None:
            return log
        at_work = list(self._at_work)
        return at_work[0] if len(at_work) == 1 else None

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Take the process's output over; give it back at the end."""
        root = logging.getLogger()
        before = sys.stdout, sys.stderr, root.handlers[:], root.level
        with self._descriptors():
            sys.stdout, sys.stderr = _Printed(self, 1), _Printed(self, 2)
            root.handlers[:] = [self._handler()]
            root.setLevel(min(root.level or logging.INFO, logging.INFO))
            try:
                yield
            finally:
                sys.stdout, sys.stderr, root.handlers[:], level = before
                root.setLevel(level)

    def flush(self) -> None:
        """Hand everything pending to the system."""
        for log in list(self._at_work):
            log.flush()

    def end(self) -> None:
        """The run is over: no stage's log is opened or written any more."""
        self._is_over = True
        for log in list(self._at_work):
            log.end()

    def process_log_is_used(self) -> bool:
        """Whether anything went to process.log."""
        try:
            return (self.logs / PROCESS_LOG).stat().st_size > 0
        except FileNotFoundError:
            return False

    def forget_unused_process_log(self) -> None:
        """Remove process.log where nothing went there, and cut it where too much did."""
        with contextlib.suppress(OSError):  # a full disk; the daemon cuts it as well
            keep_bounded(self.logs)
        if not self.process_log_is_used():
            with contextlib.suppress(FileNotFoundError):
                disk.unlink(self.logs / PROCESS_LOG)

    @staticmethod
    def _handler() -> logging.Handler:
        handler = _Logged()
        handler.setFormatter(logging.Formatter(LOG_FORMAT))
        return handler

    @contextlib.contextmanager
    def _descriptors(self) -> Iterator[None]:
        """File descriptors 1 and 2 lead to process.log, and so does the traceback of a crash in C code."""
        for folder in (self.logs.parent, self.logs):  # not the job's own: where that has left, nothing is to come back
            with contextlib.suppress(FileExistsError):
                disk.mkdir(folder)
        log = disk.open_file(self.logs / PROCESS_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        kept = os.dup(1), os.dup(2)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        armed = not faulthandler.is_enabled()
        if armed:
            faulthandler.enable(2)
        try:
            yield
        finally:
            if armed:
                faulthandler.disable()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])


class _Raw(io.RawIOBase):
    """The bytes side of a routed stream: `sys.stdout.buffer`."""

    def __init__(self, capture: Capture, descriptor: int) -> None:
        self._capture = capture
        self._descriptor = descriptor

    def write(self, content: Any, /) -> int:
        log = self._capture.route()
        content = bytes(content)
        if log is None:
            write_all(self._descriptor, content)
        else:
            log.write(content)
        return len(content)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor


class _Printed(io.TextIOBase):
    """sys.stdout or sys.stderr: text in, the stage's log out."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, capture: Capture, descriptor: int) -> None:
        self._capture = capture
        self._raw = _Raw(capture, descriptor)

    @property
    def buffer(self) -> _Raw:
        return self._raw

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._raw.write(text.encode(errors="backslashreplace"))
        return len(text)

    def flush(self) -> None:
        self._capture.flush()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()


class _Logged(logging.StreamHandler[Any]):
    """Log records go where prints to the present sys.stderr go."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr

    @stream.setter
    def stream(self, stream: Any) -> None:
        raise AttributeError(f"always sys.stderr, never {stream!r}")


def _flush_before_forks(capture: Capture) -> None:
    """A forked copy must neither inherit a held lock nor print again what was pending."""
    known = weakref.ref(capture)

    def before() -> None:
        if (alive := known()) is not None:
            alive.lock.acquire()
            alive.flush()

    def after() -> None:
        if (alive := known()) is not None:
            alive.lock.release()

    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)
