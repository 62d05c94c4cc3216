"""Which key is used next: in order, sticking to what works, and never all of them for nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.api_keys import FIRST_REST_SECONDS, LONGEST_REST_SECONDS, MOST_RESTS, KeyRing

NAMES = ("first", "second", "third")


def test_the_first_is_used_until_it_is_refused() -> None:
    """Then the next, and then none."""
    ring = KeyRing(NAMES)
    for place in range(3):
        assert [ring.pick("m", 0.0) for _ in range(2)] == [place, place]
        assert ring.refused(place, "m", "quota", "spent", 0.0) == FIRST_REST_SECONDS
    assert ring.pick("m", 0.0) is None
    assert {place: rest.code for place, rest in ring.resting("m", 0.0).items()} == dict.fromkeys(range(3), "quota")


def test_a_key_stands_down_for_one_model_only() -> None:
    """A model it may not use, or whose quota is spent, says nothing of the others."""
    ring = KeyRing(NAMES)
    ring.refused(0, "dear", "quota", "spent", 0.0)
    assert (ring.pick("dear", 0.0), ring.pick("cheap", 0.0)) == (1, 0)


def test_several_requests_refused_together_count_once() -> None:
    """A hundred were on their way with it: it rests no longer for that."""
    ring = KeyRing(NAMES)
    assert [ring.refused(0, "m", "auth", "no", 0.0) for _ in range(100)] == [FIRST_REST_SECONDS] + [None] * 99


def test_it_rests_longer_each_time_until_it_works() -> None:
    """A minute, two, four, up to a quarter of an hour; then from the beginning."""
    ring = KeyRing(["only"])
    now, rests = 0.0, []
    for _ in range(7):
        assert ring.pick("m", now) == 0
        rests.append(ring.refused(0, "m", "quota", "spent", now))
        now += LONGEST_REST_SECONDS
    assert rests == [60, 120, 240, 480, 900, 900, 900]
    ring.pick("m", now)
    ring.worked(0, "m", now)
    assert ring.refused(0, "m", "quota", "spent", now) == FIRST_REST_SECONDS


def test_the_provider_may_say_when_to_come_back() -> None:
    """At least a minute, at most a day."""
    for wish, lasting in ((0.0, 60.0), (3600.0, 3600.0), (1e9, 86_400.0)):
        assert KeyRing(["only"]).refused(0, "m", "quota", "spent", 0.0, wish) == lasting


def test_a_rested_key_is_tried_by_one_request_while_another_stands() -> None:
    """The others go on with the one that works, whether the trial ends well, badly or without a word."""
    ring = KeyRing(NAMES)
    ring.refused(0, "m", "quota", "spent", 0.0)
    assert [ring.pick("m", 60.0) for _ in range(3)] == [0, 1, 1]
    ring.untold(0, "m")
    assert [ring.pick("m", 61.0) for _ in range(2)] == [0, 1]
    ring.worked(0, "m", 62.0)
    assert [ring.pick("m", 63.0) for _ in range(2)] == [0, 0]


def test_a_rested_key_is_used_by_all_where_no_other_stands() -> None:
    """They would have nothing else to wait for."""
    ring = KeyRing(["only"])
    ring.refused(0, "m", "quota", "spent", 0.0)
    assert ring.pick("m", 59.9) is None
    assert [ring.pick("m", 60.0) for _ in range(3)] == [0, 0, 0]


def test_a_late_reply_does_not_raise_a_key_that_was_refused_since() -> None:
    """It was sent before the quota was spent."""
    ring = KeyRing(NAMES)
    ring.refused(0, "m", "quota", "spent", 10.0)
    ring.worked(0, "m", 11.0)
    assert ring.pick("m", 12.0) == 1


def test_all_stand_again_when_an_operator_says_so() -> None:
    """Somebody has paid the bill."""
    ring = KeyRing(["only"])
    ring.refused(0, "m", "quota", "spent", 0.0)
    ring.restore()
    assert ring.pick("m", 0.0) == 0


def test_odd_models_without_end_do_not_fill_the_memory() -> None:
    """The rest that ends first is forgotten."""
    ring = KeyRing(["only"])
    for number in range(MOST_RESTS + 50):
        ring.refused(0, f"model-{number}", "auth", "no", float(number))
    assert len(ring._rests) == MOST_RESTS


moves = st.lists(st.tuples(st.sampled_from(["worked", "refused", "untold"]), st.floats(0, 2000)), max_size=60)


@given(moves=moves, keys=st.integers(1, 4))
def test_a_standing_key_is_always_found_and_one_that_rests_never(moves: list[tuple[str, float]], keys: int) -> None:
    """Whatever happened before."""
    ring = KeyRing([str(place) for place in range(keys)])
    now = 0.0
    for what, pause in moves:
        now += pause
        place = ring.pick("m", now)
        resting = ring.resting("m", now)
        assert (place is None) == (len(resting) == keys)
        if place is None:
            continue
        assert place not in resting
        if what == "refused":
            ring.refused(place, "m", "quota", "spent", now)
        elif what == "worked":
            ring.worked(place, "m", now)
        else:
            ring.untold(place, "m")
