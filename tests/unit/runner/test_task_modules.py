"""A task's code is loaded as it is on disk now, and its faults are told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pop_actors.runner.failures import described
from pop_actors.runner.task_modules import LoadFailed, load_stages, target_of


@pytest.fixture(autouse=True)
def import_state() -> Iterator[None]:
    path, modules, writes = sys.path[:], set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    yield
    sys.path[:], sys.dont_write_bytecode = path, writes
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_functions_named_as_stages_are_the_stages(tmp_path: Path) -> None:
    """Others, and what is not callable, are the module's own business."""
    file = tmp_path / "t.py"
    file.write_text(
        "def pre_processing(ctx): return 1\nasync def inference(ctx): return 2\nparsing = 3\ndef help_(): ...\n"
    )
    assert list(load_stages(str(file), "t")) == ["preProcessing", "inference"]


def test_a_named_function_is_the_whole_task(tmp_path: Path) -> None:
    """It is called once, as the first stage."""
    file = tmp_path / "t.py"
    file.write_text("def run(ctx): return 7\ndef inference(ctx): return 8\n")
    stages = load_stages(f"{file}:run", "t")
    assert list(stages) == ["ingestion"]
    assert stages["ingestion"](None) == 7
    with pytest.raises(LoadFailed, match="no function 'walk'"):
        load_stages(f"{file}:walk", "t")


def test_an_edit_takes_effect_at_the_next_load(tmp_path: Path) -> None:
    """Also one of the same length within the same second; no byte code is left behind."""
    file = tmp_path / "t.py"
    for number in (1, 2, 3):
        file.write_text(f"def parsing(ctx): return {number}\n")
        assert load_stages(str(file), "t")["parsing"](None) == number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.py"]


def test_a_module_may_import_its_siblings(tmp_path: Path) -> None:
    """And a sibling named as a standard module does not take that one's place."""
    (tmp_path / "sibling_of_t.py").write_text("VALUE = 5\n")
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('the wrong one')\n")
    file = tmp_path / "t.py"
    file.write_text("import colorsys\nfrom sibling_of_t import VALUE\ndef parsing(ctx): return VALUE\n")
    assert load_stages(str(file), "t")["parsing"](None) == 5


def test_a_class_of_a_module_works_as_in_any_module(tmp_path: Path) -> None:
    """Dataclasses look their module up by name."""
    file = tmp_path / "t.py"
    file.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n"
        "@dataclass\nclass A:\n    n: int\ndef parsing(ctx): return A(3).n\n"
    )
    assert load_stages(str(file), "my-task")["parsing"](None) == 3


@pytest.mark.parametrize(
    ("source", "name", "says"),
    [
        ("def parsing(ctx) return 1", "SyntaxError", "t.py could not be loaded"),
        ("import no_such_module_anywhere", "ModuleNotFoundError", "no_such_module_anywhere"),
        ("raise SystemExit(3)", "SystemExit", "3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "could not be loaded"),
    ],
)
def test_a_module_that_does_not_load_says_why(tmp_path: Path, source: str, name: str, says: str) -> None:
    """Whatever its top level does, it is a failed load, and the error is the module's own."""
    file = tmp_path / "t.py"
    file.write_text(source)
    with pytest.raises(LoadFailed) as caught:
        load_stages(str(file), "t")
    info = described(caught.value)
    assert info.name == name
    assert says in info.message
    assert "t.py" in info.stack


def test_a_task_without_a_file_names_those_there_are() -> None:
    """The registry's keys are in the message."""
    with pytest.raises(LoadFailed, match="it has: a, b"):
        target_of({"b": "/b.py", "a": "/a.py"}, "c")
