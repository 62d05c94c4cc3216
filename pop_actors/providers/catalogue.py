"""What is known of the vendors whose wire format is OpenAI's chat completions, as data, and the names of all providers.

A vendor is added here by adding a line; only another wire format needs code.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Vendor:
    """`base_url` has the version in its path. `prices` is the vendor's id in genai-prices, None: prices are unknown.

    `schemas`: it takes a JSON Schema itself (`native`), or only promises JSON and has to be shown the schema (`shown`).
    """

    base_url: str
    default_model: str | None
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"]
    schemas: Literal["native", "shown"]
    prices: str | None


VENDORS = MappingProxyType(
    {
        "openai": Vendor("https://api.openai.com/v1", "gpt-5-nano", "max_completion_tokens", "native", "openai"),
        "deepseek": Vendor("https://api.deepseek.com", "deepseek-v4-flash", "max_tokens", "shown", "deepseek"),
        "moonshot": Vendor("https://api.moonshot.ai/v1", "kimi-k3", "max_completion_tokens", "native", "moonshotai"),
        "zhipu": Vendor("https://api.z.ai/api/paas/v4", "glm-5.3", "max_tokens", "shown", "zai"),
    }
)
# a server that speaks the same language (vLLM, llama.cpp, a proxy): older ones know only `max_tokens`
COMPATIBLE = Vendor("", None, "max_tokens", "native", None)
OTHER_KINDS = MappingProxyType({"anthropic": "anthropic", "gemini": "gemini", "claude-code": "claude-code"})
OFFLINE_MODEL = "offline-1"


def kind_of(name: str, configured: str | None) -> str | None:
    """The wire format of a provider: what is configured, else what its name stands for; None for an unknown name."""
    if configured is not None:
        return configured
    if name in VENDORS:
        return "openai"
    return OFFLINE if name == OFFLINE else OTHER_KINDS.get(name)


def default_model(name: str, kind: str) -> str | None:
    """The model used where nobody names one; None where somebody must."""
    if kind == OFFLINE:
        return OFFLINE_MODEL
    return VENDORS[name].default_model if name in VENDORS else None
