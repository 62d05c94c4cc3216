"""What the tables of providers must say together, which no key can tell by itself. Called by the settings. Pure.

It knows the providers by name only: how each is asked is the business of `providers/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit

from pop_actors.core.provider_names import KINDS


class Fault(NamedTuple):
    """A key of `[gateway]` whose value cannot be meant. `value` None: there is none, or it is not to be shown."""

    key: str
    value: str | None
    allowed: str


class ProviderTable(Protocol):
    """What is looked at of `[gateway.providers.NAME]`."""

    @property
    def kind(self) -> str | None: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def api(self) -> str: ...


def faults_of(default_provider: str, providers: Mapping[str, ProviderTable]) -> Iterator[Fault]:
    """All that would only show when somebody makes a call."""
    if default_provider not in {*KINDS, *providers}:
        known = ", ".join([*KINDS, *(name for name in providers if name not in KINDS)])
        yield Fault("default_provider", default_provider, f"no such provider; there are {known}")
    for name, table in providers.items():
        place = f"providers.{name}"
        kind = table.kind or KINDS.get(name)
        if kind is None:
            kinds, known = ", ".join(sorted(set(KINDS.values()))), ", ".join(KINDS)
            yield Fault(f"{place}.kind", None, f"one of {kinds} stands here; only {known} can do without")
        if table.base_url is not None and not _is_address(table.base_url):
            shown = None if "@" in table.base_url else table.base_url  # a password may stand before it
            yield Fault(f"{place}.base_url", shown, "an http or https address stands here, as http://127.0.0.1:8000/v1")
        if table.api != "chat" and kind not in {"openai", None}:
            yield Fault(f"{place}.api", table.api, f"the kind {kind} has no other than 'chat'")


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        return False
