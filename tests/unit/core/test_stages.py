"""The order of the stages and the refinement loop, row by row and for every task there can be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pop_actors.core.stages import PYTHON_NAMES, STAGES, Fail, Finish, Passed, Run, Skip, Step, next_step

ALL = frozenset(STAGES)
AGAIN = {"needsRefinement": True}
GOOD = {"needsRefinement": False}
ROUND = ["critique", "refine", "parsing", "validateStructure", "validateQuality"]
MAIN = list(STAGES[:7])


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (None, Run("ingestion", 0)),
        (Passed("ingestion"), Run("preProcessing", 0)),
        (Passed("preProcessing"), Run("promptTemplating", 0)),
        (Passed("promptTemplating"), Run("inference", 0)),
        (Passed("inference"), Run("parsing", 0)),
        (Passed("parsing"), Run("validateStructure", 0)),
        (Passed("validateStructure"), Run("validateQuality", 0)),
        (Passed("validateStructure", 0, {"validationFailed": True}), Fail("validateStructure", "validation")),
        (Passed("validateStructure", 1, {"validationFailed": True}), Fail("validateStructure", "validation")),
        (Passed("validateStructure", 0, {"validationFailed": 1}), Run("validateQuality", 0)),
        (Passed("parsing", 0, {"validationFailed": True}), Run("validateStructure", 0)),
        (Passed("validateQuality"), Run("integration", 0)),
        (Passed("validateQuality", 0, GOOD), Run("integration", 0)),
        (Passed("validateQuality", 0, {"needsRefinement": "yes"}), Run("integration", 0)),
        (Passed("validateQuality", 0, AGAIN), Run("critique", 1)),
        (Passed("critique", 1, AGAIN), Run("refine", 1)),
        (Passed("refine", 1, AGAIN), Run("parsing", 1)),
        (Passed("validateQuality", 1, AGAIN), Run("critique", 2)),
        (Passed("validateQuality", 1, GOOD), Run("finalValidation", 1)),
        (Passed("validateQuality", 2, GOOD), Run("finalValidation", 2)),
        (Passed("validateQuality", 2, AGAIN), Fail("validateQuality", "quality")),
        (Passed("finalValidation", 1, GOOD), Run("integration", 1)),
        (Passed("integration", 1, GOOD), Finish()),
    ],
)
def test_each_stage_is_followed_by_the_one_the_contract_names(last: Passed | None, expected: Step) -> None:
    """Two rounds are allowed; flags count only where they are true, and only where the contract looks at them."""
    assert next_step([] if last is None else [last], ALL, 2) == expected


def test_without_refinement_allowed_a_wish_for_it_fails_at_once() -> None:
    """`maxRefinements: 0` means that the first verdict is the last."""
    assert next_step([Passed("validateQuality", 0, AGAIN)], ALL, 0) == Fail("validateQuality", "quality")


def test_a_stage_the_task_does_not_define_is_skipped_in_its_place() -> None:
    """Skipping changes who runs, never the order."""
    assert next_step([Passed("ingestion")], {"inference"}, 2) == Skip("preProcessing", 0)


def test_every_stage_has_the_python_name_of_the_contract() -> None:
    """Disk names are camelCase, functions snake_case."""
    assert PYTHON_NAMES["preProcessing"] == "pre_processing"
    assert PYTHON_NAMES["finalValidation"] == "final_validation"
    assert list(PYTHON_NAMES) == list(STAGES)


def walk(defined: frozenset[str], verdicts: list[bool], max_refinements: int) -> tuple[list[Passed], Step]:
    """Go through a task whose n-th validateQuality says `verdicts[n]`."""
    passed: list[Passed] = []
    flags: dict[str, Any] = {}
    while isinstance(step := next_step(passed, defined, max_refinements), Run | Skip):
        if step.stage == "validateQuality" and isinstance(step, Run):
            flags = {"needsRefinement": verdicts[step.round] if step.round < len(verdicts) else False}
        passed.append(Passed(step.stage, step.round, flags))
        assert len(passed) < 200
    return passed, step


@given(
    st.frozensets(st.sampled_from(STAGES)),
    st.lists(st.booleans(), max_size=6),
    st.integers(min_value=0, max_value=5),
)
def test_any_task_goes_through_whole_rounds_and_ends(
    defined: frozenset[str], verdicts: list[bool], max_refinements: int
) -> None:
    """First the seven, then whole rounds, then the end that the last verdict asks for; never too many rounds."""
    passed, end = walk(defined, verdicts, max_refinements)
    rounds = passed[-1].round
    assert rounds <= max_refinements
    tail = [] if isinstance(end, Fail) else (["finalValidation"] if rounds else []) + ["integration"]
    assert [step.stage for step in passed] == MAIN + ROUND * rounds + tail
    asked = verdicts if "validateQuality" in defined else []
    wanted = next((i for i, again in enumerate([*asked, False]) if not again), 0)
    assert (rounds, end) == (
        (wanted, Finish()) if wanted <= max_refinements else (max_refinements, Fail("validateQuality", "quality"))
    )
