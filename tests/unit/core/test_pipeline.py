"""Pipelines: defaults applied, and every fault named with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.pipeline import Gate, Pipeline, TaskDefaults, parse_pipeline, pipeline_from
from pop_actors.errors import PipelineInvalid

KEYS = ("a", "b", "c")


def parsed(*tasks: Any, **head: Any) -> Pipeline:
    return parse_pipeline({"tasks": list(tasks), **head}, KEYS, TaskDefaults(4, 1, 50.0), "slug")


def faults(*tasks: Any, **head: Any) -> tuple[str, ...]:
    with pytest.raises(PipelineInvalid) as caught:
        parsed(*tasks, **head)
    return caught.value.faults


def test_a_name_alone_is_a_task_with_every_default() -> None:
    """Strings stand for objects with a name; each waits for the one before it."""
    first, second = parsed("a", "b").tasks
    assert (first.name, first.task, first.kind, first.config, first.depends_on) == ("a", "a", "staged", {}, ())
    assert (first.max_attempts, first.max_refinements, first.stage_timeout, first.timeout) == (4, 1, 50.0, None)
    assert (first.on_refinement_exhausted, first.optional, first.isolation, first.gate) == ("fail", False, "job", None)
    assert second.depends_on == ("a",)


def test_every_key_of_an_entry_is_read() -> None:
    """Zero rounds stay zero, `id` names a task, and the entry wins over the pipeline."""
    entry = {
        "id": "x", "task": "b", "kind": "staged", "config": {"model": "own"}, "dependsOn": [], "timeout": 9,
        "stageTimeout": 1.5, "maxAttempts": 1, "maxRefinements": 0, "onRefinementExhausted": "fail", "optional": True,
        "isolation": "job", "gate": False,
    }  # fmt: skip
    task_config = {"x": {"model": "base", "temperature": 0.5}, "elsewhere": {}}
    task = parsed("a", entry, taskConfig=task_config, onRefinementExhausted="reject").tasks[1]
    assert (task.name, task.task, task.depends_on) == ("x", "b", ())
    assert task.config == {"model": "own", "temperature": 0.5}
    assert (task.timeout, task.stage_timeout, task.max_attempts, task.max_refinements) == (9, 1.5, 1, 0)
    assert (task.on_refinement_exhausted, task.optional) == ("fail", True)


def test_the_head_is_read_and_extra_keys_are_left_alone() -> None:
    """The example of the storage documentation, with model settings and a key of somebody else's."""
    pipeline = parsed(
        {"id": "a", "name": "a", "config": {"maxTokens": 2000}},
        name="demo", version="1.0.0", description="d", metadata={"tags": ["x"]}, somebodyElses={"key": 1},
        llm={"provider": "offline", "model": "m", "temperature": 0, "maxTokens": 10}, llmOverride={"model": "n"},
        onRefinementExhausted="reject",
    )  # fmt: skip
    assert (pipeline.name, pipeline.version, pipeline.metadata) == ("demo", "1.0.0", {"tags": ["x"]})
    assert (pipeline.llm.provider, pipeline.llm.max_tokens) == ("offline", 10)
    assert pipeline.llm_override is not None
    assert pipeline.llm_override.model == "n"
    assert pipeline.tasks[0].on_refinement_exhausted == "reject"


def test_a_pipeline_without_a_name_goes_by_its_slug() -> None:
    """Only tasks are required."""
    assert parsed("a").name == "slug"


def test_a_pipeline_crosses_to_another_process_as_json() -> None:
    """Its document survives JSON and gives the same value again."""
    pipeline = parsed("a", {"name": "b", "timeout": 3, "config": {"deep": [{"x": None}]}})
    assert pipeline_from(json.loads(json.dumps(pipeline.document()))) == pipeline


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"config": 3}, "/tasks/0/config: must be an object, not 3"),
    ({"kind": "shell"}, "/tasks/0/kind: must be staged, python, subprocess or agent"),
    ({"timeout": 0}, "/tasks/0/timeout: must be a number of seconds above 0"),
    ({"timeout": "5"}, "/tasks/0/timeout: must be"),
    ({"stageTimeout": -1}, "/tasks/0/stageTimeout: must be"),
    ({"stageTimeout": True}, "/tasks/0/stageTimeout: must be"),
    ({"maxAttempts": 0}, "/tasks/0/maxAttempts: must be a whole number from 1"),
    ({"maxAttempts": 1.0}, "/tasks/0/maxAttempts: must be"),
    ({"maxRefinements": -1}, "/tasks/0/maxRefinements: must be a whole number from 0"),
    ({"onRefinementExhausted": "ignore"}, "/tasks/0/onRefinementExhausted: must be fail or reject"),
    ({"optional": "yes"}, "/tasks/0/optional: must be true or false"),
    ({"isolation": "vm"}, "/tasks/0/isolation: must be job or task"),
    ({"gate": 1}, "/tasks/0/gate: must be true, false or {message, artifacts}"),
    ({"gate": {"text": "?"}}, "/tasks/0/gate/text: no such key"),
    ({"precheck": {"command": []}}, "/tasks/0/precheck/command"),
    ({"precheck": {"timeout": 1}}, "/tasks/0/precheck: must be"),
    ({"dependsOn": "b"}, "/tasks/0/dependsOn: must be a list of task names"),
    ({"dependsOn": ["nobody"]}, "/tasks/0/dependsOn/0: 'nobody' is not a task of this pipeline"),
    ({"dependsOn": ["a"]}, "/tasks/0/dependsOn: a circle"),
    ({"task": "z"}, "/tasks/0/task: 'z' is not in the task registry"),
    ({"agent": None}, "/tasks/0/agent: must be"),
    ({"max_attempts": 2}, "/tasks/0/max_attempts: no such key; did you mean maxAttempts?"),
    ({"dependson": []}, "/tasks/0/dependson: no such key; did you mean dependsOn?"),
    ({"a/b~c": 1}, "/tasks/0/a~1b~0c: no such key"),
    ({"name": "no spaces"}, "/tasks/0/name: 'no spaces' is no task name"),
]


@pytest.mark.parametrize(("change", "fault"), WRONG)
def test_a_wrong_entry_is_one_fault_with_its_pointer(change: dict[str, Any], fault: str) -> None:
    """Each rule of the table says where it was broken and what is allowed."""
    found = [text for text in faults({"name": "a", **change}) if "not supported" not in text]
    assert any(text.startswith(fault) for text in found)


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        ({"llm": {"modle": "x"}}, "/llm/modle: no such key"),
        ({"llm": {"temperature": -1}}, "/llm/temperature: "),
        ({"llmOverride": {"temperature": 1}}, "/llmOverride/temperature: no such key"),
        ({"llm": {"fallback": ["openai:m", "openai:"]}}, "/llm/fallback/1: "),
        ({"llm": {"fallback": "openai:m"}}, "/llm/fallback: "),
        ({"taskConfig": {"a": 3}}, "/taskConfig/a: "),
        ({"metadata": []}, "/metadata: must be an object, not a list"),
        ({"name": ""}, "/name: must be a text"),
        ({"onRefinementExhausted": "x"}, "/onRefinementExhausted: must be fail or reject"),
    ],
)
def test_a_wrong_head_is_a_fault_with_its_pointer(head: dict[str, Any], fault: str) -> None:
    """The keys beside `tasks` are held to their types, too."""
    assert [text for text in faults("a", **head) if text.startswith(fault)]


@pytest.mark.parametrize("document", [None, [], "x", {}, {"tasks": []}, {"tasks": {"a": {}}}])
def test_a_pipeline_without_tasks_is_none(document: Any) -> None:
    """Another shape is a fault of the whole."""
    with pytest.raises(PipelineInvalid):
        parse_pipeline(document, KEYS)


def test_every_fault_is_told_at_once() -> None:
    """Faults of the head, of each entry and between entries stand side by side."""
    found = faults("a", 3, {"name": "a"}, {"name": "q"}, {"name": "b", "dependsOn": ["x"], "timeout": 0}, llm=1)
    assert [fault.split(":")[0] for fault in found] == [
        "/llm", "/tasks/1", "/tasks/4/timeout", "/tasks/1/name", "/tasks/2/name", "/tasks/3/name",
    ]  # fmt: skip


def test_tasks_that_wait_for_each_other_are_named_in_a_circle() -> None:
    """The implied order counts as well: b follows a by itself."""
    found = faults({"name": "a", "dependsOn": ["c"]}, "b", "c")
    assert found == ("/tasks/0/dependsOn: a circle of tasks that wait for each other: a → c → b → a",)


def test_what_this_version_cannot_do_is_said_and_not_ignored() -> None:
    """Features of the contract that are to come are faults, each at its key."""
    found = faults(
        {"name": "a", "kind": "python"},
        {"name": "b", "agent": "writer"},
        {"name": "c", "isolation": "task", "precheck": {"http": "http://x"}},
    )
    assert [fault.partition(":")[0] for fault in found] == [
        "/tasks/0/kind", "/tasks/1/agent", "/tasks/2/isolation", "/tasks/2/precheck",
    ]  # fmt: skip
    assert all(fault.endswith("is not supported by this version yet") for fault in found)


def test_a_registry_that_cannot_be_read_is_not_held_against_the_tasks() -> None:
    """Its own faults are told elsewhere; one cause is one fault."""
    assert parse_pipeline({"tasks": ["whoever"]}, None).task_names == ("whoever",)


@pytest.mark.parametrize(
    ("written", "gate"),
    [(True, Gate()), (False, None), ({"message": "look", "artifacts": ["a"]}, Gate(message="look", artifacts=["a"]))],
)
def test_a_gate_is_closed_or_says_what_to_look_at(written: object, gate: Gate | None) -> None:
    """`true` is a gate without words."""
    (entry,) = parse_pipeline({"tasks": [{"name": "a", "gate": written}]}, {"a"}).tasks
    assert entry.gate == gate


@given(st.permutations(["a", "b", "c"]), st.data())
def test_an_accepted_order_can_be_run_and_a_refused_one_cannot(names: list[str], data: st.DataObject) -> None:
    """Whatever the dependencies: a pipeline is accepted exactly where repeatedly taking free tasks takes them all."""
    wanted = {name: data.draw(st.lists(st.sampled_from(names), unique=True, max_size=2)) for name in names}
    done: set[str] = set()
    for _ in names:
        done |= {name for name in names if done.issuperset(wanted[name])}
    try:
        pipeline = parsed(*({"name": name, "dependsOn": wanted[name]} for name in names))
    except PipelineInvalid:
        assert done != set(names)
    else:
        assert done == set(names)
        assert pipeline.task_names == tuple(names)


values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=3), max_size=2)
entry_keys = st.sampled_from(
    ["name", "id", "task", "kind", "config", "dependsOn", "timeout", "gate", "precheck", "agent", "zzz", "optional"]
)


@given(
    st.lists(values | st.dictionaries(entry_keys, values | st.dictionaries(st.text(max_size=5), values, max_size=2)))
)
def test_any_list_of_tasks_is_a_pipeline_or_has_faults(tasks: list[Any]) -> None:
    """No value in any place brings out another error, and every fault begins with a pointer."""
    found: tuple[str, ...] = ()
    try:
        taken = len(parsed(*tasks).tasks)
    except PipelineInvalid as error:
        found, taken = error.faults, 0
    assert taken == len(tasks) if not found else all(fault.startswith("/") for fault in found)
