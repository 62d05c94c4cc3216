"""Which tasks run again at a restart: one and what waits for it, one alone, or all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.events import Patch
from pop_actors.core.restart_plan import tasks_to_drop, tasks_to_reset
from pop_actors.errors import Refused

CHAIN = {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}
DIAMOND = {"root": (), "left": ("root",), "right": ("root",), "join": ("left", "right"), "alone": ()}

CASES = {
    "all without a task": (CHAIN, None, False, ("a", "b", "c", "d")),
    "all, only or not": (CHAIN, None, True, ("a", "b", "c", "d")),
    "the first, and with it all": (CHAIN, "a", False, ("a", "b", "c", "d")),
    "one in the middle, and what follows": (CHAIN, "c", False, ("c", "d")),
    "the last": (CHAIN, "d", False, ("d",)),
    "one alone": (CHAIN, "b", True, ("b",)),
    "one branch, and where it joins": (DIAMOND, "left", False, ("left", "join")),
    "the root, not what stands apart": (DIAMOND, "root", False, ("root", "left", "right", "join")),
    "what stands apart": (DIAMOND, "alone", False, ("alone",)),
    "in pipeline order, also where that is not the order of need": (
        {"late": ("early",), "early": ()},
        "early",
        False,
        ("late", "early"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_right_tasks_run_again(case: str) -> None:
    """In the pipeline's order."""
    depends_on, from_task, only, reset = CASES[case]
    assert tasks_to_reset(depends_on, from_task, only=only) == reset


def test_an_unknown_task_is_refused_with_those_there_are() -> None:
    """So that the operator need not look them up."""
    with pytest.raises(Refused) as refused:
        tasks_to_reset(CHAIN, "z")
    assert refused.value.code == "not_found"
    assert "'z'" in refused.value.message
    assert "a, b, c, d" in refused.value.message


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, tuple[str, ...]]:
    names = [f"t{number}" for number in range(draw(st.integers(1, 8)))]
    return {
        name: tuple(draw(st.lists(st.sampled_from(names[:place]), unique=True))) if place else ()
        for place, name in enumerate(names)
    }


@given(pipelines(), st.data())
def test_what_runs_again_is_closed_and_no_larger_than_it_must_be(
    depends_on: dict[str, tuple[str, ...]], data: st.DataObject
) -> None:
    """No task that is kept waits for one that is not; every one but the first waits for another of them."""
    first = data.draw(st.sampled_from(sorted(depends_on)))
    reset = tasks_to_reset(depends_on, first)
    kept = depends_on.keys() - set(reset)
    assert all(set(depends_on[name]).isdisjoint(reset) for name in kept)
    assert all(name == first or not set(depends_on[name]).isdisjoint(reset) for name in reset)


def test_what_was_added_goes_with_who_added_it() -> None:
    """Also what that has added itself; what a task added stays that is kept."""
    patches = [
        Patch(task="a", insert_after="a", add=({"name": "x"},)),
        Patch(task="x", insert_after="x", add=({"name": "y"}, {"name": "z"})),
        Patch(task="b", insert_after="b", add=({"name": "w"},)),
    ]
    assert tasks_to_drop(patches, ("a",)) == {"x", "y", "z"}
    assert tasks_to_drop(patches, ("x", "b")) == {"y", "z", "w"}
    assert tasks_to_drop(patches, ("w",)) == set()
