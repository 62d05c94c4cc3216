"""Stages in Python code are interrupted at their time, wherever they are, and nothing else is."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from pop_actors.runner.clockwork import Clockwork, Deadline, StageTimeout


@pytest.fixture
def clockwork() -> Iterator[Clockwork]:
    made = Clockwork()
    yield made
    made.stop()


def spin() -> None:
    while True:
        pass


def test_a_loop_that_never_ends_is_interrupted(clockwork: Clockwork) -> None:
    """The stage's thread gets StageTimeout soon after its time is over."""
    began = time.monotonic()
    with pytest.raises(StageTimeout, match=r"within 0\.05 s"):
        Deadline(clockwork, 0.05).guard(spin)
    assert time.monotonic() - began < 5


def test_a_stage_that_swallows_the_interruption_is_interrupted_again(clockwork: Clockwork) -> None:
    """One `except BaseException` does not save a stage; its late result does not count."""
    swallowed = []

    def stubborn() -> str:
        for _ in range(2):
            try:
                spin()
            except StageTimeout as error:
                swallowed.append(error)
        return "late"

    with pytest.raises(StageTimeout):
        Deadline(clockwork, 0.02).guard(stubborn)
    assert len(swallowed) == 2


def test_a_stage_in_time_gives_its_value_and_its_own_errors(clockwork: Clockwork) -> None:
    """The guard adds nothing to a stage that keeps its time."""
    assert Deadline(clockwork, 60).guard(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        Deadline(clockwork, 60).guard(lambda: 1 / 0)


def test_no_interruption_leaks_out_of_the_stage(clockwork: Clockwork) -> None:
    """Stages that end just when their time does leave a thread in which nothing is still to come."""
    leaked = 0

    def about_a_millisecond() -> None:
        end = time.perf_counter() + 0.001
        while time.perf_counter() < end:
            pass

    for _ in range(300):
        with contextlib.suppress(StageTimeout):
            Deadline(clockwork, 0.001).guard(about_a_millisecond)
        try:
            for _ in range(50):
                threading.get_ident()  # a leaked interruption would come here
        except StageTimeout:
            leaked += 1
    assert leaked == 0


def test_threads_that_work_for_a_stage_share_its_deadline(clockwork: Clockwork) -> None:
    """What a stage started is interrupted with it."""
    deadline = Deadline(clockwork, 0.05)
    caught: list[BaseException] = []

    def helper() -> None:
        try:
            deadline.share(spin)
        except StageTimeout as error:
            caught.append(error)

    def stage() -> None:
        worker = threading.Thread(target=helper)
        worker.start()
        worker.join()

    with pytest.raises(StageTimeout):
        deadline.guard(stage)
    assert len(caught) == 1


def test_calls_come_in_the_order_of_their_time(clockwork: Clockwork) -> None:
    """An earlier call that is added later still comes first."""
    order: list[str] = []
    done = threading.Event()
    now = time.monotonic()
    clockwork.at(now + 0.08, lambda: (order.append("second"), done.set())[0])
    clockwork.at(now + 0.02, lambda: order.append("first"))
    assert done.wait(5)
    assert order == ["first", "second"]


def test_a_stopped_clockwork_calls_nothing(clockwork: Clockwork) -> None:
    """After `stop`, what was due is forgotten."""
    called = threading.Event()
    clockwork.at(time.monotonic() + 0.05, called.set)
    clockwork.stop()
    assert not called.wait(0.15)
