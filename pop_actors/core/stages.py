"""The eleven stages of a task, their order and the refinement loop, as a table and one decision.

Pure: `next_step` looks at what is behind and says what comes next; `runner/` does it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic.alias_generators import to_snake

STAGES: Final = (
    "ingestion", "preProcessing", "promptTemplating", "inference", "parsing", "validateStructure", "validateQuality",
    "critique", "refine", "finalValidation", "integration",
)  # fmt: skip
PYTHON_NAMES: Final[dict[str, str]] = {stage: to_snake(stage) for stage in STAGES}
VALIDATION_STAGES: Final = frozenset({"validateStructure", "validateQuality", "finalValidation"})
SEED: Final = "seed"

VALIDATION_FAILED: Final = "validationFailed"
NEEDS_REFINEMENT: Final = "needsRefinement"

# What follows a stage where its flags do not decide. A refinement round is critique, refine, and again from parsing.
_NEXT: Final[dict[str, str]] = {
    "ingestion": "preProcessing",
    "preProcessing": "promptTemplating",
    "promptTemplating": "inference",
    "inference": "parsing",
    "parsing": "validateStructure",
    "validateStructure": "validateQuality",
    "critique": "refine",
    "refine": "parsing",
    "finalValidation": "integration",
}


@dataclass(frozen=True, slots=True)
class Passed:
    """A stage that is behind, run or skipped. `flags` are the merged flags after it."""

    stage: str
    round: int = 0
    flags: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """Run this stage. `round` counts refinements; 0 before the first."""

    stage: str
    round: int


@dataclass(frozen=True, slots=True)
class Skip:
    """The task does not define this stage: log it and go on."""

    stage: str
    round: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Every stage is behind; the task has succeeded."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The task has failed at this stage by what its flags say."""

    stage: str
    reason: Literal["validation", "quality"]


Step = Run | Skip | Finish | Fail


def next_step(passed: Sequence[Passed], defined: Collection[str], max_refinements: int) -> Step:
    """What comes after the stages that are behind, for a task that defines the stages `defined` (disk names)."""
    if not passed:
        return _enter(STAGES[0], 0, defined)
    last = passed[-1]
    if last.stage == "validateStructure" and last.flags.get(VALIDATION_FAILED) is True:
        return Fail(last.stage, "validation")
    if last.stage == "integration":
        return Finish()
    if last.stage == "validateQuality":
        return _after_quality(last, defined, max_refinements)
    return _enter(_NEXT[last.stage], last.round, defined)


def _after_quality(last: Passed, defined: Collection[str], max_refinements: int) -> Step:
    if last.flags.get(NEEDS_REFINEMENT) is True:
        if last.round >= max_refinements:
            return Fail(last.stage, "quality")
        return _enter("critique", last.round + 1, defined)
    return _enter("finalValidation" if last.round else "integration", last.round, defined)


def _enter(stage: str, number: int, defined: Collection[str]) -> Run | Skip:
    return Run(stage, number) if stage in defined else Skip(stage, number)
