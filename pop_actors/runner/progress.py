"""How far one attempt of a task has come: what its stages gave, and therefore what comes next. No I/O.

Rebuilt from the checkpoint after a crash by going the same way again over the stages it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from pop_actors.core.stages import SEED, STAGES, VALIDATION_STAGES, Passed, Run, Skip, Step, next_step
from pop_actors.runner.checkpoint import Line


@dataclass(frozen=True, slots=True)
class Trod:
    """A stage that is behind; `skipped` says why it was, where it was."""

    stage: str
    round: int
    skipped: str | None = None


class Progress:
    """The data of one attempt. Used by the task's thread only."""

    def __init__(self, seed: Any, defined: Collection[str], max_refinements: int) -> None:
        self.outputs: dict[str, Any] = {SEED: seed}
        self.output: Any = seed
        self.previous_stage = SEED
        self.flags: dict[str, Any] = {}
        self._undefined: set[tuple[str, int]] = set()
        self._defined = defined
        self._max_refinements = max_refinements
        self._passed: list[Passed] = []

    @property
    def rounds(self) -> int:
        """Refinement rounds begun."""
        return self._passed[-1].round if self._passed else 0

    @property
    def path(self) -> list[Trod]:
        """The stages that are behind, in order."""
        return [
            Trod(passed.stage, passed.round, "not defined" if (passed.stage, passed.round) in self._undefined else None)
            for passed in self._passed
        ]

    def never_reached(self) -> list[Trod]:
        """Stages the loop did not come to."""
        seen = {passed.stage for passed in self._passed}
        return [Trod(stage, self.rounds, "not needed") for stage in STAGES if stage not in seen]

    def next(self) -> Step:
        """What comes next; stages the task does not define are passed over."""
        while True:
            step = next_step(self._passed, self._defined, self._max_refinements)
            if not isinstance(step, Skip):
                return step
            self._undefined.add((step.stage, step.round))
            self._passed.append(Passed(step.stage, step.round, self.flags))

    def take(self, stage: str, number: int, output: Any, flags: dict[str, Any]) -> None:
        """A stage has given its output; `flags` are the merged ones after it."""
        self.outputs[stage] = output
        self.flags = flags
        if stage not in VALIDATION_STAGES:
            self.output, self.previous_stage = output, stage
        self._passed.append(Passed(stage, number, flags))

    def retrace(self, find: Callable[[str, int], Line | None]) -> None:
        """Take from the checkpoint what it has, up to the first stage that is still to run."""
        while isinstance(step := self.next(), Run):
            line = find(step.stage, step.round)
            if line is None or not line.ok:
                return
            self.take(line.stage, line.round, line.output, line.flags)
