"""The code of a run as it is on disk: a digest of each Python file its tasks are in, or can import from beside them.

Asked by the scheduler for a run's first start, by a job's process for every later one. Reads files; imports none.
"""

from __future__ import annotations

import ast
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from pop_actors.core.events import Code

FRESH_NS = 50_000_000
"""A file changed twice within one tick of the kernel's clock may look unchanged: what is this fresh is not kept."""
MOST_ENTRIES = 1_000
"""A folder with more is not looked through: then only the tasks' own files count."""
MOST_KEPT = 10_000
DIGITS = 16
PIPELINE = "pipeline.json"
PACKAGE = "__init__.py"

_Signature = tuple[int, int, int]


class CodeReader:
    """Reads digests; those of files that stay the same cost a stat. Not thread-safe."""

    def __init__(self, root: Path | str) -> None:
        """Files below `root` are named relative to it."""
        self._root = f"{root}{os.sep}"
        self._kept: dict[str, tuple[_Signature, str]] = {}

    def read(self, modules: Mapping[str, str], pipeline: bytes | Path) -> Code:
        """The code of these tasks: `modules` gives the absolute path of each one's file. `pipeline` is the run's own
        pipeline.json or its content; the one of the registry counts for later runs only."""
        own = self._digest_of(str(pipeline)) if isinstance(pipeline, Path) else _digest(pipeline)
        paths = dict.fromkeys([*modules.values(), *_beside(modules.values())])
        digests = {PIPELINE: own} | {self.name(path): self._digest_of(path) for path in paths}
        files = {name: digest for name, digest in digests.items() if digest is not None}
        return Code(files=files, modules={task: self.name(path) for task, path in modules.items()})

    def reach(self, name: str) -> frozenset[str]:
        """The files beside it that the code in this file imports, directly or not, by what their source says."""
        start = os.path.join(self._root, name)
        folder = os.path.dirname(start)
        found: set[str] = set()
        open_ = [start]
        while open_:
            path = open_.pop()
            new = [target for target in _imports(path, folder) if target not in found]
            found.update(new)
            open_ += new
        return frozenset(map(self.name, found))

    def name(self, path: str) -> str:
        """How a file is named in logs."""
        return path.removeprefix(self._root)

    def _digest_of(self, path: str) -> str | None:
        try:
            facts = os.stat(path)
            signature = facts.st_mtime_ns, facts.st_size, facts.st_ino
            kept = self._kept.get(path)
            if kept is not None and kept[0] == signature:
                return kept[1]
            with open(path, "rb") as file:
                digest = _digest(file.read())
        except OSError:
            return None
        if time.time_ns() - facts.st_mtime_ns > FRESH_NS:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[path] = signature, digest
        return digest


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:DIGITS]


def _beside(files: Iterable[str]) -> list[str]:
    """Every Python file in the folders of these, and in the packages there."""
    found: list[str] = []
    for folder in dict.fromkeys(map(os.path.dirname, files)):
        beside = _python_files(folder)
        if beside is not None:
            found += beside
    return found


def _python_files(folder: str) -> list[str] | None:
    """Sorted; None where there are too many entries to look through."""
    found: list[str] = []
    seen = 0
    open_ = [folder]
    while open_:
        for entry in _entries(open_.pop()):
            seen += 1
            if seen > MOST_ENTRIES:
                return None
            if entry.name.endswith(".py"):
                found.append(entry.path)
            elif "." not in entry.name and entry.is_dir() and os.path.isfile(os.path.join(entry.path, PACKAGE)):
                open_.append(entry.path)
    return sorted(found)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def _imports(path: str, folder: str) -> Iterator[str]:
    """The files that this one's import statements can mean, of those that are there."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Import):
            for alias in statement.names:
                yield from _files_of(folder, alias.name.split("."))
        elif isinstance(statement, ast.ImportFrom):
            base = folder
            if statement.level:
                base = os.path.normpath(os.path.join(os.path.dirname(path), *[os.pardir] * (statement.level - 1)))
            parts = statement.module.split(".") if statement.module else []
            for alias in statement.names:
                yield from _files_of(base, [*parts, alias.name])


def _files_of(base: str, parts: list[str]) -> Iterator[str]:
    """The files that importing `a.b.c` runs below `base`: each package's own, and the module's."""
    place = base
    for part in parts:
        place = os.path.join(place, part)
        for path in (f"{place}.py", os.path.join(place, PACKAGE)):
            if os.path.isfile(path):
                yield path
