"""What was asked of one model of one provider since the gateway started: counted by the gateway, shown by its view."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pop_actors.core.chat import Usage
from pop_actors.core.limits import Limits
from pop_actors.core.token_guess import TokenGuess
from pop_actors.errors import CallFailed


@dataclass(slots=True)
class Account:
    """`requests` counts what went to the provider, retries included; `failed` the calls that ended without a reply."""

    provider: str
    model: str
    requests: int = 0
    retries: int = 0
    ambiguous_retries: int = 0
    failed: int = 0
    replayed: int = 0
    waiting: int = 0
    in_flight: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    last_error: dict[str, str] | None = None
    guess: TokenGuess = field(default_factory=TokenGuess)

    def book(self, usage: Usage, cost_usd: float | None) -> None:
        """A completion (or a billed failure) came."""
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cached_tokens += usage.cached_tokens
        self.reasoning_tokens += usage.reasoning_tokens
        self.cache_write_tokens += usage.cache_write_tokens
        if cost_usd is None:
            self.unpriced += 1
        else:
            self.cost_usd += cost_usd

    def note(self, failure: CallFailed, at: str) -> None:
        """An attempt failed."""
        self.last_error = {"code": failure.code, "message": failure.message, "at": at}

    def document(self) -> dict[str, Any]:
        """The JSON shape of the view, without what is the provider's as a whole."""
        return {
            "provider": self.provider,
            "model": self.model,
            "requests": self.requests,
            "retries": self.retries,
            "ambiguousRetries": self.ambiguous_retries,
            "failed": self.failed,
            "replayed": self.replayed,
            "waiting": self.waiting,
            "inFlight": self.in_flight,
            "tokens": {
                "input": self.input_tokens,
                "output": self.output_tokens,
                "cached": self.cached_tokens,
                "reasoning": self.reasoning_tokens,
                "cacheWrite": self.cache_write_tokens,
            },
            "costUsd": self.cost_usd,
            "unpricedCalls": self.unpriced,
            "lastError": self.last_error,
        }


def limits_document(limits: Limits) -> dict[str, float | None]:
    return {
        "requestsPerMinute": limits.requests_per_minute,
        "tokensPerMinute": limits.tokens_per_minute,
        "maxConcurrency": limits.max_concurrency,
        "inputTokensPerMinute": limits.input_tokens_per_minute,
        "outputTokensPerMinute": limits.output_tokens_per_minute,
        "requestsPerDay": limits.requests_per_day,
    }
