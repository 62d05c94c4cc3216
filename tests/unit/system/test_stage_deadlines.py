"""When the daemon would end a process for a stage: by its timeout, and never for a time it was held."""

from __future__ import annotations

import pytest

from pop_actors.core import events as e
from pop_actors.core.observations import JobChanged
from pop_actors.system import stage_deadlines
from pop_actors.system.stage_deadlines import GRACE_SECONDS, StageDeadlines

AT = "2026-01-01T00:00:00.000Z"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Bench:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.deadlines = StageDeadlines()

    def hear(self, event: e.Event) -> None:
        self.deadlines.on_observation(JobChanged("j", event, {}))

    def start(self, task: str = "a", timeout: float = 10.0) -> None:
        self.hear(e.StageStarted(at=AT, task=task, stage="parsing", timeout=timeout))

    def overdue_after(self, seconds: float) -> list[str]:
        self.clock.now += seconds
        return [job_id for job_id, _ in self.deadlines.passed(self.clock.now)]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    clock = Clock()
    monkeypatch.setattr(stage_deadlines, "time", clock)
    return Bench(clock)


def test_a_stage_is_overdue_a_grace_after_its_timeout(bench: Bench) -> None:
    """Not before; and its task is known."""
    bench.start(timeout=10)
    assert bench.overdue_after(10) == []
    assert bench.deadlines.overdue_task("j") == ""
    assert bench.overdue_after(GRACE_SECONDS + 0.1) == ["j"]
    assert bench.deadlines.overdue_task("j") == "a"


def test_a_held_task_is_never_overdue_and_goes_on_with_what_was_left(bench: Bench) -> None:
    """Other tasks of the job keep their time."""
    bench.start("a", timeout=10)
    bench.start("b", timeout=500)
    bench.clock.now += 4
    bench.hear(e.TaskHeld(at=AT, task="a"))
    assert bench.overdue_after(100) == []
    bench.hear(e.TaskReleased(at=AT, task="a", seconds=100.0))
    assert bench.overdue_after(6) == []
    assert bench.overdue_after(GRACE_SECONDS + 0.1) == ["j"]
    assert bench.deadlines.overdue_task("j") == "a"


@pytest.mark.parametrize(
    "end",
    [
        e.StageFinished(at=AT, task="a", stage="parsing"),
        e.TaskDone(at=AT, task="a", attempt=1, execution_time=1.0),
        e.JobSuspended(at=AT),
    ],
    ids=lambda event: event.type,
)
def test_what_is_over_is_forgotten(bench: Bench, end: e.Event) -> None:
    """A job that leaves in the middle of a stage, too."""
    bench.start()
    bench.hear(end)
    assert bench.overdue_after(100) == []


def test_the_next_process_of_a_job_begins_afresh(bench: Bench) -> None:
    """What the one before was held for is no matter of it."""
    bench.start()
    bench.hear(e.TaskHeld(at=AT, task="a"))
    bench.deadlines.forget("j")
    bench.start(timeout=1)
    assert bench.overdue_after(GRACE_SECONDS + 1.1) == ["j"]


@pytest.mark.parametrize(
    "news",
    [
        e.ProcessDown(at=AT, cause="signal", ended=1),
        e.JobStarted(at=AT, epoch=2, seq=1, pid=2),
        e.JobWaiting(at=AT, task="a"),
        e.JobStopped(at=AT),
    ],
)
def test_what_a_dead_process_had_said_is_not_held_against_the_next(bench: Bench, news: e.Event) -> None:
    """Its stage was heard of after its death; nothing of it is kept."""
    bench.deadlines.forget("j")
    bench.start(timeout=10)
    bench.hear(news)
    assert bench.overdue_after(1000) == []
    assert not bench.deadlines._jobs
