"""What is known of single models that the request has to heed: levels of effort, and parameters they refuse. Data.

A model is found by the longest beginning of its name; one nobody knows is believed to take whatever it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pop_actors.core.chat import EFFORTS, ReasoningEffort


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`temperature`: taken always, never, or only where the effort is `none`; `thoughtless`: with another effort it is
    accepted and not heeded. `efforts`: the levels it has, weakest
    first; empty: it takes no such parameter; None: unknown, sent as asked.

    `effort_by`: how a level is said, as `reasoning_effort`, by a `thinking` switch that is on or off, or by both.
    `thinks`: it may be silent for long before its first word. `max_output`: the most tokens it may be asked for;
    None: unknown.
    """

    temperature: Literal["taken", "refused", "effort none", "thoughtless"] = "taken"
    stop: bool = True
    images: bool = True
    efforts: tuple[ReasoningEffort, ...] | None = None
    effort_by: Literal["reasoning_effort", "thinking", "both"] = "reasoning_effort"
    thinks: bool = False
    max_output: int | None = None

    def level(self, asked: ReasoningEffort) -> ReasoningEffort | None:
        """The level that serves for the one asked: itself, else the next above, else the highest; None: it has none."""
        if self.efforts is None:
            return asked
        above = (effort for effort in self.efforts if EFFORTS.index(effort) >= EFFORTS.index(asked))
        return next(above, self.efforts[-1] if self.efforts else None)


UNKNOWN = ModelFacts()
_O_SERIES = ModelFacts("refused", stop=False, efforts=("low", "medium", "high"), thinks=True)
_GPT_5 = ModelFacts("refused", stop=False, efforts=("minimal", "low", "medium", "high"), thinks=True)
_GPT_5_1 = ModelFacts("effort none", stop=False, efforts=("none", "low", "medium", "high"), thinks=True)
_GPT_5_2 = ModelFacts("effort none", stop=False, efforts=("none", "low", "medium", "high", "xhigh"), thinks=True)
_GPT_6 = ModelFacts("effort none", stop=False, efforts=("none", "low", "medium", "high", "xhigh", "max"), thinks=True)
OPENAI: Mapping[str, ModelFacts] = {
    "o1": _O_SERIES,
    "o3": _O_SERIES,
    "o4": _O_SERIES,
    "gpt-3": ModelFacts(efforts=(), images=False),
    "gpt-4": ModelFacts(efforts=()),
    "gpt-5": _GPT_5,
    "gpt-5-chat": ModelFacts(efforts=()),
    "gpt-5-pro": ModelFacts("refused", stop=False, efforts=("high",), thinks=True),
    "gpt-5.": _GPT_5_2,
    "gpt-5.1": _GPT_5_1,
    "gpt-6": _GPT_6,
}
# thinking is on unless it is switched off, and then the temperature is not heeded
DEEPSEEK: Mapping[str, ModelFacts] = {
    "deepseek": ModelFacts(
        "thoughtless", images=False, efforts=("none", "low", "high", "max"), effort_by="both", thinks=True
    ),
}
_KIMI_3 = ModelFacts("refused", efforts=("low", "high", "max"), thinks=True)
MOONSHOT: Mapping[str, ModelFacts] = {
    "kimi-k3": _KIMI_3,
    "kimi-k2": ModelFacts("refused", efforts=("none", "high"), effort_by="thinking", thinks=True),
    "kimi-k2.7": ModelFacts("refused", efforts=("high",), effort_by="thinking", thinks=True),
    "moonshot-v1": ModelFacts(efforts=()),
}
_GLM_OUTPUT = 131_072
ZHIPU: Mapping[str, ModelFacts] = {
    "glm": ModelFacts(efforts=("none", "high"), effort_by="thinking", thinks=True, max_output=_GLM_OUTPUT),
    "glm-5.3": ModelFacts(efforts=("low", "high", "max"), thinks=True, max_output=_GLM_OUTPUT),
}

# what the CLI can be told, whichever of its models it is
CLAUDE_CODE: Mapping[str, ModelFacts] = {
    "": ModelFacts("refused", stop=False, images=False, efforts=("low", "medium", "high", "xhigh", "max"), thinks=True),
}


def facts_of(model: str, known: Mapping[str, ModelFacts]) -> ModelFacts:
    """By the longest beginning that fits; `UNKNOWN` where none does."""
    beginnings = [beginning for beginning in known if model.startswith(beginning)]
    return known[max(beginnings, key=len)] if beginnings else UNKNOWN
