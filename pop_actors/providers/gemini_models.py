"""What is known of Gemini's models, as data: how each is told how hard to think.

A model is found by the longest beginning of its name; one nobody knows is taken for one of the newest.
"""

from __future__ import annotations

from collections.abc import Mapping

from pop_actors.core.chat import ReasoningEffort
from pop_actors.providers.models import ModelFacts

# models of before version 3 count the tokens to think within
BUDGETS: Mapping[ReasoningEffort, int] = {"none": 0, "minimal": 512, "low": 1_024, "medium": 8_192, "high": 24_576}
_EARLIER = ("gemini-1", "gemini-2", "gemma-")

_BUDGETED: tuple[ReasoningEffort, ...] = ("minimal", "low", "medium", "high")
_MOST = ModelFacts(efforts=("low", "medium", "high"), thinks=True)
_FROM_MINIMAL = ModelFacts(efforts=("minimal", "low", "medium", "high"), thinks=True)
_WITHOUT_THOUGHT = ModelFacts(efforts=())
GEMINI: Mapping[str, ModelFacts] = {
    "": _MOST,
    "gemma-": _WITHOUT_THOUGHT,
    "gemini-1": _WITHOUT_THOUGHT,
    "gemini-2.0": _WITHOUT_THOUGHT,
    "gemini-2.5-flash": ModelFacts(efforts=("none", *_BUDGETED), thinks=True),
    "gemini-2.5-pro": ModelFacts(efforts=_BUDGETED, thinks=True),
    "gemini-3-pro": ModelFacts(efforts=("low", "high"), thinks=True),
    "gemini-3-flash": _FROM_MINIMAL,
    "gemini-3.1-flash": _FROM_MINIMAL,
    "gemini-3.5-flash": _FROM_MINIMAL,
    "gemini-3.8-flash": ModelFacts(efforts=("minimal", "low", "medium", "high", "xhigh"), thinks=True),
}


def is_earlier(model: str) -> bool:
    """Of before version 3: it thinks by budgets, knows no thought signatures, and no JSON where there are tools."""
    return model.startswith(_EARLIER)
