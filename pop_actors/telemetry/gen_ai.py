"""OpenTelemetry's names for calls of generative models, as its semantic conventions of 2026 have them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

CHAT = "chat"
_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {"gemini": "gcp.gemini", "moonshot": "moonshot_ai", "claude-code": "anthropic"}
)
DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = tuple(4**power for power in range(14))


def provider_name(provider: str) -> str:
    """The value of `gen_ai.provider.name`: the conventions' own where they have one, else ours."""
    return _PROVIDERS.get(provider, provider)


def error_type(outcome: str) -> str:
    """The value of `error.type`: a code of `CallFailed`; empty for a call that went well."""
    return "" if outcome == "ok" else outcome
