"""What a task's end puts on disk before anybody hears of it, and what it does not pay for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from runner_world import World


class Syncs:
    """The path of everything that was synced, in order; with `refuse`, one that fails."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.done: list[str] = []
        self.refuse = ""

    def __call__(self, descriptor: int) -> None:
        path = os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), self._root)
        path = re.sub(r"\.[a-z-]*tmp-\d+$", "", path)
        if self.refuse == path:
            raise OSError(5, "Input/output error", path)
        self.done.append(path)

    def note_lines(self, log: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note LINE for each write to that file."""
        write = os.write

        def noted(descriptor: int, content: Any) -> int:
            if os.readlink(f"/proc/self/fd/{descriptor}") == str(self._root / log):
                self.done.append("LINE")
            return write(descriptor, content)

        monkeypatch.setattr(os, "write", noted)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def syncs(world: World, monkeypatch: pytest.MonkeyPatch) -> Syncs:
    made = Syncs(world.directory.path)
    monkeypatch.setattr(os, "fsync", made)
    monkeypatch.setattr(os, "fdatasync", made)
    return made


def test_output_and_artifacts_are_on_disk_before_the_task_is_done(world: World, syncs: Syncs) -> None:
    """The files, SQLite's as well, and every folder that leads to them; of all attempts and stages."""
    world.task(
        "a",
        """
        def ingestion(ctx):
            ctx.io.write_artifact("deep/er/report.md", "x")
            ctx.io.write_log("a.log", "x")
            ctx.io.write_tmp("scratch", "x")
            if ctx.meta.attempt == 1:
                ctx.io.write_artifact("early.md", "x")
                raise ValueError("once more")
            return {"output": 1}

        def inference(ctx):
            ctx.io.get_db().execute("create table t (x)")
            ctx.io.write_artifact("gone.md", "x").unlink()
            return {"output": 2}
        """,
        max_attempts=2,
    )
    world.task("b", "def ingestion(ctx):\n    return {'output': 1}\n")
    before: list[set[str]] = []
    world.status_writer.watch = lambda event: before.append(set(syncs.done)) if event.type == "TaskDone" else None
    world.run()
    artifacts = "files/artifacts"
    assert before[0] >= {
        "tasks/a/output.json", "tasks/a", ".", "files", artifacts, f"{artifacts}/deep", f"{artifacts}/deep/er",
        f"{artifacts}/deep/er/report.md", f"{artifacts}/early.md", f"{artifacts}/run.db",
    }  # fmt: skip
    assert not {path for path in syncs.done if path.startswith("files/logs")}


def test_what_a_stage_wrote_is_on_disk_before_its_line_is(
    world: World, syncs: Syncs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line of the checkpoint that outlives a power cut keeps its stage from running again: so by then its artifacts
    are on disk, what later stages read from files/tmp, a file that is written once more, and a control.json."""
    world.task(
        "a",
        """
        def ingestion(ctx):
            ctx.io.write_artifact("report.md", "first")
            ctx.io.write_tmp("deep/draft", "x")
            return {"output": 1}

        def inference(ctx):
            ctx.io.write_artifact("report.md", "second")
            return {"output": 2}

        def parsing(ctx):
            return {"output": 3}

        def integration(ctx):
            (ctx.io.get_task_dir() / "control.json").write_text('{"skip": []}')
            return {"output": 4}
        """,
    )
    syncs.note_lines("tasks/a/checkpoint.jsonl", monkeypatch)
    world.run()
    *stages, _ = " ".join(syncs.done).split("LINE")
    assert [set(stage.split()) for stage in stages] == [
        {f"files/{name}" for name in ("artifacts/report.md", "artifacts", "tmp/deep/draft", "tmp/deep", "tmp")}
        | {"files", "."},
        {"files/artifacts/report.md", "files/artifacts"},
        set(),
        {"tasks/a/control.json", "tasks/a", "tasks", "."},
    ]  # fmt: skip


def test_a_task_without_artifacts_pays_for_its_output_only(world: World, syncs: Syncs) -> None:
    """One file and its folder."""
    world.task("a", "def ingestion(ctx):\n    return {'output': 1}\n")
    world.run()
    assert syncs.done == ["tasks/a/output.json", "tasks/a"]


def test_an_artifact_the_device_loses_fails_its_task(world: World, syncs: Syncs) -> None:
    """What a sync refused once may be gone although the next one succeeds, so it is not tried again; nor is the task,
    which would buy its calls anew."""
    syncs.refuse = "files/artifacts/report.md"
    source = "def ingestion(ctx):\n    ctx.io.write_artifact('report.md', 'x')\n    return {'output': 1}\n"
    world.task("a", source, max_attempts=3)
    world.run()
    (failed,) = world.seen("TaskFailed")
    assert (failed["attempt"], failed["reason"], failed["error"]["name"]) == (1, "exception", "DiskFailed")
    assert "report.md could not be written: Input/output error" in failed["error"]["message"]
    assert world.status["state"] == "error"
