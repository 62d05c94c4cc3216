"""A provider with several keys: the first that stands makes the call, and the next takes over when it is exhausted.

Wraps one provider per key. Never shows a key: people are told the name of the place it was read from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pop_actors.core.api_keys import KeyRing, Rest
from pop_actors.core.chat import ChatRequest
from pop_actors.providers.types import AttemptFailed, Provider, ProviderReply

MOST_WORDS = 200

_log = logging.getLogger("pop_actors.gateway")


@dataclass(frozen=True, slots=True)
class KeyStanding:
    """What people are shown of one key. `reason` and `seconds` (until it is tried again) while it stands down."""

    name: str
    reason: str | None = None
    seconds: float | None = None

    def document(self) -> dict[str, Any]:
        """Its JSON shape."""
        seconds = None if self.seconds is None else round(self.seconds, 1)
        return {"name": self.name, "standing": self.reason is None, "reason": self.reason, "triedAgainIn": seconds}


class KeyedProvider:
    """A `Provider` over those of its keys: pairs of a key's name and what calls with it, in the order of their use.

    A refused key costs one request more within the same attempt: it was refused before any work, so nothing is paid
    twice, and the caller need not know.
    """

    def __init__(self, name: str, calling: Sequence[tuple[str, Provider]]) -> None:
        self._name = name
        self._providers = [provider for _, provider in calling]
        self._ring = KeyRing([key for key, _ in calling])

    async def chat(self, request: ChatRequest, model: str, deadline: float) -> ProviderReply:
        """As `Provider.chat`. AttemptFailed auth or quota, permanent, with every key's reason where none stands."""
        details: dict[str, Any] = {}
        while True:
            now = time.monotonic()
            place = self._ring.pick(model, now)
            if place is None:
                raise self._all_down(model, now, details)
            try:
                reply = await self._providers[place].chat(request, model, deadline)
            except AttemptFailed as failure:
                if not _is_about_the_key(failure):
                    raise
                self._stand_down(place, model, failure)
                if failure.usage is not None:
                    raise  # it was billed: another request would pay twice
                details = failure.details
            else:
                self._ring.worked(place, model, time.monotonic())
                return reply
            finally:
                self._ring.untold(place, model)

    async def close(self) -> None:
        for provider in self._providers:
            await provider.close()

    def keys(self, model: str) -> list[KeyStanding]:
        """How each key stands for that model, in the order of their use."""
        now = time.monotonic()
        resting = self._ring.resting(model, now)
        return [_standing(name, resting.get(place), now) for place, name in enumerate(self._ring.names)]

    def restore(self) -> None:
        """Try every key again at once: somebody has paid, or given a permission."""
        self._ring.restore()

    def _stand_down(self, place: int, model: str, failure: AttemptFailed) -> None:
        said = failure.message[:MOST_WORDS]
        wish = failure.details.get("tryAgainIn")
        lasting = self._ring.refused(place, model, failure.code, said, time.monotonic(), wish)
        if lasting is not None:
            _log.warning(
                "provider %s refuses key %s (%s): it stands down for %.0f s for this model",
                self._name, self._ring.names[place], failure.code, lasting, extra={"model": model},
            )  # fmt: skip

    def _all_down(self, model: str, now: float, details: dict[str, Any]) -> AttemptFailed:
        resting = self._ring.resting(model, now)
        first = min(resting.values(), key=lambda rest: rest.until)
        reasons = "; ".join(
            f"key {self._ring.names[place]}: {rest.message} (tried again in {rest.until - now:.0f} s)"
            for place, rest in resting.items()
        )
        return AttemptFailed(first.code, reasons, "permanent", details={**details, "keysDown": len(resting)})

    def __repr__(self) -> str:
        return f"KeyedProvider({self._name}, {self._ring})"


def _is_about_the_key(failure: AttemptFailed) -> bool:
    """Whether another request with that key would fail likewise. A 403 may as well be about what was asked."""
    if failure.fate != "permanent":
        return False
    if failure.code == "auth":
        return failure.details.get("status") != HTTPStatus.FORBIDDEN
    return failure.code == "quota"


def _standing(name: str, rest: Rest | None, now: float) -> KeyStanding:
    if rest is None:
        return KeyStanding(name)
    return KeyStanding(name, f"{rest.code}: {rest.message}", rest.until - now)
