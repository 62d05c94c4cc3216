"""Tasks added to a run: the pipeline there is with them, and every fault there can be in them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.events import Patch
from pop_actors.core.patch import MOST_ADDED, MOST_BYTES, Plan, patched, read_patch
from pop_actors.core.pipeline import TaskDefaults
from pop_actors.errors import PipelineInvalid

CHAIN = ["plan", "draw", "print"]
KEYS = {*CHAIN, "extra", "more"}
WAITING = {"plan": "running", "draw": "pending", "print": "pending"}
FORK = ["plan", {"name": "draw", "dependsOn": ["plan"]}, {"name": "print", "dependsOn": ["plan", "draw"]}]
BESIDE = [{"name": "draw", "dependsOn": []}, "plan", {"name": "print", "dependsOn": []}, "bind"]


def plan_of(tasks: list[Any], *patches: Patch, **head: Any) -> Plan:
    return Plan({"tasks": tasks, **head}, patches, {*KEYS, "bind"}, TaskDefaults(4, 1, 50.0))


def needs(plan: Plan) -> dict[str, tuple[str, ...]]:
    return {entry.name: entry.depends_on for entry in plan.tasks()}


def read(written: Any, plan: Plan, states: dict[str, str]) -> tuple[Patch | None, list[str]]:
    faults: list[str] = []
    return read_patch(written, "plan", plan, states, faults), faults


TAKEN: dict[str, tuple[list[Any], Any, dict[str, tuple[str, ...]]]] = {
    "one, behind the task that adds it": (
        CHAIN, {"add": ["extra"]}, {"plan": (), "extra": ("plan",), "draw": ("extra",), "print": ("draw",)},
    ),
    "two, one after the other": (
        CHAIN, {"add": ["extra", {"id": "again", "task": "extra"}]},
        {"plan": (), "extra": ("plan",), "again": ("extra",), "draw": ("again",), "print": ("draw",)},
    ),
    "at the end": (
        CHAIN, {"add": ["extra"], "insertAfter": "print"},
        {"plan": (), "draw": ("plan",), "print": ("draw",), "extra": ("print",)},
    ),
    "beside what names what it waits for": (
        FORK, {"add": ["extra"], "insertAfter": "draw"},
        {"plan": (), "draw": ("plan",), "extra": ("draw",), "print": ("plan", "draw")},
    ),
    "waiting for what it names": (
        CHAIN, {"add": [{"name": "extra", "dependsOn": []}, {"name": "more", "dependsOn": ["print"]}],
                "insertAfter": "print"},
        {"plan": (), "draw": ("plan",), "print": ("draw",), "extra": (), "more": ("print",)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_the_run_goes_on_as_though_they_stood_in_its_pipeline(case: str) -> None:
    """In that order, and what waits for the entry before it by default waits for the last of them."""
    tasks, written, wanted = TAKEN[case]
    plan = plan_of(tasks)
    patch, faults = read(written, plan, WAITING)
    assert faults == []
    assert patch is not None
    assert needs(plan.with_patch(patch)) == wanted
    assert list(needs(plan.with_patch(patch))) == list(wanted)


def test_an_added_task_gets_the_defaults_of_its_pipeline() -> None:
    """The service's, and what the pipeline's taskConfig says of that name; the entry wins."""
    plan = plan_of(CHAIN, taskConfig={"extra": {"depth": 1, "tone": "calm"}})
    patch, _ = read({"add": [{"name": "extra", "config": {"depth": 2}, "maxAttempts": 1}]}, plan, WAITING)
    assert patch is not None
    entry = next(entry for entry in plan.with_patch(patch).tasks() if entry.name == "extra")
    assert (entry.config, entry.max_attempts, entry.stage_timeout) == ({"depth": 2, "tone": "calm"}, 1, 50.0)


def test_later_patches_stand_on_earlier_ones() -> None:
    """What was added can be added to; of two behind one task, the later stands right behind it."""
    first = Patch(task="plan", insert_after="plan", add=({"name": "extra"},))
    second = Patch(task="extra", insert_after="extra", add=({"name": "more"},))
    third = Patch(task="draw", insert_after="extra", add=({"name": "bind"},))
    assert list(needs(plan_of(CHAIN, first, second, third))) == ["plan", "extra", "bind", "more", "draw", "print"]


REFUSED: dict[str, tuple[list[Any], Any, dict[str, str], list[str]]] = {
    "no object": (CHAIN, ["extra"], WAITING, ["/patch: must be {add, insertAfter}"]),
    "no list": (CHAIN, {"add": "extra"}, WAITING, ["/patch: must be {add, insertAfter}"]),
    "no name to follow": (CHAIN, {"add": ["extra"], "insertAfter": 3}, WAITING, ["/patch: must be {add, insertAfter}"]),
    "a key too many": (CHAIN, {"add": ["extra"], "after": "draw"}, WAITING, ["/patch: must be {add, insertAfter}"]),
    "what follows nobody": (
        CHAIN, {"add": ["extra"], "insertAfter": "drow"}, WAITING,
        ["/patch/insertAfter: 'drow' is no task of this run; there are: plan, draw, print"],
    ),
    "what would come before": (
        BESIDE, {"add": ["extra"], "insertAfter": "draw"}, {"draw": "done", "plan": "running"},
        ["/patch/insertAfter: 'draw' comes before plan"],
    ),
    "what something that runs would have waited for": (
        BESIDE, {"add": ["extra"], "insertAfter": "print"},
        {"draw": "done", "plan": "running", "print": "done", "bind": "running"},
        ["/patch/insertAfter: bind has begun already, and would have to wait for extra"],
    ),
    "a name that is taken": (CHAIN, {"add": ["draw"]}, WAITING, ["/patch/add/0/name: 'draw' is taken by /tasks/1"]),
    "a name that comes twice": (
        CHAIN, {"add": ["extra", "extra"]}, WAITING, ["/patch/add/1/name: 'extra' is taken by /patch/add/0"],
    ),
    "itself": (CHAIN, {"add": ["plan"]}, WAITING, ["/patch/add/0/name: 'plan' is taken by /tasks/0"]),
    "a name that is none": (
        CHAIN, {"add": [{"name": "../x", "task": "extra"}]}, WAITING, ["/patch/add/0/name: '../x' is no task name"],
    ),
    "no module": (CHAIN, {"add": ["nobody"]}, WAITING, ["/patch/add/0/name: 'nobody' is not in the task registry"]),
    "what is not supported": (
        CHAIN, {"add": [{"name": "extra", "isolation": "task"}]}, WAITING, ["/patch/add/0/isolation: task"],
    ),
    "a wait for nobody": (
        CHAIN, {"add": [{"name": "extra", "dependsOn": ["nobody"]}]}, WAITING, ["/patch/add/0/dependsOn/0: 'nobody'"],
    ),
    "a circle": (
        CHAIN, {"add": [{"name": "extra", "dependsOn": ["print"]}]}, WAITING,
        ["a circle of tasks that wait for each other"],
    ),
    "everything at once": (
        CHAIN, {"add": [7, {"name": "extra", "stageTimeout": 0}, {"name": "draw", "colour": 1}], "insertAfter": "x"},
        WAITING,
        ["/patch/insertAfter: ", "/patch/add/0: must be", "/patch/add/1/stageTimeout: ", "/patch/add/2/colour: ",
         "/patch/add/0/name: is missing", "/patch/add/2/name: 'draw' is taken"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_every_fault_is_named_with_its_place(case: str) -> None:
    """As those of a pipeline.json are."""
    tasks, written, states, wanted = REFUSED[case]
    patch, faults = read(written, plan_of(tasks), states)
    assert patch is None
    assert len(faults) == len(wanted), faults
    assert all(start in fault for fault, start in zip(faults, wanted, strict=True)), faults


def test_nothing_to_add_is_no_fault() -> None:
    """An empty list changes nothing."""
    assert read({"add": []}, plan_of(CHAIN), WAITING) == (None, [])


def test_a_task_that_adds_itself_again_and_again_comes_to_an_end() -> None:
    """Each under a new name; the fault says how many were added, and what it looks like."""
    plan = plan_of(CHAIN)
    added, faults = 0, list[str]()
    while added < 2 * MOST_ADDED and not faults:
        states = {name: WAITING.get(name, "pending") for name in needs(plan)}
        patch, faults = read({"add": [{"name": f"again-{added}", "task": "extra"}]}, plan, states)
        if patch is not None:
            plan, added = plan.with_patch(patch), added + 1
    assert added == MOST_ADDED
    assert "a task that adds itself again and again would never end" in faults[0]


def test_what_is_added_has_a_size() -> None:
    """Of all that is added to one run."""
    half = {"name": "extra", "config": {"text": "x" * (MOST_BYTES // 2)}}
    plan = plan_of(CHAIN, Patch(task="plan", insert_after="plan", add=(half,)))
    _, faults = read({"add": [{**half, "name": "more"}]}, plan, WAITING)
    assert "bytes of added entries" in faults[0]


def test_a_pipeline_that_was_edited_away_under_a_patch_says_so() -> None:
    """By hand, between two starts."""
    patch = Patch(task="plan", insert_after="draw", add=({"name": "extra"},))
    with pytest.raises(PipelineInvalid, match="plan added tasks behind 'draw', which is not there any more"):
        plan_of(["plan", "print"], patch).tasks()
    with pytest.raises(PipelineInvalid):
        patched([], (patch,))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([*CHAIN, "extra", "more", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "id", "task", "dependsOn", "config", "gate"]), inner, max_size=3)
    ),
    max_leaves=8,
)
states = st.fixed_dictionaries(
    {"plan": st.just("running"), "draw": st.sampled_from(["pending", "done"]), "print": st.just("pending")}
)


@given(
    json_values | st.fixed_dictionaries({"add": st.lists(json_values, max_size=4), "insertAfter": json_values}), states
)
def test_whatever_is_written_is_a_fault_or_a_plan_that_works(written: Any, states: dict[str, str]) -> None:
    """One or the other; tasks there were stay, in their order, and what has begun waits for nothing new."""
    plan = plan_of(CHAIN)
    patch, faults = read(written, plan, states)
    if patch is None:
        return
    assert faults == []
    made = needs(plan.with_patch(patch))
    assert [name for name in made if name in CHAIN] == CHAIN
    assert all(made[name] == needs(plan)[name] for name in CHAIN if states[name] != "pending")


@pytest.mark.parametrize("tasks", [[*CHAIN, "bind"], ["draw", "print"], []])
def test_a_pipeline_json_that_has_other_tasks_than_its_run_takes_none(tasks: list[Any]) -> None:
    """Somebody edited the run's own copy meanwhile: that is a fault like any other, and not the end of the process."""
    patch, faults = read({"add": ["extra"]}, plan_of(tasks), WAITING)
    assert patch is None
    (fault,) = faults
    assert "pipeline.json" in fault
