"""The watcher on a real folder with the real kernel's events: every seed is found, once, whatever happened to it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scheduler_world import SOON, Recorder
from watchdog.observers import Observer
from watchdog.observers.inotify import InotifyObserver

from pop_actors.actors import Ping, Registry, Timers
from pop_actors.config import load
from pop_actors.core import observations as seen
from pop_actors.storage.catalogue import Catalogue
from pop_actors.system import messages as m
from pop_actors.system.watcher import Watcher
from support import daemon
from support.daemon import wait_until

SETTLE_SECONDS = 0.2


class NoWatchLeft(InotifyObserver):
    """What watchdog does where the kernel has no watch left."""

    def start(self) -> None:
        raise OSError(28, "inotify watch limit reached")


def no_instance_left() -> InotifyObserver:
    """The same where it has no instance left."""
    raise OSError(24, "inotify instance limit reached")


class World:
    """Use it as a context."""

    def __init__(self, root: Path, observe: Callable[[], Any] = Observer) -> None:
        self._files = daemon.Workspace(root)
        self._files.add_noop_pipeline()
        self._settings = load(root, None, {"PO_JOBS__SETTLE_SECONDS": str(SETTLE_SECONDS)})
        self.workspace = self._settings.workspace
        for folder in self.workspace.folders:
            folder.mkdir(parents=True, exist_ok=True)
        self._observe = observe
        self.registry = Registry()
        self.timers = Timers()
        self.scheduler, self.writer = Recorder(), Recorder()
        self.registry.register(m.SCHEDULER, self.scheduler)
        self.registry.register(m.STATUS_WRITER, self.writer)
        self.on_seen: Callable[[], object] = lambda: None
        self.ignored: list[str] = []
        self.read: list[str] = []

    def _note(self, observation: seen.Observation) -> None:
        if isinstance(observation, seen.SeedIgnored):
            self.ignored.append(observation.name)
        elif isinstance(observation, seen.SeedSeen):
            self.read.append(observation.job_id)
            self.on_seen()

    def __enter__(self) -> World:
        self.watcher = Watcher.start_and_wait(
            m.WATCHER,
            self.registry,
            workspace=self.workspace,
            settings=self._settings.jobs,
            default_mode="production",
            catalogue=Catalogue(self.workspace),
            feed=seen.Feed(self._note),
            timers=self.timers,
            scheduler=self.registry.ref(m.SCHEDULER),
            status_writer=self.registry.ref(m.STATUS_WRITER),
            observe=self._observe,
        )
        self.registry.ref(m.WATCHER).ask(Ping(), SOON)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.watcher.stop_and_wait(SOON)
        self.timers.stop()

    def drop(self, job_id: str, seed: Any = None) -> None:
        self._files.drop(job_id, seed)

    def path(self, job_id: str) -> Path:
        return self.workspace.seed(job_id)

    def found(self) -> m.SeedFound:
        """The next seed the scheduler was told of, alone or first of several."""
        message = self.scheduler.sent.get(timeout=SOON)[0]
        return message.seeds[0] if isinstance(message, m.SeedsFound) else message

    def turned_down(self) -> m.TurnDown:
        message: m.TurnDown = self.writer.sent.get(timeout=SOON)[0]
        return message


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path) as world:
        yield world


def test_a_seed_renamed_into_the_folder_is_found_with_what_it_says(world: World) -> None:
    """Name, priority, dependencies and the file as it was read, without its content."""
    world.drop("a", {"data": {}, "name": "A", "priority": 3, "dependsOn": ["b"], "conflicts": ["x"], "skip": ["one"]})
    seed = world.found()
    assert (seed.job_id, seed.name, seed.priority, seed.mode) == ("a", "A", 3, "production")
    assert (seed.depends_on, seed.conflicts, seed.skip) == (("b",), ("x",), ("one",))
    assert (seed.file.inode, seed.file.content) == (world.path("a").stat().st_ino, b"")


def test_a_seed_written_in_place_is_found(world: World) -> None:
    """As an editor or `cp` does it."""
    world.path("a").write_bytes(b'{"data": {}}')
    assert world.found().job_id == "a"
    assert world.writer.take() == []


def test_seeds_that_lay_there_before_the_start_are_found_together(tmp_path: Path) -> None:
    """So that they are ranked before one of them is claimed."""
    world = World(tmp_path)
    for number in range(3):
        world.drop(f"s{number}")
    with world:
        message = world.scheduler.sent.get(timeout=SOON)[0]
        assert sorted(seed.job_id for seed in message.seeds) == ["s0", "s1", "s2"]


def test_a_half_written_seed_waits_until_it_parses(world: World) -> None:
    """It is neither found nor turned down before."""
    whole = json.dumps({"data": {"key": "value" * 100}}).encode()
    with world.path("a").open("wb", buffering=0) as file:
        for place in range(0, len(whole), 64):
            file.write(whole[place : place + 64])
            world.watcher.tell(m.LookAgain("a"))
    wait_until(lambda: world.found().file.size == len(whole), SOON, "the whole of it")  # it may be read as it grows
    assert world.writer.take() == []


def test_a_seed_that_stays_half_written_is_turned_down(world: World) -> None:
    """Once it has been still for the settle time."""
    world.path("a").write_bytes(b'{"data": ')
    down = world.turned_down()
    assert (down.job_id, down.reason) == ("a", "invalid_json")
    assert world.scheduler.take() == []


def test_a_half_written_seed_that_goes_away_leaves_nothing(world: World) -> None:
    """Neither a rejection nor an entry that is kept for months."""
    world.path("a").write_bytes(b'{"data": ')
    wait_until(lambda: "a-seed.json" in world.watcher._unsettled, SOON, "it to be seen")
    world.path("a").unlink()
    wait_until(lambda: not world.watcher._unsettled, SOON, "it to be forgotten")
    assert world.writer.take() == []


TURNED_DOWN = {
    "invalid_seed": b'{"data": 1}',
    "too_large": b'{"data": {"x": "' + b"x" * 1_048_576 + b'"}}',
    "unknown_pipeline": b'{"data": {}, "pipeline": "none"}',
}


@pytest.mark.parametrize("reason", TURNED_DOWN)
def test_what_cannot_be_a_job_is_turned_down_at_once(world: World, reason: str) -> None:
    """With the contract's reason, and once: the file is not read again while it is the same."""
    world.drop("a", TURNED_DOWN[reason])
    assert world.turned_down().reason == reason
    world.drop("b")
    assert world.found().job_id == "b"
    assert world.writer.take() == []


def test_a_second_seed_of_a_job_is_a_duplicate(world: World) -> None:
    """Whether the job is in current/ or in complete/."""
    for place in (world.workspace.current, world.workspace.complete):
        (place / f"in-{place.name}").mkdir()
        world.drop(f"in-{place.name}")
        assert world.turned_down().reason == "duplicate_job"


def test_what_is_no_seed_is_told_once_and_left_alone(world: World) -> None:
    """Other names, folders and symlinks; a real seed beside them is found."""
    pending = world.workspace.pending
    (pending / "notes.txt").write_bytes(b"{}")
    (pending / "folder-seed.json").mkdir()
    (pending / "link-seed.json").symlink_to(pending / "notes.txt")
    for _ in range(3):
        world.watcher.tell(m.LookAgain(None))
    world.drop("real")
    assert world.found().job_id == "real"
    assert sorted(world.ignored) == ["folder-seed.json", "link-seed.json", "notes.txt"]
    assert sorted(os.listdir(pending)) == ["folder-seed.json", "link-seed.json", "notes.txt", "real-seed.json"]


def test_a_seed_that_is_removed_or_changed_is_told(world: World) -> None:
    """Gone: the scheduler forgets it. Changed: it is read again."""
    world.drop("a")
    first = world.found()
    world.drop("a", {"data": {}, "priority": 7})
    assert (world.found().priority, first.priority) == (7, 0)
    world.path("a").unlink()
    assert world.scheduler.sent.get(timeout=SOON)[0] == m.SeedGone("a")


def test_a_folder_made_again_is_watched_again(world: World) -> None:
    """What lies in it then is found at the next look, what comes after at once."""
    world.drop("before")
    assert world.found().job_id == "before"
    world.path("before").unlink()
    world.workspace.pending.rmdir()
    assert world.scheduler.sent.get(timeout=SOON)[0] == m.SeedGone("before")
    world.drop("after")
    assert world.found().job_id == "after"
    wait_until(lambda: world.watcher.snapshot()["watching"] == "inotify", SOON, "the watch")


@pytest.mark.parametrize("without", [NoWatchLeft, no_instance_left])
def test_without_inotify_the_folder_is_read_now_and_then(tmp_path: Path, without: Callable[[], Any]) -> None:
    """And says so; no try costs a descriptor."""
    tries: list[int] = []

    def observe() -> Any:
        tries.append(len(os.listdir("/proc/self/fd")))
        return without()

    with World(tmp_path, observe) as world:
        assert world.watcher.snapshot()["watching"] == "polling"
        world.drop("a")
        assert world.found().job_id == "a"
        world.path("a").unlink()
        assert world.scheduler.sent.get(timeout=SOON)[0] == m.SeedGone("a")
        wait_until(lambda: len(tries) >= 3, SOON, "more looks")
    assert tries[-1] <= tries[1]


def test_two_thousand_at_once_are_all_found_once(world: World) -> None:
    """Dropped by several hands while it looks; none is missed, and none is told twice."""
    wanted = {f"s{number}" for number in range(2000)}

    def hand(share: int) -> None:
        for number in range(share, 2000, 4):
            world.drop(f"s{number}")

    hands = [threading.Thread(target=hand, args=(share,)) for share in range(4)]
    for one in hands:
        one.start()
    found: list[str] = []
    while len(found) < 2000:
        message = world.scheduler.sent.get(timeout=SOON)[0]
        found += [seed.job_id for seed in message.seeds] if isinstance(message, m.SeedsFound) else [message.job_id]
    for one in hands:
        one.join()
    world.watcher.tell(m.LookAgain("s0"))
    assert world.found().job_id == "s0"
    assert len(found) == 2000
    assert set(found) == wanted
    assert world.scheduler.take() == []


def test_a_storm_of_events_is_bounded_and_loses_no_seed_and_no_order(world: World) -> None:
    """While the watcher is busy its hints make room for newer ones; what it is told by others stays, and the next scan
    finds what the lost hints were about."""
    gate, is_busy = threading.Event(), threading.Event()
    world.on_seen = lambda: is_busy.set() or gate.wait(SOON)
    world.drop("first")
    assert is_busy.wait(SOON)
    world.drop("hidden")
    for _ in range(3):
        world.watcher.tell(m.LookAgain("told"))
    for number in range(2 * Watcher.mailbox_limit):
        world.watcher._hint(f"storm-{number}")
    assert world.watcher.depth() <= Watcher.mailbox_limit + 1  # and perhaps its own tick
    assert world.registry.undelivered.dropped()[m.WATCHER] >= Watcher.mailbox_limit
    gate.set()
    assert {world.found().job_id, world.found().job_id} == {"first", "hidden"}
