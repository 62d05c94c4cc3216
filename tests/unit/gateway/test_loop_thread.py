"""The loop in a thread of its own, and the ways into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial

import pytest

from pop_actors.system.gateway.loop import LoopThread

SECONDS = 20.0


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    made = LoopThread("under-test")
    yield made
    made.stop()


def test_what_many_threads_hand_over_is_all_called_each_ones_in_order(loop: LoopThread) -> None:
    """No wake-up is lost, however the threads meet."""
    called: list[tuple[int, int]] = []

    def hand_over(thread: int) -> None:
        for number in range(500):
            done = threading.Event()
            loop.call(partial(called.append, (thread, 2 * number)))
            loop.call(partial(called.append, (thread, 2 * number + 1)))
            loop.call(done.set)
            assert done.wait(SECONDS)

    threads = [threading.Thread(target=hand_over, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    for one in range(4):
        assert [number for who, number in called if who == one] == list(range(1000))


def test_one_that_fails_does_not_take_the_next_with_it(loop: LoopThread) -> None:
    """It is logged; those that came with it are called all the same."""
    called = threading.Event()
    loop.call(partial(int, "no number"))
    loop.call(called.set)
    assert called.wait(SECONDS)


def test_a_loop_that_is_stopped_refuses_each_time() -> None:
    """Nobody waits for what will not be called."""
    loop = LoopThread("under-test")
    loop.stop()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            loop.call(lambda: None)
