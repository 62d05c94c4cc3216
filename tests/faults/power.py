"""What a power cut leaves on disk, computed from a record of every change (`pop_actors/storage/disk_trace.py`).

The model is the least that POSIX file systems with ordered, atomic changes of names (ext4, XFS, btrfs) give:

- A file's content survives as of its last successful fsync or fdatasync, by whomever. What was written since may be
  there or not: a prefix of the writes, the next one torn, the rest of the length zeros. What was written before a sync
  that failed is not saved by a later one; only what is written after it is.
- A name (created, linked, removed, a folder's own included) survives once its folder was fsynced; syncing a file saves
  no name. A rename is one change: all of it is there or nothing; it is certain once both folders were fsynced. Changes
  of one name survive in their order.
- Nothing that was synced is lost again.

`strict` keeps only what is certain. `lucky` keeps, by a seeded choice, more: either the changes of names up to some
moment, as a journal does, or any of them; and of each file some of what was written since its last sync.
"""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(eq=False)
class File:
    """`saved` is certain. `since` are the (offset, data) written and (length, None) cut since; `doubtful` of them were
    written before a sync that failed."""

    saved: bytes = b""
    since: list[tuple[int, bytes | None]] = field(default_factory=list)
    doubtful: int = 0

    def sync(self) -> None:
        """What is not doubtful is certain now."""
        self.saved = _after(self.saved, self.since[self.doubtful :])
        self.since, self.doubtful = [], 0

    @property
    def content(self) -> bytes:
        """As everybody reads it before the cut."""
        return _after(self.saved, self.since)

    def lucky(self, chance: random.Random) -> bytes:
        """The saved content with some of the changes since."""
        kept = chance.randint(0, len(self.since))
        content = _after(self.saved, self.since[:kept])
        if kept == len(self.since):
            return content
        offset, data = self.since[kept]
        match chance.choice(("lost", "torn", "zeros")):
            case "torn" if data:
                return _after(content, [(offset, data[: chance.randint(0, len(data))])])
            case "zeros":
                return content.ljust(len(self.content), b"\0")
        return content


@dataclass(eq=False)
class Folder:
    """`saved` are the names that are certain, `names` those before the cut."""

    saved: dict[str, Node] = field(default_factory=dict)
    names: dict[str, Node] = field(default_factory=dict)


Node = File | Folder


@dataclass(eq=False)
class Change:
    """Names that change together: (folder, name) -> what it names then; None: nothing. `unsynced` folders of it."""

    parts: list[tuple[Folder, str, Node | None]]
    unsynced: set[int]

    @property
    def names(self) -> set[tuple[int, str]]:
        return {(id(folder), name) for folder, name, _ in self.parts}


class PowerCut:
    """The state of a folder's file system, change by change."""

    def __init__(self, root: Path) -> None:
        """What is under `root` now is certain."""
        self._root = root
        self._files: dict[str, File] = {}
        self._pending: list[Change] = []
        self._top = self._read(root)

    def follow(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Let these lines of a record happen. AssertionError where a change went past the record."""
        for line in lines:
            if line["op"] != "mark" and self._is_inside(line["path"]):
                getattr(self, f"_{line['op'].replace('-', '_')}")(line)

    def strict(self, target: Path) -> None:
        """Make `target` what is certain to survive a cut now."""
        _write(self._top, target, lambda folder: folder.saved, lambda file: file.saved)

    def lucky(self, target: Path, seed: object) -> None:
        """Make `target` one of the things that may survive a cut now."""
        chance = random.Random(repr(seed))
        names = self._some_names(chance)
        _write(self._top, target, lambda folder: names.get(id(folder), folder.saved), lambda file: file.lucky(chance))

    def before(self, target: Path) -> None:
        """Make `target` what everybody sees before the cut."""
        _write(self._top, target, lambda folder: folder.names, lambda file: file.content)

    # The lines

    def _create(self, line: Mapping[str, Any]) -> None:
        self._files[line["file"]] = file = File()
        self._rename_parts((line["path"], file))

    def _mkdir(self, line: Mapping[str, Any]) -> None:
        self._rename_parts((line["path"], Folder()))

    def _unlink(self, line: Mapping[str, Any]) -> None:
        self._rename_parts((line["path"], None))

    _rmdir = _unlink

    def _link(self, line: Mapping[str, Any]) -> None:
        self._rename_parts((line["target"], self._at(line["path"])))

    def _rename(self, line: Mapping[str, Any]) -> None:
        self._rename_parts((line["path"], None), (line["target"], self._at(line["path"])))

    def _write(self, line: Mapping[str, Any]) -> None:
        self._files[line["file"]].since.append((line["offset"], base64.b64decode(line["data"])))

    def _truncate(self, line: Mapping[str, Any]) -> None:
        self._files[line["file"]].since.append((line["length"], None))

    def _sync(self, line: Mapping[str, Any]) -> None:
        file = self._files[line["file"]]
        if line["ok"]:
            file.sync()
        else:
            file.doubtful = len(file.since)

    def _sync_folder(self, line: Mapping[str, Any]) -> None:
        folder = self._at(line["path"])
        assert isinstance(folder, Folder)
        if line["ok"]:
            for change in self._pending:
                change.unsynced.discard(id(folder))
            self._save()

    def _save(self) -> None:
        """Changes all of whose folders are synced are certain, and with them what came before to the same names."""
        certain: set[tuple[int, str]] = set()
        saved = []
        for change in reversed(self._pending):
            if not change.unsynced or change.names & certain:
                certain |= change.names
                saved.append(change)
        for change in reversed(saved):
            for folder, name, node in change.parts:
                _set(folder.saved, name, node)
        self._pending = [change for change in self._pending if change not in saved]

    def _rename_parts(self, *parts: tuple[str, Node | None]) -> None:
        placed = []
        for path, node in parts:
            folder, name = self._at(os.path.dirname(path)), os.path.basename(path)
            assert isinstance(folder, Folder), path
            _set(folder.names, name, node)
            placed.append((folder, name, node))
        self._pending.append(Change(placed, {id(folder) for folder, _, _ in placed}))

    def _some_names(self, chance: random.Random) -> dict[int, dict[str, Node]]:
        """The names in each folder that has other than the certain ones."""
        kept = self._pending[: chance.randint(0, len(self._pending))]
        if chance.random() < 0.5:
            kept = self._scattered(chance)
        names: dict[int, dict[str, Node]] = {}
        for change in kept:
            for folder, name, node in change.parts:
                _set(names.setdefault(id(folder), dict(folder.saved)), name, node)
        return names

    def _scattered(self, chance: random.Random) -> list[Change]:
        kept, lost = [], set[tuple[int, str]]()
        for change in self._pending:
            if change.names & lost or chance.random() < 0.5:
                lost |= change.names
            else:
                kept.append(change)
        return kept

    # The tree

    def _read(self, path: Path) -> Folder:
        names: dict[str, Node] = {}
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                names[entry.name] = self._read(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                facts = entry.stat()
                identity = f"{facts.st_dev}:{facts.st_ino}"
                names[entry.name] = self._files.setdefault(identity, File(Path(entry.path).read_bytes()))
        return Folder(dict(names), dict(names))

    def _is_inside(self, path: str) -> bool:
        return path.startswith(f"{self._root}/") or path == str(self._root)

    def _at(self, path: str) -> Node:
        node: Node = self._top
        for name in Path(path).relative_to(self._root).parts:
            assert isinstance(node, Folder), path
            assert name in node.names, f"{path} was made past the record"
            node = node.names[name]
        return node


def _after(content: bytes, changes: Iterable[tuple[int, bytes | None]]) -> bytes:
    whole = bytearray(content)
    for offset, data in changes:
        if data is None:
            del whole[offset:]
            data = b""  # noqa: PLW2901  (a cut beyond the end makes it longer)
        whole.extend(b"\0" * (offset - len(whole)))
        whole[offset : offset + len(data)] = data
    return bytes(whole)


def _set(names: dict[str, Node], name: str, node: Node | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _write(top: Folder, target: Path, names_of: Any, content_of: Any) -> None:
    """Hard links stay what they are: one file with two names."""
    written: dict[int, Path] = {}

    def write(node: Node, path: Path) -> None:
        if isinstance(node, Folder):
            path.mkdir()
            for name, inner in names_of(node).items():
                write(inner, path / name)
        elif id(node) in written:
            path.hardlink_to(written[id(node)])
        else:
            path.write_bytes(content_of(node))
            written[id(node)] = path

    write(top, target)
