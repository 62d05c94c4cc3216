"""What an edit means for the tasks of a run: by file, by what is imported, by what the registry points to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.code_change import changed_files, changed_tasks
from pop_actors.core.events import Code

BEFORE = Code(
    files={"a.py": "1", "b.py": "1", "shared.py": "1", "pipeline.json": "1"}, modules={"a": "a.py", "b": "b.py"}
)
REACHES = {"a.py": frozenset({"shared.py"}), "b.py": frozenset[str](), "other.py": frozenset[str]()}

CASES = {
    "nothing": ({}, {}, (), ()),
    "its own file": ({"b.py": "2"}, {}, ("b.py",), ("b",)),
    "a file it imports": ({"shared.py": "2"}, {}, ("shared.py",), ("a",)),
    "a file nobody imports": ({"new.py": "1"}, {}, ("new.py",), ()),
    "a file that is gone": ({"b.py": None}, {}, ("b.py",), ("b",)),
    "another file for the same task": ({"other.py": "1"}, {"b": "other.py"}, ("other.py",), ("b",)),
    "the run's own pipeline": ({"pipeline.json": "2"}, {}, ("pipeline.json",), ()),
}


@pytest.mark.parametrize("case", CASES)
def test_an_edit_concerns_who_runs_it(case: str) -> None:
    """The file is named in any case."""
    edits, moved, files, tasks = CASES[case]
    edited = {name: digest for name, digest in {**BEFORE.files, **edits}.items() if digest is not None}
    now = Code(files=edited, modules={**BEFORE.modules, **moved})
    assert changed_files(BEFORE, now) == files
    assert changed_tasks(BEFORE, now, ("a", "b"), REACHES.__getitem__) == tasks


digests = st.dictionaries(st.sampled_from(["a.py", "b.py", "c.py"]), st.sampled_from(["1", "2"]))


@given(digests, digests)
def test_a_change_is_the_same_seen_from_both_ends(before: dict[str, str], now: dict[str, str]) -> None:
    """And there is none exactly where the files are the same."""
    there = changed_files(Code(files=before), Code(files=now))
    assert there == changed_files(Code(files=now), Code(files=before))
    assert (there == ()) == (before == now)
