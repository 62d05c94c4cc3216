"""The gateway itself: one chat in, one paid reply out, bought at most once. Lives in one asyncio loop, without locks.

The gateway's actor calls it; it calls providers and writes the jobs' journals. It never touches a status file: what
was paid goes to `on_paid`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import SecretStr

from pop_actors.config import PROVIDER_KEYS, GatewaySettings, ProviderSettings
from pop_actors.core.events import CallPaid
from pop_actors.core.limits import Limits
from pop_actors.core.messages import Chat
from pop_actors.core.observations import Feed
from pop_actors.errors import CallFailed, Unavailable
from pop_actors.providers import catalogue
from pop_actors.providers.registry import open_provider, unknown_provider
from pop_actors.providers.types import Provider
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway.account import limits_document
from pop_actors.system.gateway.call import Call, Defaults, resolve
from pop_actors.system.gateway.desk import Desk
from pop_actors.system.gateway.journal import Journals
from pop_actors.system.gateway.lane import WaitingRoom
from pop_actors.system.gateway.purchase import Purchase, Shop

_log = logging.getLogger("pop_actors.gateway")
OnPaid = Callable[[str, CallPaid], None]


class Gateway:
    """Every method runs in the loop it was made in.

    `on_paid(job_id, event)` is called once per purchase, when it is on disk and before its reply is delivered; it
    returns at once.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Mapping[str, SecretStr],
        workspace: Workspace,
        feed: Feed,
        on_paid: OnPaid,
        *,
        clock: Callable[[], float] = time.time,
        luck: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._feed = feed
        self._journals = Journals(workspace)
        self._room = WaitingRoom(settings.max_waiting_per_job, settings.max_waiting)
        self._shop = Shop(self._journals, feed, on_paid, settings.max_retries, clock, luck)
        self._purchases: dict[tuple[str, str], Purchase] = {}  # by job and key
        self._closing = False
        kinds = {name: table.kind for name, table in settings.providers.items()}
        self._defaults = Defaults(settings.default_provider, settings.default_model, dict(kinds))
        self._desks: dict[str, Desk] = {}
        for name in {catalogue.OFFLINE: None, settings.default_provider: None, **kinds}:
            if self._kind(name) is not None:
                self._desk(name)

    async def chat(self, chat: Chat) -> dict[str, Any]:
        """The document of a `ChatReply`. CallFailed where there is none; Unavailable while the gateway closes.

        A call that is paid in the job's journal is replayed; one that is being bought is waited for.
        """
        if self._closing:
            raise Unavailable("the gateway is closing")
        deadline = asyncio.get_running_loop().time() + min(chat.timeout, self._settings.request_timeout_seconds)
        call = resolve(chat, self._defaults)
        purchase = self._purchases.get(call.place)
        if purchase is None:
            return await self._outcome(self._begin(call, deadline))
        purchase.job_gone = False
        try:
            async with asyncio.timeout_at(deadline):
                return await self._outcome(purchase)
        except TimeoutError:
            raise CallFailed(
                "timeout", "the call's deadline came while it was being bought for an earlier ask"
            ) from None

    def job_gone(self, job_id: str) -> None:
        """The job's process ended: drop what it waits for, keep what is on its way, forget its journal after that."""
        for purchase in [known for known in self._purchases.values() if known.call.job_id == job_id]:
            purchase.job_gone = True
            if not (purchase.sending or purchase.paid):
                # out of the table now: the job's next process may ask the same again before the task has ended
                self._forget(purchase)
                purchase.cancel()
        self._journals.drop(job_id)

    def set_limits(self, provider: str, **limits: int | None) -> dict[str, Any]:
        """Change some of a provider's limits; all of them as they are then. Refused bad_limit or unknown_provider."""
        desk = self._desk(provider)
        desk.change(limits)
        return limits_document(desk.lane.limits)

    def view(self) -> list[dict[str, Any]]:
        """One JSON object per provider and model, since the gateway started."""
        return [row for name, desk in sorted(self._desks.items()) for row in desk.view(self._model(name))]

    async def close(self) -> None:
        """End every call (askers hear Unavailable), write what was paid, close connections and files. Idempotent."""
        self._closing = True
        while self._purchases:
            under_way = list(self._purchases.values())
            for purchase in under_way:
                if not purchase.paid:
                    purchase.cancel()
            await asyncio.wait([purchase.task for purchase in under_way])
        desks, self._desks = self._desks, {}
        for desk in desks.values():
            await desk.close()
        if desks:
            self._journals.close()

    def _begin(self, call: Call, deadline: float) -> Purchase:
        purchase = Purchase(call, deadline, self._desk(call.provider), self._shop)
        self._purchases[call.place] = purchase
        purchase.start(self._forget)
        return purchase

    def _forget(self, purchase: Purchase) -> None:
        if self._purchases.get(purchase.call.place) is purchase:
            del self._purchases[purchase.call.place]

    async def _outcome(self, purchase: Purchase) -> dict[str, Any]:
        """What a purchase comes to. It goes on when the asker does not."""
        try:
            return await purchase.outcome()
        except asyncio.CancelledError:
            if not purchase.task.cancelled():
                raise  # it is the asker who was cancelled
            if self._closing:
                raise Unavailable("the gateway is closing") from None
            raise CallFailed("cancelled", "the job's process ended while the call was waiting") from None
        except CallFailed:
            raise
        except Exception as error:
            _log.exception("a call to %s failed for a reason of our own", purchase.call.provider)
            raise CallFailed("internal", f"the gateway failed: {type(error).__name__}: {error}") from error

    def _desk(self, name: str) -> Desk:
        """The provider's desk. CallFailed unknown_provider for a name nothing stands behind."""
        desk = self._desks.get(name)
        if desk is None:
            table = self._settings.providers.get(name)
            if self._kind(name) is None:
                raise unknown_provider(name)
            limits = (
                Limits(table.requests_per_minute, table.tokens_per_minute, table.max_concurrency) if table else Limits()
            )
            desk = Desk(name, self._kind(name), limits, self._room, lambda: self._open(name), self._feed)
            self._desks[name] = desk
        return desk

    def _open(self, name: str) -> Provider:
        table: ProviderSettings | None = self._settings.providers.get(name)
        return open_provider(name, table, self._keys, PROVIDER_KEYS, self._settings.idle_timeout_seconds)

    def _kind(self, name: str) -> str | None:
        return catalogue.kind_of(name, self._defaults.kinds.get(name))

    def _model(self, name: str) -> str | None:
        if name == self._settings.default_provider and self._settings.default_model:
            return self._settings.default_model
        kind = self._kind(name)
        return None if kind is None else catalogue.default_model(name, kind)

    def __repr__(self) -> str:
        return f"Gateway({len(self._purchases)} calls under way, {self._room.waiting} waiting)"
