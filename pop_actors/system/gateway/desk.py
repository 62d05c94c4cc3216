"""One provider as the gateway keeps it: the object that calls it, the lane that leads there, an account per model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pop_actors.core.limits import Limits
from pop_actors.core.observations import Feed, LimitSet
from pop_actors.errors import CallFailed, Refused
from pop_actors.providers.types import Provider
from pop_actors.system.gateway.account import Account, limits_document
from pop_actors.system.gateway.lane import Lane, WaitingRoom

KINDS_OF_LIMIT = ("requests_per_minute", "tokens_per_minute", "max_concurrency")


class Desk:
    """Used by the gateway's loop only. The provider is opened by the first call that needs it."""

    def __init__(
        self, name: str, kind: str | None, limits: Limits, room: WaitingRoom, opener: Callable[[], Provider], feed: Feed
    ) -> None:
        self.name = name
        self.lane = Lane(limits, room)
        self._kind = kind
        self._opener = opener
        self._feed = feed
        self._provider: Provider | None = None
        self._accounts: dict[str, Account] = {}
        for limit in KINDS_OF_LIMIT:
            self._tell(limit)

    def provider(self) -> Provider:
        """CallFailed unknown_provider or no_key where there is none."""
        if self._provider is None:
            self._provider = self._opener()
        return self._provider

    def account(self, model: str) -> Account:
        account = self._accounts.get(model)
        if account is None:
            account = self._accounts[model] = Account(self.name, model)
        return account

    def guess(self, model: str, size: int, max_tokens: int | None) -> float:
        """Tokens to reserve for a request. CallFailed bad_request where its prompt alone is over the limit."""
        guess = self.account(model).guess
        if not self.lane.fits(guess.input(size)):
            limit = self.lane.limits.tokens_per_minute
            raise CallFailed(
                "bad_request",
                f"the prompt has about {guess.input(size):.0f} tokens and {self.name}'s tokens_per_minute is {limit}; "
                "shorten it or raise the limit",
            )
        return guess.total(size, max_tokens)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set some limits. Refused bad_limit for another name or value; then nothing is changed."""
        for name, value in changes.items():
            if name not in KINDS_OF_LIMIT:
                raise Refused("bad_limit", f"no limit {name!r}; there are {', '.join(KINDS_OF_LIMIT)}")
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise Refused("bad_limit", f"{name} = {value!r}: a whole number from 1, or null for no limit")
        known = self.lane.limits
        self.lane.change(Limits(**{name: changes.get(name, getattr(known, name)) for name in KINDS_OF_LIMIT}))
        for name in changes:
            self._tell(name)

    def view(self, model: str | None) -> list[dict[str, Any]]:
        """An object per model used; for `model` where none was."""
        requests, tokens = self.lane.used()
        shared = {
            "kind": self._kind,
            "limits": limits_document(self.lane.limits),
            "used": {
                "requestsPerMinute": int(requests),
                "tokensPerMinute": round(tokens),
                "concurrency": self.lane.in_flight,
            },
        }
        documents = [account.document() for account in self._accounts.values()]
        if not documents:
            documents = [Account(self.name, model or "").document() | {"model": model}]
        return [document | shared for document in documents]

    async def close(self) -> None:
        self.lane.close()
        if self._provider is not None:
            await self._provider.close()

    def _tell(self, limit: str) -> None:
        self._feed.publish(LimitSet(self.name, limit, getattr(self.lane.limits, limit)))
