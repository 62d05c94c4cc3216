"""Whose turn it is: everyone's, by what they have had."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.fair_queue import FairQueue, Ticket, weight
from pop_actors.core.token_guess import Tokens


def ticket(job: str, cost: float = 10.0, model: str = "m", **more: object) -> Ticket:
    return Ticket(job, model, Tokens(cost, 0.0), **more)  # type: ignore[arg-type]


def take_next(queue: FairQueue, *, end: bool = True) -> Ticket:
    for heads in queue.turns():
        queue.take(heads[0])
        if end:
            queue.end(heads[0], heads[0].tokens)
        return heads[0]
    raise AssertionError("nobody waits")


def served(queue: FairQueue, count: int) -> Counter[str]:
    return Counter(take_next(queue).job_id for _ in range(count))


def test_jobs_are_served_in_turn() -> None:
    """Whoever came first with however many calls: at equal cost one each."""
    queue = FairQueue()
    for job, calls in (("greedy", 100), ("modest", 3), ("other", 3)):
        for _ in range(calls):
            queue.add(ticket(job))
    assert served(queue, 9) == {"greedy": 3, "modest": 3, "other": 3}


def test_turns_are_counted_in_tokens() -> None:
    """A job of large calls gets fewer of them, and the same tokens."""
    queue = FairQueue()
    for _ in range(100):
        queue.add(ticket("large", 100.0))
        queue.add(ticket("small", 10.0))
    counts = served(queue, 66)
    assert (counts["large"], counts["small"]) == (6, 60)


def test_a_wrong_guess_is_made_good() -> None:
    """A job whose calls use ten times what was guessed gets a tenth of the turns."""
    queue = FairQueue()
    for _ in range(200):
        queue.add(ticket("sly"))
        queue.add(ticket("honest"))
    counts: Counter[str] = Counter()
    for _ in range(110):
        went = take_next(queue, end=False)
        queue.end(went, Tokens(100.0 if went.job_id == "sly" else 10.0, 0.0))
        counts[went.job_id] += 1
    assert counts["sly"] == 10


def test_nobody_saves_up_turns_by_idling() -> None:
    """A job that comes back, or comes new, does not go before all others until it has caught up."""
    queue = FairQueue()
    for _ in range(100):
        queue.add(ticket("busy"))
    served(queue, 50)
    for _ in range(20):
        queue.add(ticket("new"))
    assert served(queue, 20) == {"busy": 10, "new": 10}


def test_a_wrong_guess_costs_newcomers_nothing() -> None:
    """While calls guessed a hundred times too high are under way, a job comes: it is no hundred turns behind."""
    queue = FairQueue()
    under_way = [ticket("early", 1000.0) for _ in range(5)]
    for one in under_way:
        queue.pass_by(one)
    for _ in range(20):
        queue.add(ticket("late"))
        queue.add(ticket("early"))
    for one in under_way:
        queue.end(one, Tokens(10.0, 0.0))
    assert abs(served(queue, 20)["late"] - 10) <= 3


def test_calls_that_need_not_wait_count_as_well() -> None:
    """Who had a thousand of them while nobody waited is not ahead or behind when somebody does."""
    queue = FairQueue()
    for _ in range(1000):
        went = ticket("early")
        queue.pass_by(went)
        queue.end(went, went.tokens)
    held = ticket("early")
    queue.pass_by(held)
    for _ in range(20):
        queue.add(ticket("early"))
        queue.add(ticket("late"))
    assert abs(served(queue, 20)["late"] - 10) <= 1


@pytest.mark.parametrize(("priority", "turns"), [(0, 10), (1, 13), (2, 16), (-1, 7)])
def test_a_higher_priority_gets_a_larger_share(priority: int, turns: int) -> None:
    """Twice the tokens per step; the other is served all the same."""
    queue = FairQueue()
    for _ in range(100):
        queue.add(ticket("ranked", priority=priority))
        queue.add(ticket("plain"))
    assert abs(served(queue, 20)["ranked"] - turns) <= 1


def test_no_priority_shuts_others_out() -> None:
    """However high or low it is set, the share stays within a factor of 16."""
    assert (weight(10**9), weight(-(10**9))) == (16, 1 / 16)


def test_a_retry_goes_before_its_jobs_other_calls() -> None:
    """And after other jobs' turns."""
    queue = FairQueue()
    first, second = ticket("a"), ticket("a", again=True)
    queue.add(first)
    queue.add(second)
    assert [take_next(queue), take_next(queue)] == [second, first]


def test_who_was_passed_over_is_still_there() -> None:
    """Turns of which nothing is taken, even broken off, lose nobody."""
    queue = FairQueue()
    for job in "abc":
        queue.add(ticket(job))
    assert [heads[0].job_id for heads in queue.turns()] == ["a", "b", "c"]
    for _ in queue.turns():
        break
    assert served(queue, 3) == {"a": 1, "b": 1, "c": 1}


def test_memory_follows_jobs_that_wait_and_not_jobs_that_were() -> None:
    """Ten thousand jobs later little is left behind, and when all is done nothing."""
    queue = FairQueue()
    for number in range(10_000):
        for job in (f"job-{number}", "steady", "steady"):
            queue.add(ticket(job))
        for _ in range(2 + number % 2):
            take_next(queue)
    assert len(queue._jobs) < 200
    assert len(queue._heap) < 600
    while len(queue):
        take_next(queue)
    assert not queue._jobs


jobs = st.sampled_from("abcd")


@given(st.lists(st.tuples(jobs, st.integers(1, 100), st.integers(-2, 2), st.sampled_from(["m", "n"]), st.booleans())))
def test_everyone_who_waits_is_served_exactly_once(calls: list[tuple[str, int, int, str, bool]]) -> None:
    """In any mix of jobs, costs, priorities, models and retries, with others giving up in between."""
    queue = FairQueue()
    tickets = [ticket(job, cost, model, again=again, priority=rank) for job, cost, rank, model, again in calls]
    for one in tickets:
        queue.add(one)
    left = [one for number, one in enumerate(tickets) if number % 5 == 4]
    for one in left:
        assert queue.remove(one)
        assert not queue.remove(one)
    went = [take_next(queue) for _ in range(len(queue))]
    assert set(went) | set(left) == set(tickets)
    assert len(went) + len(left) == len(tickets)
    assert len(queue) == 0


@given(st.lists(st.lists(st.integers(1, 100), min_size=50, max_size=50), min_size=2, max_size=5))
def test_jobs_that_always_wait_get_equal_tokens(costs: list[list[int]]) -> None:
    """Whatever the sizes of their calls, no two jobs are ever further apart than two of the largest calls."""
    queue = FairQueue()
    for number, calls in enumerate(costs):
        for cost in calls:
            queue.add(ticket(f"job-{number}", float(cost)))
    had: Counter[str] = Counter({f"job-{number}": 0 for number in range(len(costs))})
    while all(sum(calls) > had[f"job-{number}"] for number, calls in enumerate(costs)):
        went = take_next(queue, end=False)
        had[went.job_id] += int(went.cost)
        assert max(had.values()) - min(had.values()) <= 200
