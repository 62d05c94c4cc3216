"""A disk that refuses what a job's process writes itself: it waits for room, and a device that fails ends the task."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path

import pytest
from runner_world import World

from pop_actors.core.messages import Stop
from pop_actors.runner import room

OWN_FILES = ("letter.json", "checkpoint.jsonl", "output.json", "execution-logs.json", "failure-details.json")
TWO_STAGES = """
def ingestion(ctx):
    return {"output": ctx.llm.chat("q").content}

def inference(ctx):
    return {"output": 2}
"""


class Disk:
    """Refuses `times` writes to each file whose name has one of `names`, with `error`; `asked` counts them all."""

    def __init__(self, error: int, times: int, names: tuple[str, ...]) -> None:
        self.error = error
        self.times = times
        self.names = names
        self.asked: Counter[str] = Counter()
        self.refuses = lambda name: None
        self._write = os.write

    def __call__(self, descriptor: int, content: bytes) -> int:
        path = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        name = next((name for name in self.names if name in path), None)
        if name is None:
            return self._write(descriptor, content)
        self.asked[name] += 1
        if self.asked[name] > self.times:
            return self._write(descriptor, content)
        self.refuses(name)
        raise OSError(self.error, os.strerror(self.error), path)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(room, "FIRST_PAUSE_SECONDS", 0.001)
    made = World(tmp_path)
    made.task("a", TWO_STAGES)
    return made


def use(monkeypatch: pytest.MonkeyPatch, disk: Disk) -> Disk:
    monkeypatch.setattr(os, "write", disk)
    return disk


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_refusal_that_passes_is_waited_out(world: World, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """At every file of the process; no stage runs twice, no line stands twice."""
    disk = use(monkeypatch, Disk(error, 1, OWN_FILES))
    world.run()
    assert world.status["state"] == "done"
    assert world.status["tasks"]["a"]["attempts"] == 1
    assert [line["stage"] for line in world.checkpoint("a")] == ["ingestion", "inference"]
    assert len(world.gateway.bought) == 1
    assert disk.asked.keys() == set(OWN_FILES) - {"failure-details.json"}


@pytest.mark.parametrize("name", OWN_FILES[:4])
def test_a_device_that_fails_for_good_ends_the_task_and_not_the_process(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With a reason that says which file; another attempt would buy its calls anew, so there is none."""
    use(monkeypatch, Disk(errno.EIO, 10**6, (name,)))
    world.run()
    (failed,) = world.seen("TaskFailed")
    assert (failed["attempt"], failed["reason"], failed["error"]["name"]) == (1, "exception", "DiskFailed")
    assert name in failed["error"]["message"]
    assert world.status["state"] == "error"
    assert len(world.gateway.bought) <= 1


def test_a_failure_is_told_though_its_papers_cannot_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went wrong first is what is said."""
    world.task("b", "def ingestion(ctx):\n    raise ValueError('the task itself')\n", max_attempts=1)
    use(monkeypatch, Disk(errno.EIO, 10**6, ("failure-details.json",)))
    world.run()
    (failed,) = world.seen("TaskFailed")
    assert failed["error"]["message"] == "the task itself"


def test_a_job_that_waits_for_room_leaves_when_it_is_to_and_goes_on_with_room(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ran and could not be written down runs again; its call is replayed."""
    disk = use(monkeypatch, Disk(errno.ENOSPC, 10**6, ("checkpoint.jsonl",)))
    disk.refuses = lambda name: world.mailbox.put(Stop(suspend=True))
    world.run()
    assert [event["type"] for event in world.events][-1] == "JobSuspended"
    assert world.checkpoint("a") == []
    disk.times = 0
    while not world.mailbox.empty():
        world.mailbox.get()
    world.run()
    assert world.status["state"] == "done"
    assert len(world.gateway.bought) == 1
