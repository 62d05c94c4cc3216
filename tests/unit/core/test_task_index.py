"""The task registry is data: read from its syntax, never executed."""

from __future__ import annotations

import pytest

from pop_actors.core.task_index import TaskTarget, parse_task_index, with_task
from pop_actors.errors import PipelineInvalid


def test_files_and_functions_are_told_apart() -> None:
    """The contract's example, an annotated literal, and dotted modules."""
    source = (
        b'"""x"""\nTASKS: dict[str, str] = {"research": "research.py", "seed": "seeding:run", "deep": "pkg.mod:fn"}\n'
    )
    assert parse_task_index(source, is_json=False) == {
        "research": TaskTarget(("research.py",)),
        "seed": TaskTarget(("seeding.py", "seeding/__init__.py"), "run"),
        "deep": TaskTarget(("pkg/mod.py", "pkg/mod/__init__.py"), "fn"),
    }


def test_json_says_the_same() -> None:
    """index.json is the same object."""
    assert parse_task_index(b'{"a": "./a/main.py"}', is_json=True) == {"a": TaskTarget(("./a/main.py",))}


@pytest.mark.parametrize(
    "source",
    [
        b"", b"TASKS = make()", b"TASKS = {**other}", b'TASKS = {"a": file}', b'TASKS = {"a": "a.py", "a": "b.py"}',
        b'TASKS = {"a": 3}', b'TASKS = {"a": ""}', b'TASKS = {"a": "x:y:z"}', b'TASKS = {"a": "mod:not-a-name"}',
        b"TASKS = {", b"TASKS = {3: 'a.py'}", b"\x00", b"(" * 5000, b"TASKS: dict",
        b'TASKS = {"a": "a.py"}\nTASKS = {}',
    ],
)  # fmt: skip
def test_what_is_no_literal_of_texts_is_a_fault(source: bytes) -> None:
    """Code, repeats, other types and broken syntax are named, not run."""
    with pytest.raises(PipelineInvalid):
        parse_task_index(source, is_json=False)


@pytest.mark.parametrize("source", [b"[]", b'{"a": 3}', b'{"a": "x.py", "a": "y.py"}', b"{"])
def test_json_that_is_no_registry_is_a_fault(source: bytes) -> None:
    """The JSON form is held to the same rules."""
    with pytest.raises(PipelineInvalid):
        parse_task_index(source, is_json=True)


@pytest.mark.parametrize(
    "source",
    [
        "TASKS = {}\n",
        "TASKS = {\n}\n",
        'TASKS = {"a": "a.py"}\n',
        'TASKS = {\n    "a": "a.py",\n}\n',
        'TASKS = {\n    "a": "a.py"  # a note, with a comma\n}\nOTHER = {"x": "y"}\n',
        '# früher: {}\nOTHER = {}\nTASKS = {"ä": "ä.py"  ,  # }\n}',
        'TASKS = {\r\n    "a": "a.py",\r\n}\r\n',
    ],
)  # fmt: skip
def test_an_entry_is_added_and_all_else_stays(source: str) -> None:
    """Every line that was there is still there, comments included."""
    before = parse_task_index(source.encode(), is_json=False)
    extended = with_task(source.encode(), "new", "new.py", is_json=False)
    assert parse_task_index(extended, is_json=False) == {**before, "new": TaskTarget(("new.py",))}
    remaining = iter(extended.decode())
    assert all(character in remaining for character in source)


def test_a_name_is_entered_once() -> None:
    """A second entry of the same name is refused, in both forms."""
    with pytest.raises(PipelineInvalid):
        with_task(b'TASKS = {"a": "a.py"}', "a", "b.py", is_json=False)
    with pytest.raises(PipelineInvalid):
        with_task(b'{"a": "a.py"}', "a", "b.py", is_json=True)
    assert parse_task_index(with_task(b"{}", "a", "a.py", is_json=True), is_json=True) == {"a": TaskTarget(("a.py",))}
