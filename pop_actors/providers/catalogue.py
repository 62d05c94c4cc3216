"""The vendors of models and what tells them apart, as data, and the names of all providers.

A vendor that speaks a known wire format is added here by adding a line; only another wire format needs code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal
from urllib.parse import urlsplit

from pop_actors.providers import models
from pop_actors.providers.anthropic_models import ANTHROPIC
from pop_actors.providers.gemini_models import GEMINI
from pop_actors.providers.models import ModelFacts

OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class Vendor:
    """`base_url` as the contract has it: with the version for the OpenAI kind. `prices` is the vendor's id in
    genai-prices, None: prices are unknown. `kind` is the family of wire formats, as settings name it.

    `models`: what is known of its models. `max_concurrency`: how many calls at once, where settings do not say.
    `keeps_alive`: its streams are never silent for long, even while a model
    thinks. The rest concerns the OpenAI kind. `schemas`: it takes a JSON Schema itself (`native`), or only promises
    JSON and has to be shown the schema (`shown`). `developer`: it knows the role; for others it is `system`.
    `strict_schemas`: it has a mode in which no reply breaks the schema, for schemas in its dialect. `thoughts`: what a
    model thought before its tool calls is no word it knows, may come back with them, or has to.
    """

    base_url: str
    default_model: str | None
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    schemas: Literal["native", "shown"] = "native"
    prices: str | None = None
    kind: Literal["openai", "anthropic", "gemini", "claude-code"] = "openai"
    models: Mapping[str, ModelFacts] = field(default_factory=dict, repr=False)
    keeps_alive: bool = False
    developer: bool = False
    strict_schemas: bool = False
    thoughts: Literal["refused", "taken", "wanted"] = "taken"
    max_concurrency: int | None = None

    def model(self, name: str) -> ModelFacts:
        return models.facts_of(name, self.models)


CLAUDE_CODE = Vendor(
    "", "sonnet", prices="anthropic", kind="claude-code", models=models.CLAUDE_CODE,
    max_concurrency=2,  # each call is a process of half a second of CPU and up to 300 MB
)  # fmt: skip
VENDORS = MappingProxyType(
    {
        "openai": Vendor(
            "https://api.openai.com/v1", "gpt-5-nano", "max_completion_tokens", prices="openai", models=models.OPENAI,
            developer=True, strict_schemas=True, thoughts="refused",
        ),
        "deepseek": Vendor(
            "https://api.deepseek.com", "deepseek-v4-flash", schemas="shown", prices="deepseek",
            models=models.DEEPSEEK, keeps_alive=True, thoughts="wanted",
        ),
        "moonshot": Vendor(
            "https://api.moonshot.ai/v1", "kimi-k3", "max_completion_tokens", prices="moonshotai",
            models=models.MOONSHOT,
        ),
        "zhipu": Vendor(
            "https://api.z.ai/api/paas/v4", "glm-5.3", schemas="shown", prices="zai", models=models.ZHIPU,
        ),
        "anthropic": Vendor(
            "https://api.anthropic.com", "claude-haiku-5-5", prices="anthropic", kind="anthropic", models=ANTHROPIC,
            keeps_alive=True,
        ),
        "gemini": Vendor(
            "https://generativelanguage.googleapis.com", "gemini-3.8-flash", prices="google", kind="gemini",
            models=GEMINI,
        ),
        "claude-code": CLAUDE_CODE,
    }
)  # fmt: skip
# a server that speaks the same language (vLLM, llama.cpp, a proxy): older ones know only `max_tokens`
COMPATIBLE = MappingProxyType(
    {
        "openai": Vendor("", None),
        "anthropic": Vendor("", None, kind="anthropic", models=ANTHROPIC),
        "gemini": Vendor("", None, kind="gemini", models=GEMINI),
        "claude-code": CLAUDE_CODE,
    }
)
"""By kind: what is taken to hold for an endpoint that is nobody's known."""
OFFLINE_MODEL = "offline-1"
_PRICES = MappingProxyType(
    {urlsplit(vendor.base_url).hostname: vendor.prices for vendor in VENDORS.values() if vendor.base_url}
    | {"open.bigmodel.cn": "zhipuai"}  # in China; others than abroad
)
"""By host: the vendor's id in genai-prices."""


def kind_of(name: str, configured: str | None) -> str | None:
    """The kind of a provider: what is configured, else what its name stands for; None for an unknown name."""
    if configured is not None:
        return configured
    if name in VENDORS:
        return VENDORS[name].kind
    return OFFLINE if name == OFFLINE else None


def vendor_of(name: str, kind: str) -> Vendor | None:
    """What is known of the provider of that name and kind; None for a kind without vendors."""
    vendor = VENDORS.get(name)
    return vendor if vendor is not None and vendor.kind == kind else COMPATIBLE.get(kind)


def default_model(name: str, kind: str) -> str | None:
    """The model used where nobody names one; None where somebody must."""
    if kind == OFFLINE:
        return OFFLINE_MODEL
    vendor = vendor_of(name, kind)
    return None if vendor is None else vendor.default_model


def max_concurrency(name: str, kind: str) -> int | None:
    """How many calls at once, where settings do not say; None: as many as there are."""
    vendor = vendor_of(name, kind)
    return None if vendor is None else vendor.max_concurrency


def prices_at(base_url: str | None, vendor: Vendor) -> str | None:
    """Whose prices hold, as an id in genai-prices: of who is asked at that address, else those of the vendor."""
    try:
        host = urlsplit(base_url or vendor.base_url).hostname
    except ValueError:  # brackets that are none
        host = None
    return _PRICES.get(host, vendor.prices)
