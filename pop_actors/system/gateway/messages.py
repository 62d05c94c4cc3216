"""What the daemon's own actors tell the gateway, besides `Chat`. None of it leaves the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class JobGone:
    """Jobs → gateway: a job's process ended. What it still waits to buy is dropped; what is bought is journaled."""

    job_id: str


@dataclass(frozen=True, slots=True)
class JobStopped:
    """Jobs → gateway: somebody has ended the job. What is on its way for it is ended too, unless it is paid."""

    job_id: str


@dataclass(frozen=True, slots=True)
class SetLimits:
    """Operator → gateway, asked: change limits of a provider, live. The answer is its limits, all of them.

    `provider` may be `provider:model`. Names: requests_per_minute, tokens_per_minute, input_tokens_per_minute,
    output_tokens_per_minute, requests_per_day, max_concurrency: whole numbers from 1; daily_budget_usd (of a provider
    only): a number from 0. None: unlimited. Refused: unknown_provider, bad_limit.
    """

    provider: str
    limits: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """Operator → gateway, asked: one cheap call to that provider, or to each that is configured. The answer is a list
    of {provider, model, ok, ms, code, message, costUsd}. Refused: unknown_provider."""

    provider: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class GatewayView:
    """Anyone → gateway, asked: its state, a list of one object per provider and model."""


@dataclass(frozen=True, slots=True)
class BudgetView:
    """Anyone → gateway, asked: the daily budgets, a list of {scope, name, limitUsd, spentUsd, state, resetsAt,
    waiting}."""
