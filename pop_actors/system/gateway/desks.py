"""The desks by provider: made from the settings when they are first needed, closed together. Used by the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import replace

from pop_actors.config import GatewaySettings
from pop_actors.core.api_keys import ProviderKeys
from pop_actors.core.chat import ChatRequest
from pop_actors.core.limits import Limits
from pop_actors.core.observations import Feed, ModelKnown
from pop_actors.providers import catalogue
from pop_actors.providers.fitting import DROPPED, fit
from pop_actors.providers.prices import Prices, own_rates
from pop_actors.providers.registry import open_provider, unknown_provider
from pop_actors.providers.types import Provider
from pop_actors.storage.layout import Workspace
from pop_actors.system.gateway.call import Defaults
from pop_actors.system.gateway.desk import Check, Desk, limits_in
from pop_actors.system.gateway.lane import WaitingRoom
from pop_actors.system.gateway.recall import asked_since


class Desks:
    """`offline`, the default provider and whoever has a table have their desk from the start."""

    def __init__(
        self,
        settings: GatewaySettings,
        keys: Mapping[str, ProviderKeys],
        room: WaitingRoom,
        feed: Feed,
        luck: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._keys = keys
        self._room = room
        self._feed = feed
        self._luck = luck
        self._desks: dict[str, Desk] = {}
        kinds = {name: table.kind for name, table in settings.providers.items()}
        self.defaults = Defaults(settings.default_provider, settings.default_model, dict(kinds), settings.aliases)
        for name in {catalogue.OFFLINE: None, settings.default_provider: None, **settings.providers}:
            if self._kind(name) is not None:
                self.at(name)
                feed.publish(ModelKnown(name, self.default_model(name) or ""))

    def at(self, name: str) -> Desk:
        """The provider's desk. CallFailed unknown_provider for a name nothing stands behind."""
        desk = self._desks.get(name)
        if desk is None:
            desk = self._desks[name] = self._make(name)
        return desk

    def __iter__(self) -> Iterator[Desk]:
        """All there are now, by name."""
        return iter([self._desks[name] for name in sorted(self._desks)])

    def default_model(self, name: str) -> str | None:
        """Who answers at that provider where no model is named."""
        if name == self._settings.default_provider and self._settings.default_model:
            return self._settings.default_model
        kind = self._kind(name)
        return None if kind is None else catalogue.default_model(name, kind)

    def configured(self) -> list[str]:
        """The providers somebody means to use: the default one, those with a table and those with a key."""
        with_keys = [name for name, keys in self._keys.items() if keys.keys]
        return sorted({self._settings.default_provider, *self._settings.providers, *with_keys})

    def prices(self, name: str) -> Prices:
        """What the provider's models cost, as far as it is known."""
        kind = self._kind(name)
        vendor = None if kind is None else catalogue.vendor_of(name, kind)
        return Prices(None if vendor is None else vendor.prices, own_rates(name, self._settings.prices))

    def recall(self, workspace: Workspace, now: float) -> None:
        """Count on from what was asked before this start; `now` in seconds since the epoch."""
        reach = max(desk.reach for desk in self._desks.values())
        if not reach:
            return
        clock = asyncio.get_running_loop().time()
        for asked in asked_since(workspace, now - reach):
            desk = self._desks.get(asked.provider)
            if desk is not None:
                desk.recall(asked, clock - max(0.0, now - asked.at))

    async def close(self) -> None:
        desks, self._desks = self._desks, {}
        for desk in desks.values():
            await desk.close()

    def _make(self, name: str) -> Desk:
        kind = self._kind(name)
        if kind is None:
            raise unknown_provider(name)
        table = self._settings.providers.get(name)
        limits = limits_in(table) if table else Limits()
        if limits.max_concurrency is None:
            limits = replace(limits, max_concurrency=catalogue.max_concurrency(name, kind))
        models = {model: limits_in(own) for model, own in table.models.items()} if table else {}
        return Desk(
            name,
            kind,
            limits,
            self._room,
            lambda: self._open(name),
            self._feed,
            models=models,
            luck=self._luck,
            check=_check(catalogue.vendor_of(name, kind), drop=table.drop_unsupported if table else True),
        )

    def _open(self, name: str) -> Provider:
        keys = self._keys.get(name, ProviderKeys())
        own = own_rates(name, self._settings.prices)
        table = self._settings.providers.get(name)
        return open_provider(name, table, keys, self._settings.idle_timeout_seconds, own)

    def _kind(self, name: str) -> str | None:
        return catalogue.kind_of(name, self.defaults.kinds.get(name))


def _check(vendor: catalogue.Vendor | None, *, drop: bool) -> Check:
    """Raises AttemptFailed for what a model is known to refuse: before it waits for a place, and is written down as
    sent."""

    def check(request: ChatRequest, model: str, configured: Container[str]) -> None:
        if vendor is not None:
            asked = {name for name in DROPPED if name not in configured}
            fit(request, model, vendor, drop=drop, asked=asked)

    return check
