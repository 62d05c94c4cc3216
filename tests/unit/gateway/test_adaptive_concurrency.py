"""How many requests go at once where the provider does not say how many it takes."""

from __future__ import annotations

import math
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from pop_actors.core.adaptive_concurrency import AdaptiveConcurrency


def busy(under_way: int) -> AdaptiveConcurrency:
    concurrency = AdaptiveConcurrency()
    for _ in range(under_way):
        concurrency.take(1.0)
    return concurrency


def test_without_a_refusal_there_is_no_limit() -> None:
    """Nothing is known, nothing is held back."""
    assert busy(10_000).has_room


def test_a_refusal_cuts_what_is_under_way() -> None:
    """To six tenths, and never below one."""
    concurrency = busy(100)
    concurrency.refused(1.0, 2.0, 100)
    assert concurrency.limit == 60
    for number in range(50):
        concurrency.refused(2.0 + number + 0.5, 3.0 + number, 100)
    assert concurrency.allowed == 1


def test_refusals_of_one_round_trip_cut_once() -> None:
    """All that was under way when the limit was cut met the old one."""
    concurrency = busy(100)
    for _ in range(100):
        concurrency.refused(1.0, 2.0, 100)
    assert concurrency.limit == 60


def test_it_grows_by_one_per_clean_window_while_it_is_reached() -> None:
    """Sixty answers at the limit make it 61; answers below it prove nothing."""
    concurrency = busy(100)
    concurrency.refused(1.0, 2.0, 100)
    for _ in range(41):
        concurrency.leave()
    concurrency.take(3.0)
    for _ in range(60):
        concurrency.answered(3.0)
    assert concurrency.limit == 61
    for _ in range(1000):
        concurrency.answered(4.0)
    assert concurrency.limit == 61


def test_after_a_standstill_it_doubles_per_round_trip() -> None:
    """One, two, four: who waited does not come all at once."""
    concurrency = AdaptiveConcurrency()
    concurrency.restart()
    trips = []
    for _ in range(9):
        sent = 0
        while concurrency.has_room and sent < 1000:
            concurrency.take(1.0)
            sent += 1
        trips.append(sent)
        for _ in range(sent):
            concurrency.answered(1.0)
            concurrency.leave()
    assert trips == [1, 2, 4, 8, 16, 32, 64, 128, 1000]


@settings(max_examples=30)
@given(st.integers(1, 100), st.integers(0, 2**32))
def test_it_finds_the_providers_limit_and_stays_there(most: int, seed: int) -> None:
    """A provider that refuses beyond `most` at once: after a while few are refused, and most places are used."""
    concurrency, luck = AdaptiveConcurrency(), random.Random(seed)
    refused = answered = 0
    for trip in range(200):
        sent = []
        while concurrency.has_room and len(sent) < 150:
            sent.append(concurrency.take(float(trip)))
        luck.shuffle(sent)
        for under_way in sent:
            if under_way <= most:
                concurrency.answered(float(trip))
            else:
                concurrency.refused(float(trip), trip + 0.5, under_way)
            concurrency.leave()
        if trip >= 100:
            answered += sum(under_way <= most for under_way in sent)
            refused += sum(under_way > most for under_way in sent)
    assert refused <= 0.2 * (answered + refused)
    assert answered >= 0.6 * most * 100
    assert concurrency.limit < math.inf


@given(st.lists(st.sampled_from(["take", "answered", "refused", "restart"]), max_size=300))
def test_there_is_always_room_for_one(steps: list[str]) -> None:
    """Whatever happens, an idle model takes a request."""
    concurrency, now = AdaptiveConcurrency(), 0.0
    for step in steps:
        now += 1.0
        if step == "take" and concurrency.has_room:
            concurrency.take(now)
        elif step == "restart":
            concurrency.restart()
        elif concurrency.in_flight:
            concurrency.answered(now - 0.5) if step == "answered" else concurrency.refused(now - 0.5, now, 10)
            concurrency.leave()
        if not concurrency.in_flight:
            assert concurrency.has_room
