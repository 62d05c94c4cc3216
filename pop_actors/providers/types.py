"""The seam between the gateway and the world's model providers: one verb, one reply, one way to fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from pop_actors.core.chat import ChatRequest, FinishReason, Usage
from pop_actors.core.limits import Fate
from pop_actors.errors import CallFailed


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """A completion as bought. `cost_usd` is None where the price is unknown."""

    content: str
    usage: Usage
    finish_reason: FinishReason
    cost_usd: float | None


class AttemptFailed(CallFailed):
    """One request to a provider failed.

    `fate` says what became of it there, and so whether it may be sent again; `retry_after` (s) is the provider's wish.
    `usage` is given where it was billed nevertheless; `cost_usd` then as in a reply.
    """

    def __init__(
        self,
        code: str,
        message: str,
        fate: Fate,
        *,
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
        usage: Usage | None = None,
        cost_usd: float | None = None,
    ) -> None:
        super().__init__(code, message, details)
        self.fate: Fate = fate
        self.retry_after = retry_after
        self.usage = usage
        self.cost_usd = cost_usd


class Provider(Protocol):
    """A provider of completions. Used by one event loop; holds its own connections and no other state."""

    async def chat(self, request: ChatRequest, model: str, deadline: float) -> ProviderReply:
        """Make one request, once. AttemptFailed however it fails.

        `deadline` is in the running loop's time; the call has ended by then, with the code `timeout` at the latest.
        """

    async def close(self) -> None:
        """Let go of every connection; a second call does nothing."""
