"""From a provider's name and its settings to the object that makes its calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from pop_actors.errors import CallFailed
from pop_actors.providers import catalogue
from pop_actors.providers.offline import OfflineProvider
from pop_actors.providers.openai_http import Endpoint, OpenAIProvider
from pop_actors.providers.types import Provider


class ProviderTable(Protocol):
    """What `[gateway.providers.NAME]` says, as far as it matters here."""

    @property
    def kind(self) -> str | None: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def api_key_env(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Unset:
    """The table of a provider nothing is configured for."""

    kind: str | None = None
    base_url: str | None = None
    api_key_env: str | None = None


def open_provider(
    name: str, table: ProviderTable | None, keys: Mapping[str, SecretStr], variables: Mapping[str, str], idle: float
) -> Provider:
    """The provider of that name. CallFailed unknown_provider or no_key where there can be none.

    `keys` by provider, `variables`: the environment variable each key is read from, `idle` (s) the longest silence
    within a reply.
    """
    table = table or Unset()
    kind = catalogue.kind_of(name, table.kind)
    if kind == catalogue.OFFLINE:
        return OfflineProvider()
    if kind == "openai":
        return OpenAIProvider(_endpoint(name, table, keys, variables, idle))
    if kind is None:
        raise unknown_provider(name)
    raise CallFailed("unknown_provider", f"provider {name}: the kind {kind} is not supported by this version")


def unknown_provider(name: str) -> CallFailed:
    """The failure of a call to a provider nobody knows."""
    known = ", ".join([*catalogue.VENDORS, catalogue.OFFLINE])
    return CallFailed(
        "unknown_provider",
        f"no provider {name!r}; there are {known}, and any with a kind in a table [gateway.providers.NAME]",
    )


def _endpoint(
    name: str, table: ProviderTable, keys: Mapping[str, SecretStr], variables: Mapping[str, str], idle: float
) -> Endpoint:
    vendor = catalogue.VENDORS.get(name, catalogue.COMPATIBLE)
    base_url = table.base_url or vendor.base_url
    if not base_url:
        raise CallFailed("unknown_provider", f"provider {name}: set base_url in [gateway.providers.{name}]")
    key = keys.get(name)
    variable = table.api_key_env or variables.get(name, f"{name.upper()}_API_KEY")
    # a server of one's own (a base_url, no api_key_env) may do without a key; the vendors never do
    if key is None and (table.api_key_env is not None or table.base_url is None):
        raise CallFailed("no_key", f"provider {name} has no key: set {variable} where popd starts, and start it again")
    if key is not None and not _fits_a_header(key.get_secret_value()):
        raise CallFailed("no_key", f"provider {name}: {variable} holds a space or another sign no key has")
    _check_url(name, base_url)
    return Endpoint(name, base_url, key, vendor, idle)


def _fits_a_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key


def _check_url(name: str, base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        fine = False
    if not fine:
        raise CallFailed("unknown_provider", f"provider {name}: its base_url is no http or https address")
