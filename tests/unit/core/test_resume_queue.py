"""Who goes on next: in the order they came, never two that hold the same, and nobody forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.locks import Locks
from pop_actors.core.resume_queue import ResumeQueue


def test_jobs_go_on_in_the_order_they_came() -> None:
    """Each once, however often it was added; a dropped one not at all, and again from the end when it comes anew."""
    queue = ResumeQueue(Locks(), lambda _: ())
    for job_id in ("a", "b", "c", "a"):
        queue.add(job_id)
    queue.drop("b")
    assert queue.take() == "a"
    queue.add("b")
    assert [queue.take(), queue.take(), queue.take()] == ["c", "b", None]
    assert not queue.has_turns


def test_who_conflicts_waits_for_who_holds() -> None:
    """Others pass; when the lock is free, the one that waited longest has it."""
    locks = Locks()
    conflicts = {"b": ("x", "y"), "c": ("y",)}
    queue = ResumeQueue(locks, lambda job_id: conflicts.get(job_id, ()))
    locks.take("holder", ["x"])
    for job_id in ("b", "c", "d"):
        queue.add(job_id)
    assert [queue.take(), queue.take(), queue.take()] == ["c", "d", None]
    assert "b" in queue
    locks.release("holder")
    queue.unpark("holder")
    assert queue.take() is None  # c came first to y meanwhile
    locks.release("c")
    queue.unpark("c")
    assert queue.take() == "b"
    assert locks.obstacle("c", ["y"]) == "b"


def test_a_lock_is_no_obstacle_to_who_holds_it() -> None:
    """It may take it again, and release lets go of all of it."""
    locks = Locks()
    locks.take("a", ["x"])
    locks.take("a", ["x", "y"])
    assert locks.obstacle("a", ["x", "y"]) is None
    assert locks.obstacle("b", ["z", "y"]) == "a"
    locks.release("a")
    assert (locks.obstacle("b", ["x", "y"]), len(locks)) == (None, 0)


jobs = st.lists(st.lists(st.sampled_from("xyz"), max_size=2, unique=True), max_size=8)


@given(jobs, st.integers(min_value=1, max_value=3), st.randoms())
def test_everybody_has_a_turn_and_no_two_hold_the_same(needs: list[list[str]], slots: int, random: object) -> None:
    """With any number of slots and any order of ends."""
    locks = Locks()
    queue = ResumeQueue(locks, lambda job_id: needs[int(job_id)])
    for number in range(len(needs)):
        queue.add(str(number))
    running: list[str] = []
    done: list[str] = []
    while len(done) < len(needs):
        while len(running) < slots and (job_id := queue.take()) is not None:
            held = [lock for other in running for lock in needs[int(other)]]
            assert set(held).isdisjoint(needs[int(job_id)])
            running.append(job_id)
        assert running, "somebody waits, and nobody is let through"
        ended = running.pop(random.randrange(len(running)))  # type: ignore[attr-defined]
        locks.release(ended)
        queue.unpark(ended)
        done.append(ended)
    assert sorted(done, key=int) == [str(number) for number in range(len(needs))]
