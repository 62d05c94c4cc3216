"""What is known of Anthropic's models, as data: how each thinks, and what it refuses.

A model is found by the longest beginning of its name; one nobody knows is taken for one of the newest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pop_actors.core.chat import EFFORTS, ReasoningEffort
from pop_actors.providers.models import ModelFacts

Thinking = Literal["budget", "asked", "default"]
Off = Literal["unsaid", "disabled", "between_tools", "never"]

DEFAULT_MAX_TOKENS = 32_000  # a request must say: room for thinking and a long answer, and every model takes it
# tokens to think within, for the models that count them; the API takes no fewer than LEAST_BUDGET
BUDGETS: Mapping[ReasoningEffort, int] = {
    "minimal": 1_024, "low": 2_048, "medium": 8_192, "high": 16_384, "xhigh": 24_576, "max": 32_768,
}  # fmt: skip
LEAST_BUDGET = 1_024

_LEVELS: tuple[ReasoningEffort, ...] = ("low", "medium", "high", "xhigh", "max")
_NO_XHIGH: tuple[ReasoningEffort, ...] = ("low", "medium", "high", "max")


@dataclass(frozen=True, slots=True)
class AnthropicModel:
    """One model. `thinking`: within a `budget` of tokens, adaptively when `asked`, or adaptively by `default`.

    `off`: what keeps it from thinking: that it is left `unsaid`, a thinking type, or `never` anything. `schemas`: it
    takes a JSON Schema. `prefill`: the last message may be the assistant's. `forced_tools`: it may be told to use a
    tool. `max_output`: the longest answer it gives, in tokens.
    """

    thinking: Thinking = "default"
    off: Off = "never"
    levels: tuple[ReasoningEffort, ...] = _LEVELS
    schemas: bool = True
    prefill: bool = False
    forced_tools: bool = True
    max_output: int = 128_000

    @property
    def facts(self) -> ModelFacts:
        """As every vendor's are told."""
        able: tuple[ReasoningEffort, ...] = self.levels if self.off == "never" else ("none", *self.levels)
        # the API's version of October 2026 takes no temperature for any model; and unasked, each may write at length
        return ModelFacts("refused", efforts=able, thinks=True)


def _budget(*, schemas: bool, max_output: int) -> AnthropicModel:
    return AnthropicModel("budget", "unsaid", EFFORTS[1:], schemas=schemas, prefill=True, max_output=max_output)


_NEWEST = AnthropicModel(forced_tools=False)
MODELS: Mapping[str, AnthropicModel] = {
    "": _NEWEST,
    "claude-3": _budget(schemas=False, max_output=64_000),
    "claude-opus-4": _budget(schemas=False, max_output=32_000),
    "claude-sonnet-4": _budget(schemas=False, max_output=64_000),
    "claude-opus-4-5": _budget(schemas=True, max_output=64_000),
    "claude-sonnet-4-5": _budget(schemas=True, max_output=64_000),
    "claude-haiku-4-5": _budget(schemas=True, max_output=64_000),
    "claude-opus-4-6": AnthropicModel("asked", "unsaid", _NO_XHIGH),
    "claude-sonnet-4-6": AnthropicModel("asked", "unsaid", _NO_XHIGH, max_output=64_000),
    "claude-opus-4-7": AnthropicModel("asked", "unsaid"),
    "claude-opus-4-8": AnthropicModel("asked", "unsaid"),
    "claude-opus-5": AnthropicModel(off="disabled"),
    "claude-sonnet-5": AnthropicModel(off="disabled"),
    "claude-haiku-5": AnthropicModel(off="disabled"),
    "claude-opus-5-5": _NEWEST,
    "claude-sonnet-5-5": AnthropicModel(off="between_tools", forced_tools=False),
    "claude-fable-5": _NEWEST,
    "claude-mythos": _NEWEST,
}
ANTHROPIC: Mapping[str, ModelFacts] = {name: model.facts for name, model in MODELS.items()}


def anthropic_model(name: str) -> AnthropicModel:
    return MODELS[max((beginning for beginning in MODELS if name.startswith(beginning)), key=len)]
