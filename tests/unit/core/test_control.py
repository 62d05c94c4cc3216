"""control.json: good directives are read, and a file with any fault is nothing but the list of all its faults."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.control import MOST_BYTES, Control, parse_control
from pop_actors.core.events import Patch, Skip
from pop_actors.core.job_spec import Gate
from pop_actors.core.patch import Plan
from pop_actors.errors import ControlInvalid

STATES = {"plan": "running", "draw": "pending", "print": "pending", "fetch": "done"}
PLAN = Plan({"tasks": list(STATES)}, (), {*STATES, "extra"})


def parsed(content: bytes) -> Control:
    return parse_control(content, "plan", STATES, lambda: PLAN)


GOOD: dict[str, tuple[dict[str, Any], Control]] = {
    "nothing": ({}, Control()),
    "a skip": ({"skip": [{"task": "draw", "reason": "no need"}]}, Control((Skip(task="draw", reason="no need"),))),
    "a skip without a reason": ({"skip": [{"task": "draw"}]}, Control((Skip(task="draw"),))),
    "a pause": (
        {"pause": {"message": "look", "artifacts": ["a.md"]}}, Control((), Gate(message="look", artifacts=("a.md",))),
    ),
    "a pause without words": ({"pause": {}}, Control((), Gate())),
    "tasks to add": (
        {"patch": {"add": ["extra"]}},
        Control(patch=Patch(task="plan", insert_after="plan", add=({"name": "extra"},))),
    ),
}  # fmt: skip

BAD: dict[str, tuple[Any, list[str]]] = {
    "no object": ([], ["/: must be an object"]),
    "an unknown directive": ({"halt": 1}, ["/halt: no such directive"]),
    "a patch that is none": ({"patch": 7}, ["/patch: must be {add, insertAfter}"]),
    "more than is read": ({"pause": {"message": "x" * MOST_BYTES}}, ["/: has more than 1048576 bytes"]),
    "no list": ({"skip": "draw"}, ["/skip: must be a list"]),
    "no task": ({"skip": [{"reason": "r"}]}, ["/skip/0: must be {task, reason}"]),
    "a key too many": ({"skip": [{"task": "draw", "why": "r"}]}, ["/skip/0: must be {task, reason}"]),
    "a reason that is no text": ({"skip": [{"task": "draw", "reason": 3}]}, ["/skip/0: must be {task, reason}"]),
    "nobody": ({"skip": [{"task": "drow"}]}, ["/skip/0/task: 'drow' is no task of this run; there are: plan, draw"]),
    "one that is done": ({"skip": [{"task": "fetch"}]}, ["/skip/0/task: 'fetch' has begun already"]),
    "itself": ({"skip": [{"task": "plan"}]}, ["/skip/0/task: 'plan' has begun already"]),
    "a pause that is none": ({"pause": True}, ["/pause: must be {message, artifacts}"]),
    "artifacts that are none": ({"pause": {"artifacts": [1]}}, ["/pause: must be {message, artifacts}"]),
    "all at once": (
        {"halt": 1, "pause": 2, "skip": [{"task": "draw"}, {}, {"task": "x"}], "patch": {"add": ["draw", "nobody"]}},
        ["/halt: ", "/patch/add/0/name: ", "/patch/add/1/name: ", "/pause: ", "/skip/1: ", "/skip/2/task: "],
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_directives_are_read(case: str) -> None:
    """Whatever is left out is not wanted."""
    written, control = GOOD[case]
    assert parsed(json.dumps(written).encode()) == control


@pytest.mark.parametrize("case", BAD)
def test_every_fault_is_named_with_its_place(case: str) -> None:
    """All of them, so that one look is enough."""
    written, faults = BAD[case]
    with pytest.raises(ControlInvalid) as invalid:
        parsed(json.dumps(written).encode())
    assert len(invalid.value.faults) == len(faults)
    assert all(found.startswith(wanted) for found, wanted in zip(invalid.value.faults, faults, strict=True))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["draw", "plan"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["task", "reason", "message", "artifacts", "add", "insertAfter", "name"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(
    st.binary(max_size=40) | st.dictionaries(st.sampled_from(["skip", "pause", "patch"]), json_values).map(json.dumps)
)
def test_whatever_a_task_wrote_is_read_or_refused(content: bytes | str) -> None:
    """Nothing else comes of it; what is to be skipped is a task that waits."""
    with contextlib.suppress(ControlInvalid):
        control = parsed(content if isinstance(content, bytes) else content.encode())
        assert all(STATES[skip.task] == "pending" for skip in control.skip)
        assert control.patch is None or PLAN.with_patch(control.patch).tasks()
