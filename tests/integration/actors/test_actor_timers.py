"""The timers' thread for real: calls come in their order, not before their time, and not after a stop."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator

import pytest

from pop_actors.actors import Timers

SOON = 5.0


@pytest.fixture
def timers() -> Iterator[Timers]:
    timers = Timers()
    yield timers
    timers.stop()


def test_calls_come_in_the_order_of_their_moments(timers: Timers) -> None:
    """Whatever the order they were asked for in, and none before its time."""
    called: queue.SimpleQueue[tuple[str, float]] = queue.SimpleQueue()
    began = time.monotonic()
    for name, seconds in (("late", 0.06), ("soon", 0.0), ("middle", 0.03)):
        timers.after(seconds, lambda name=name: called.put((name, time.monotonic() - began)))
    order = [called.get(timeout=SOON) for _ in range(3)]
    assert [name for name, _ in order] == ["soon", "middle", "late"]
    assert order[1][1] >= 0.03
    assert order[2][1] >= 0.06


def test_a_cancelled_call_does_not_come(timers: Timers) -> None:
    """A second cancel does nothing."""
    called: queue.SimpleQueue[str] = queue.SimpleQueue()
    timer = timers.after(0.02, lambda: called.put("cancelled"))
    timers.after(0.04, lambda: called.put("kept"))
    timer.cancel()
    timer.cancel()
    assert not timer.is_pending
    assert called.get(timeout=SOON) == "kept"
    assert called.empty()


def test_a_callback_that_raises_is_logged_and_time_goes_on(timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    """One caller's mistake is not the others' trouble."""
    called = threading.Event()
    timers.after(0.0, lambda: 1 / 0)
    timers.after(0.0, called.set)
    with caplog.at_level(logging.ERROR):
        assert called.wait(SOON)
    assert "callback failed" in caplog.text


def test_nothing_is_called_after_a_stop(timers: Timers) -> None:
    """Neither what waited nor what is asked for later; a stop may come twice."""
    called = threading.Event()
    timers.after(0.01, called.set)
    timers.stop()
    timers.stop()
    assert not timers.after(0.0, called.set).is_pending
    assert not called.wait(0.03)
    assert "stopped" in repr(timers)


def test_a_callback_may_set_the_next_timer_and_stop_the_timers(timers: Timers) -> None:
    """Both from the timers' own thread."""
    ended = threading.Event()

    def stop() -> None:
        timers.stop()
        ended.set()

    timers.after(0.0, lambda: timers.after(0.0, stop))
    assert ended.wait(SOON)


def test_cancelled_timers_do_not_pile_up(timers: Timers) -> None:
    """A timeout that is set and called off for each request costs nothing later."""
    kept = timers.after(600.0, lambda: None)
    for _ in range(10_000):
        timers.after(600.0, lambda: None).cancel()
    assert len(timers._heap) < 1000
    assert kept.is_pending
