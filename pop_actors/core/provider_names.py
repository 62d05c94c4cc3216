"""The providers that are there without any table, and model names that say whose they are. Pure."""

from __future__ import annotations

from collections.abc import Container
from types import MappingProxyType

KINDS = MappingProxyType(
    {
        "openai": "openai",
        "deepseek": "openai",
        "moonshot": "openai",
        "zhipu": "openai",
        "anthropic": "anthropic",
        "gemini": "gemini",
        "claude-code": "claude-code",
        "offline": "offline",
    }
)
"""By name: the family of wire formats, as settings call it."""


def owner_of(model: str, known: Container[str] = KINDS) -> tuple[str, str] | None:
    """Provider and model of a name like `anthropic:sonnet-4-5`; None for one that belongs to nobody known, as
    `llama3:8b`."""
    provider, colon, name = model.partition(":")
    return (provider, name) if colon and name and provider in known else None
