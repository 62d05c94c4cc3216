"""What the status writer confirms, and what it lets leave current/, is on disk, whoever wrote it down."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from writer_world import SOON, World, stage, started

from pop_actors.storage import disk
from pop_actors.system import messages as m
from support.daemon import wait_until

DONE = (1, 3, "JobDone", {})


class Journal:
    """Every change of the disk, as (what, path), in order."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []

    def __call__(self, act: Any, *arguments: Any, **options: Any) -> Any:
        what = arguments[0]
        path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else str(what)
        made = act(*arguments, **options)
        self.changes.append((act.__name__, path))
        return made

    def syncs_of(self, name: str) -> int:
        return sum(what in {"fsync", "fdatasync"} and path.endswith(name) for what, path in self.changes)

    def position(self, what: str, name: str) -> int:
        """Of the last such change."""
        return max(at for at, change in enumerate(self.changes) if change[0] == what and change[1].endswith(name))


@pytest.fixture
def journal() -> Iterator[Journal]:
    made = Journal()
    yield made
    disk.tap(None)


def test_lines_of_a_status_writer_that_died_are_synced_before_they_are_confirmed(
    tmp_path: Path, journal: Journal
) -> None:
    """Its successor reads them from the log, which says nothing of the disk: asked for them again, it syncs."""
    with World(tmp_path) as world:
        world.claim("job-1")
        world.tell("job-1", started(), stage(2))
        wait_until(lambda: len(world.log("job-1")) == 3, SOON, "the lines")
        world.writer.stop_and_wait(SOON)
        world.start()
        disk.tap(journal)
        world.ask("job-1", stage(2)).result(SOON)
        assert journal.syncs_of("job-1/events.jsonl") == 1
        world.ask("job-1", stage(2)).result(SOON)
        assert journal.syncs_of("job-1/events.jsonl") == 1


def test_a_run_whose_end_was_told_and_not_asked_leaves_with_its_log_on_disk(tmp_path: Path, journal: Journal) -> None:
    """Whoever reports beside the run's end may have sent that along."""
    with World(tmp_path) as world:
        world.claim("job-1")
        disk.tap(journal)
        world.tell("job-1", started(), stage(2), DONE)
        assert world.heard() == m.JobDeparted("job-1")
        assert journal.position("fdatasync", "job-1/events.jsonl") < journal.position("rename", "current/job-1")


def test_a_run_found_over_at_a_start_leaves_with_its_log_on_disk(tmp_path: Path, journal: Journal) -> None:
    """Its last line may be of a daemon that was killed before it could sync it."""
    with World(tmp_path) as world:
        world.claim("job-1")
        log = world.workspace.job("job-1").events
    lines = [
        '{"type":"JobStarted","at":"2026-11-21T10:00:00.000Z","epoch":1,"seq":1,"pid":1}\n',
        '{"type":"JobDone","at":"2026-11-21T10:00:01.000Z","epoch":1,"seq":2}\n',
    ]
    with log.open("a") as file:
        file.writelines(lines)
    disk.tap(journal)
    with world:
        assert journal.position("fsync", "job-1/events.jsonl") < journal.position("rename", "current/job-1")
