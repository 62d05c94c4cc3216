"""What a provider says of its limits with a reply: how much is left, and when it is full again. Read from headers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

QuotaKind = Literal["requests", "tokens", "input_tokens", "output_tokens"]

_KINDS: tuple[tuple[QuotaKind, str], ...] = (
    ("requests", "requests"),
    ("tokens", "tokens"),
    ("input_tokens", "input-tokens"),
    ("output_tokens", "output-tokens"),
)
_BEGINNINGS = ("x-ratelimit-", "anthropic-ratelimit-")
_FAMILIES = ("x-ratelimit-{what}-{kind}", "anthropic-ratelimit-{kind}-{what}")  # OpenAI's and all like it; Anthropic's
_NAMES: tuple[tuple[QuotaKind, str, str, str], ...] = tuple(
    (
        kind,
        family.format(what="remaining", kind=name),
        family.format(what="limit", kind=name),
        family.format(what="reset", kind=name),
    )
    for family in _FAMILIES
    for kind, name in _KINDS
)
_PIECE = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|s|m|h|d)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH_FROM = 1e9  # a bare number this large is no duration: it is a moment, in seconds since the epoch


@dataclass(frozen=True, slots=True)
class Quota:
    """`remaining` of `limit` (None: not said) were left; `reset` seconds later it is full again (None: not said)."""

    remaining: float
    limit: float | None = None
    reset: float | None = None


@dataclass(frozen=True, slots=True)
class RateNews:
    """The quotas one reply told of, by kind. Nothing is known of when it was told: who sent the request knows."""

    quotas: Mapping[QuotaKind, Quota] = field(default_factory=dict)


def read_rate_news(headers: Mapping[str, str], now: float) -> RateNews | None:
    """What these headers (names in lower case) say; None where they say nothing. `now` is seconds since the epoch.

    What is not a number, or negative (Azure says -1 for "not known"), is as if it were not there.
    """
    if not any(name.startswith(_BEGINNINGS) for name in headers):
        return None  # most say nothing, and every reply comes by here
    quotas: dict[QuotaKind, Quota] = {}
    for kind, remaining, limit, reset in _NAMES:
        left = _number(headers.get(remaining))
        known = quotas.get(kind)
        if left is not None and (known is None or left < known.remaining):
            quotas[kind] = Quota(left, _number(headers.get(limit)), _seconds(headers.get(reset), now))
    return RateNews(quotas) if quotas else None


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _seconds(text: str | None, now: float) -> float | None:
    """`12ms`, `6m0s`, `30` (seconds), `1767225600` (a moment), or a moment as RFC 3339 has it."""
    if text is None:
        return None
    number = _number(text)
    if number is not None:
        return max(0.0, number - now) if number >= _EPOCH_FROM else number
    flat = text.strip().lower()
    pieces = _PIECE.findall(flat)
    if pieces and "".join(figure + unit for figure, unit in pieces) == flat:
        return sum(float(figure) * _UNIT_SECONDS[unit] for figure, unit in pieces)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return None if moment.tzinfo is None else max(0.0, moment.timestamp() - now)
