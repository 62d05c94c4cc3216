"""What the daemon's own actors tell the gateway, besides `Chat`. None of it leaves the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class JobGone:
    """Jobs → gateway: a job's process ended. What it still waits to buy is dropped; what is bought is journaled."""

    job_id: str


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Operator → gateway, asked: change limits of a provider, live. The answer is its limits, all of them.

    Names: requests_per_minute, tokens_per_minute, max_concurrency; whole numbers from 1, None: unlimited.
    Refused: unknown_provider, bad_limit.
    """

    provider: str
    limits: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GatewayView:
    """Anyone → gateway, asked: its state, a list of one object per provider and model."""
