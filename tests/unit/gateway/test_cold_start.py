"""Jobs that begin together, and whose journals open one after another: who gets the first places."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.admission import Admission, Pass
from pop_actors.core.expected import PATIENCE_SECONDS, Expected
from pop_actors.core.fair_queue import Ticket
from pop_actors.core.limits import Limits
from pop_actors.core.token_guess import Tokens

SIZE = Tokens(10.0, 10.0)
FOUR = [
    Limits(max_concurrency=4),
    Limits(requests_per_minute=80),  # of which a twentieth may go at once
    Limits(tokens_per_minute=80),
    Limits(requests_per_day=4),
]


class Start:
    """Some jobs' calls at one provider, at a moment of our own."""

    def __init__(self, limits: Limits) -> None:
        self.admission = Admission(limits, {}, lambda: 0.0)
        self.now = 0.0
        self.passes: list[Pass] = []
        self.look_again = 0.0

    def announce(self, job: str, calls: int) -> None:
        """So many calls of it wait for its journal."""
        for _ in range(calls):
            self.admission.expected.add(job, self.now)

    def open(self, job: str, calls: int) -> None:
        """Its journal is open, and its calls line up as the gateway has them do it."""
        for _ in range(calls):
            self.admission.expected.remove(job)
            call = Ticket(job, "m", SIZE)
            granted = self.admission.try_now(call, self.now)
            if granted is None:
                self.admission.ask(call)
            else:
                self.passes.append(granted)
        self.admit()

    def admit(self) -> None:
        passes, self.look_again = self.admission.admit(self.now)
        self.passes += passes

    def of(self, job: str) -> int:
        """The passes it got."""
        return sum(granted.call.job_id == job for granted in self.passes)


@pytest.mark.parametrize("limits", FOUR)
def test_whose_journal_opens_first_leaves_the_others_their_share(limits: Limits) -> None:
    """Two jobs, four calls each, four of which may go: two and two, whichever of the limits it is."""
    here = Start(limits)
    here.announce("first", 4)
    here.announce("second", 4)
    here.open("first", 4)
    assert here.of("first") == 2
    here.open("second", 4)
    assert (here.of("first"), here.of("second")) == (2, 2)


def test_no_more_is_kept_than_is_on_its_way() -> None:
    """One call of the other job: the rest is for who is here."""
    here = Start(Limits(max_concurrency=4))
    here.announce("second", 1)
    here.announce("first", 4)
    here.open("first", 4)
    assert here.of("first") == 3


def test_nothing_is_kept_where_there_is_enough() -> None:
    """Places for all: nobody waits for anybody's journal."""
    here = Start(Limits(max_concurrency=100))
    here.announce("second", 4)
    here.announce("first", 4)
    here.open("first", 4)
    assert here.of("first") == 4


def test_a_journal_that_does_not_open_holds_nobody_up_for_long() -> None:
    """A disk that hangs: after a moment the others take what was kept, and they are looked at by then."""
    here = Start(Limits(max_concurrency=4))
    here.announce("second", 4)
    here.announce("first", 4)
    here.open("first", 4)
    assert here.of("first") == 2
    assert 0 < here.look_again <= PATIENCE_SECONDS
    here.now += here.look_again
    here.admit()
    assert here.of("first") == 4


def test_what_does_not_come_after_all_is_kept_for_nobody() -> None:
    """Its calls were replayed, or its job went."""
    here = Start(Limits(max_concurrency=4))
    here.announce("second", 4)
    here.announce("first", 4)
    here.open("first", 4)
    for _ in range(4):
        here.admission.expected.remove("second")
    here.admit()
    assert here.of("first") == 4


@given(st.integers(2, 8), st.integers(1, 6), st.integers(1, 20), st.integers(0, 2**32))
def test_in_whatever_order_journals_open_places_are_shared_evenly(
    jobs: int, calls: int, places: int, seed: int
) -> None:
    """No place stays empty that somebody could use, and no job has two more than another that wants one."""
    here = Start(Limits(max_concurrency=places))
    names = [f"job-{number}" for number in range(jobs)]
    for name in names:
        here.announce(name, calls)
    random.Random(seed).shuffle(names)
    for name in names:
        here.open(name, calls)
    shares = [here.of(name) for name in names]
    assert sum(shares) == min(places, jobs * calls)
    assert max(shares) - min(shares) <= 1


def test_who_is_on_the_way_is_counted_out_again() -> None:
    """Every call that was announced comes, or is taken back: then nothing is remembered."""
    expected = Expected()
    for _ in range(3):
        expected.add("a", 0.0)
    assert expected.kept("b", lambda job: 2 if job == "b" else 0, 0.5) == (2, PATIENCE_SECONDS - 0.5)
    for _ in range(3):
        expected.remove("a")
    assert expected.kept("b", lambda _: 2, 0.5)[0] == 0
    assert "a" not in repr(expected).removeprefix("Expected")
