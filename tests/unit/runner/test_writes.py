"""A run's end and its last files: the end is told when they are there, and none comes after it."""

from __future__ import annotations

import threading

import pytest

from pop_actors.runner.room import Leaving
from pop_actors.runner.writes import Writes


def test_the_end_waits_for_what_is_under_way() -> None:
    """However many write, it is over when the last of them is through."""
    writes, begun, done = Writes(), threading.Barrier(3), threading.Event()
    finished: list[str] = []

    def write() -> None:
        with writes.one():
            begun.wait(10)
            done.wait(10)
            finished.append("x")

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    assert not writes.end(0.0)
    done.set()
    assert writes.end(10.0)
    assert finished == ["x", "x"]
    for thread in threads:
        thread.join(10)


def test_none_begins_after_the_end() -> None:
    """Who would write leaves; a task's `except Exception` does not keep it from that."""
    writes = Writes()
    assert writes.end(0.0)
    with pytest.raises(Leaving), writes.one():
        raise AssertionError("it was let in")
    assert not issubclass(Leaving, Exception)


def test_a_write_that_fails_is_through() -> None:
    """Nobody waits for it."""
    writes = Writes()
    with pytest.raises(OSError, match="full"), writes.one():
        raise OSError("full")
    assert writes.end(0.0)
