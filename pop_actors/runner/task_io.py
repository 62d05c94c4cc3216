"""`ctx.io`: the files, database and batches of one stage. Names stay inside their folder; a file is indexed once."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import orjson

from pop_actors.runner.batch import run_batch
from pop_actors.runner.clockwork import Deadline
from pop_actors.runner.json_values import InvalidResult, plain
from pop_actors.runner.room import Room
from pop_actors.runner.writes import Writes
from pop_actors.storage import disk
from pop_actors.storage.files import readable_json, replace, write_all
from pop_actors.storage.layout import JobDirectory

if TYPE_CHECKING:
    import sqlite3

DATABASE = "run.db"
DATABASE_WAIT_SECONDS = 60.0
Mode = Literal["replace", "append"]
T = TypeVar("T")
R = TypeVar("R")


class FileIndex:
    """The files one task has written, each announced once, and listed for the checkpoint of the stage that wrote it."""

    def __init__(self, announce: Callable[[str, str], None], writes: Writes | None = None) -> None:
        self._announce = announce
        self._writes = writes or Writes()
        self._known: set[tuple[str, str]] = set()
        self._new: list[list[str]] = []
        self._written: set[tuple[str, str]] = set()

    @contextlib.contextmanager
    def adding(self, kind: str, name: str) -> Iterator[None]:
        """`add` what is written in here. Leaving where the run has ended; it does not end between the two."""
        with self._writes.one():
            yield
            self.add(kind, name)

    def add(self, kind: str, name: str) -> None:
        """A file under files/{kind}/ is being written, perhaps not for the first time."""
        self._written.add((kind, name))
        if (kind, name) not in self._known:
            self._known.add((kind, name))
            self._new.append([kind, name])
            self._announce(kind, name)

    def take(self) -> list[list[str]]:
        """(kind, name) of each file that is new since the last call."""
        new, self._new = self._new, []
        return new

    def written(self) -> set[tuple[str, str]]:
        """(kind, name) of each file that was written since the last call, new or not."""
        written, self._written = self._written, set()
        return written


class TaskIO:
    """One stage's door to the job's files. Thread-safe. What it writes waits where the disk has no room."""

    def __init__(self, job: JobDirectory, task: str, index: FileIndex, deadline: Deadline, room: Room) -> None:
        self._job = job
        self._task = task
        self._index = index
        self._deadline = deadline
        self._room = room
        self._databases: list[sqlite3.Connection] = []

    def write_artifact(self, name: str, content: Any, mode: Mode = "replace") -> Path:
        """Write files/artifacts/{name}; `content` is text, bytes or JSON. ValueError for a name that leaves it."""
        return self._write("artifacts", name, content, mode)

    def write_log(self, name: str, content: Any, mode: Mode = "replace") -> Path:
        """Write files/logs/{name}."""
        return self._write("logs", name, content, mode)

    def write_tmp(self, name: str, content: Any, mode: Mode = "replace") -> Path:
        """Write files/tmp/{name}."""
        return self._write("tmp", name, content, mode)

    def read_artifact(self, name: str, *, binary: bool = False) -> Any:
        """The text (or, `binary`, the bytes) of files/artifacts/{name}. FileNotFoundError where there is none."""
        return self._read("artifacts", name, binary=binary)

    def read_log(self, name: str, *, binary: bool = False) -> Any:
        """The text (or bytes) of files/logs/{name}."""
        return self._read("logs", name, binary=binary)

    def read_tmp(self, name: str, *, binary: bool = False) -> Any:
        """The text (or bytes) of files/tmp/{name}."""
        return self._read("tmp", name, binary=binary)

    def get_task_dir(self) -> Path:
        """The task's own folder, tasks/{task}/."""
        return self._job.task(self._task).path

    def get_db(self) -> sqlite3.Connection:
        """A connection to the job's SQLite database, files/artifacts/run.db. It is committed and closed when the stage
        ends well, rolled back and closed when it does not."""
        import sqlite3  # loads a C library that few tasks use

        path = self._place("artifacts", DATABASE)
        self._room.write(lambda: disk.make_folder(path.parent), self._deadline)
        with self._index.adding("artifacts", DATABASE):
            connection = sqlite3.connect(path, timeout=DATABASE_WAIT_SECONDS, check_same_thread=False)
        self._databases.append(connection)
        return connection

    def run_batch(
        self, items: Sequence[T], fn: Callable[[T], Any], concurrency: int = 4, max_retries: int = 0
    ) -> list[Any]:
        """`fn(item)` for each item, `concurrency` at a time, each tried again up to `max_retries` times.

        The results, in the items' order. `fn` may be async. Where an item fails for good, no further one starts and its
        exception is raised, with a note that says which item it was.
        """
        return run_batch(items, fn, concurrency, max_retries, self._deadline)

    def close(self, *, ok: bool) -> None:
        """The stage is over."""
        while self._databases:
            connection = self._databases.pop()
            with contextlib.closing(connection), contextlib.suppress(connection.ProgrammingError):
                if ok:
                    connection.commit()  # the task may have closed it itself, which is no error

    def _write(self, kind: str, name: str, content: Any, mode: Mode) -> Path:
        if mode not in {"replace", "append"}:
            raise ValueError(f'mode must be "replace" or "append", not {mode!r}')
        path = self._place(kind, name)
        data = _bytes_of(content, lines=mode == "append")
        listed_as = path.relative_to(self._job.files(kind)).as_posix()

        def put() -> None:
            with self._index.adding(kind, listed_as):
                _put(path, data, mode)

        self._room.write(put, self._deadline)
        return path

    def _read(self, kind: str, name: str, *, binary: bool) -> Any:
        content = self._place(kind, name).read_bytes()
        return content if binary else content.decode()

    def _place(self, kind: str, name: str) -> Path:
        return place_inside(self._job.files(kind), name)


def place_inside(folder: Path, name: str) -> Path:
    """The path of a name in a folder. ValueError where it is no name of a file in there, symbolic links included."""
    if not isinstance(name, str):
        raise ValueError(f"a file name is a text, not a {type(name).__name__}")  # noqa: TRY004  (the contract's error)
    parts = name.split("/")
    if "\0" in name or "\\" in name or not name.isprintable() or any(part in {"", ".", ".."} for part in parts):
        raise ValueError(f"{name!r} is no file name inside of files/{folder.name}; use a plain name such as report.md")
    path = folder / name
    base = os.path.realpath(folder)
    if not os.path.realpath(path).startswith(f"{base}/"):
        raise ValueError(f"{name!r} leads out of files/{folder.name} through a symbolic link")
    return path


def _put(path: Path, content: bytes, mode: Mode) -> None:
    put = replace if mode == "replace" else _append
    try:
        put(path, content)
    except FileNotFoundError:
        disk.make_folder(path.parent)
        put(path, content)


def _append(path: Path, content: bytes) -> None:
    """All of it or, where the disk refuses, nothing: what is tried again must not stand there twice. The lock keeps
    other threads' appends out until that is settled."""
    descriptor = disk.open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, content)
        except OSError:
            disk.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def _bytes_of(content: Any, *, lines: bool) -> bytes:
    """Text as UTF-8, bytes as they are, anything else as JSON: indented, or where `lines`, as one line."""
    if isinstance(content, str):
        return content.encode()
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    try:
        value = plain(content, "content")
    except InvalidResult as error:
        raise ValueError(str(error)) from None
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE) if lines else readable_json(value)
