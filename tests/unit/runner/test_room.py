"""Writes wait for room, their stage's time stands still, and a device that fails is not waited for."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pop_actors.runner import room as room_module
from pop_actors.runner.clockwork import Clockwork, Deadline, StageTimeout
from pop_actors.runner.room import TRIES_IN_TROUBLE, Leaving, Room, Wait
from pop_actors.runner.task_io import FileIndex, TaskIO
from pop_actors.storage import disk
from pop_actors.storage.layout import JobDirectory
from support.daemon import wait_until

SOON = 10.0


class Disk:
    """Refuses the next `refusals` writes with `error`; half of the first is written, as a disk that fills up does."""

    def __init__(self, error: int, refusals: int) -> None:
        self.error = error
        self.refusals = refusals
        self.asked = 0

    def __call__(self, act: Callable[..., object], *arguments: object, **options: object) -> object:
        if act is not os.write:
            return act(*arguments, **options)
        self.asked += 1
        if self.asked > self.refusals:
            return act(*arguments, **options)
        descriptor, content = arguments
        assert isinstance(content, memoryview)
        if self.asked == 1 and len(content) > 1:
            self.refusals += 1
            return act(descriptor, content[: len(content) // 2])
        raise OSError(self.error, os.strerror(self.error))


@pytest.fixture(autouse=True)
def nothing_taps_afterwards() -> Iterator[None]:
    yield
    disk.tap(None)


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    made = Clockwork()
    yield made
    made.stop()


def io_of(folder: Path, deadline: Deadline, room: Room) -> TaskIO:
    return TaskIO(JobDirectory(folder), "t", FileIndex(lambda kind, name: None), deadline, room)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("mode", ["replace", "append"])
def test_a_write_without_room_is_tried_again_and_stands_there_once(
    tmp_path: Path, clockwork: Clockwork, error: int, mode: str
) -> None:
    """Whatever part of it had been written is gone."""
    io = io_of(tmp_path, Deadline(clockwork, 60), Room(threading.Event()))
    io.write_artifact("a.txt", "before ", mode="append")
    disk.tap(Disk(error, 2))
    io.write_artifact("a.txt", "after", mode=mode)  # type: ignore[arg-type]
    assert io.read_artifact("a.txt") == ("before after" if mode == "append" else "after")


def test_a_device_that_fails_is_tried_a_few_times(tmp_path: Path, clockwork: Clockwork) -> None:
    """Then the error is the writer's."""
    room = Room(threading.Event())
    refusing = Disk(errno.EIO, 10**6)
    disk.tap(refusing)
    with pytest.raises(OSError, match="Input/output error"):
        io_of(tmp_path, Deadline(clockwork, 60), room).write_tmp("a", "x")
    assert refusing.asked == TRIES_IN_TROUBLE


def test_an_error_of_another_kind_is_raised_at_once() -> None:
    """It is no matter of the disk."""
    tries = []

    def forbidden() -> None:
        tries.append(1)
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        Room(threading.Event()).write(forbidden)
    assert tries == [1]


def test_the_time_of_a_stage_stands_still_while_it_waits(tmp_path: Path, clockwork: Clockwork) -> None:
    """A stage of a tenth of a second outlives a wait several times as long, and is interrupted when it spins after."""
    told: list[str] = []
    room = Room(threading.Event(), lambda: told.append("held"), lambda seconds: told.append("released"))
    deadline = Deadline(clockwork, 0.1)
    io = io_of(tmp_path, deadline, room)
    disk.tap(Disk(errno.ENOSPC, 4))
    written = threading.Event()

    def stage() -> None:
        io.write_tmp("a", "x")
        written.set()
        while True:
            pass

    with pytest.raises(StageTimeout):
        deadline.guard(stage)
    assert written.is_set()
    assert told == ["held", "released"]


def test_who_waits_leaves_when_the_service_stops() -> None:
    """At once, with what no task swallows by accident."""
    leaving = threading.Event()
    room = Room(leaving)
    caught: list[BaseException] = []
    waits = threading.Event()

    def full() -> None:
        waits.set()
        raise OSError(errno.ENOSPC, "no room")

    def write() -> None:
        try:
            room.write(full)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    assert waits.wait(SOON)
    leaving.set()
    thread.join(SOON)
    assert [type(error) for error in caught] == [Leaving]
    assert not isinstance(caught[0], Exception)


def test_many_who_wait_are_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first long wait is told, and the end of the last."""
    monkeypatch.setattr(room_module, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(room_module, "TOLD_AFTER_SECONDS", 0.02)
    told: list[str] = []
    room = Room(threading.Event(), lambda: told.append("held"), lambda seconds: told.append("released"))
    waits = [Wait(room, None) for _ in range(3)]
    for wait in waits:
        for _ in range(3):
            wait.pause()
    assert told == ["held"]
    for wait in waits:
        wait.end()
        wait.end()
    assert told == ["held", "released"]


def test_threads_that_hold_a_deadline_together_stop_it_once(clockwork: Clockwork) -> None:
    """It goes on when the last of them lets go, with what was left."""
    deadline = Deadline(clockwork, 1000)
    with deadline.held():
        with deadline.held():
            before = deadline.remaining
        wait_until(lambda: deadline.moment > before, SOON)
        assert deadline.remaining == pytest.approx(before)
    assert deadline.remaining <= before
