"""From a provider's name and its settings to the object that makes its calls."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from pop_actors.core.api_keys import ProviderKeys
from pop_actors.credentials import PROVIDER_KEYS
from pop_actors.errors import CallFailed
from pop_actors.providers import anthropic_wire, catalogue, gemini_wire, openai_wire, responses_wire
from pop_actors.providers.claude_code import ClaudeCodeProvider, Cli, passed_on
from pop_actors.providers.http_transport import Endpoint, HttpProvider, Streaming
from pop_actors.providers.keys import KeyedProvider
from pop_actors.providers.offline import OfflineProvider
from pop_actors.providers.prices import Prices, Rates
from pop_actors.providers.types import Provider, Wire

_log = logging.getLogger("pop_actors.providers")

Api = Literal["chat", "responses"]
WIRES: Mapping[tuple[str, Api], Wire] = MappingProxyType(
    {
        ("openai", "chat"): openai_wire,
        ("openai", "responses"): responses_wire,
        ("anthropic", "chat"): anthropic_wire,
        ("gemini", "chat"): gemini_wire,
    }
)
"""By kind and API; a kind with one API has it under `chat`."""


class ProviderTable(Protocol):
    """What `[gateway.providers.NAME]` says, as far as it matters here."""

    @property
    def kind(self) -> str | None: ...
    @property
    def base_url(self) -> str | None: ...
    @property
    def api_key_env(self) -> Sequence[str] | None: ...
    @property
    def api_key_file(self) -> Sequence[str] | None: ...
    @property
    def api(self) -> Api: ...
    @property
    def stream(self) -> Streaming: ...
    @property
    def drop_unsupported(self) -> bool: ...
    @property
    def command(self) -> Sequence[str]: ...
    @property
    def headers(self) -> Mapping[str, SecretStr]: ...
    @property
    def max_tokens_parameter(self) -> Literal["max_tokens", "max_completion_tokens"] | None: ...
    @property
    def schemas(self) -> Literal["native", "shown"] | None: ...


@dataclass(frozen=True, slots=True)
class Unset:
    """The table of a provider nothing is configured for."""

    kind: str | None = None
    base_url: str | None = None
    api_key_env: Sequence[str] | None = None
    api_key_file: Sequence[str] | None = None
    api: Api = "chat"
    stream: Streaming = "auto"
    drop_unsupported: bool = True
    command: Sequence[str] = ("claude",)
    headers: Mapping[str, SecretStr] = field(default_factory=dict)
    max_tokens_parameter: Literal["max_tokens", "max_completion_tokens"] | None = None
    schemas: Literal["native", "shown"] | None = None


def open_provider(
    name: str,
    table: ProviderTable | None,
    keys: ProviderKeys,
    idle: float,
    own_prices: Mapping[str, Rates] = MappingProxyType({}),
) -> Provider:
    """The provider of that name. CallFailed unknown_provider or no_key where there can be none.

    `idle` (s): the longest silence within a reply. `own_prices`: by model, what settings say of them.
    """
    table = table or Unset()
    kind = catalogue.kind_of(name, table.kind)
    if kind == catalogue.OFFLINE:
        return OfflineProvider()
    if kind is None:
        raise unknown_provider(name)
    vendor = catalogue.vendor_of(name, kind)
    if vendor is None:
        raise CallFailed("unknown_provider", f"provider {name}: the kind {kind} is not supported by this version")
    prices = Prices(catalogue.prices_at(table.base_url, vendor), own_prices)
    if kind == "claude-code":
        cli = _cli(name, vendor, table)
        if not keys.keys:
            return ClaudeCodeProvider(cli, prices)  # whoever is logged in there
        return _keyed(name, keys, lambda key: ClaudeCodeProvider(replace(cli, key=key), prices))
    wire = WIRES.get((kind, table.api))
    if wire is None:
        raise CallFailed("unknown_provider", f"provider {name}: the kind {kind} has no api {table.api}")
    endpoint = _endpoint(name, vendor, table, idle)
    if not keys.keys:
        _refuse_without_key(name, table, keys)
        return HttpProvider(endpoint, wire, prices)
    return _keyed(name, keys, lambda key: HttpProvider(replace(endpoint, key=key), wire, prices))


def _keyed(name: str, keys: ProviderKeys, calling: Callable[[SecretStr], Provider]) -> Provider:
    if keys.missing:
        _log.warning("provider %s goes on without some of its keys: %s", name, "; ".join(keys.missing))
    return KeyedProvider(name, [(key.name, calling(key.secret)) for key in keys.keys])


def unknown_provider(name: str) -> CallFailed:
    """The failure of a call to a provider nobody knows."""
    known = ", ".join([*catalogue.VENDORS, catalogue.OFFLINE])
    return CallFailed(
        "unknown_provider",
        f"no provider {name!r}; there are {known}, and any with a kind in a table [gateway.providers.NAME]",
    )


def _endpoint(name: str, vendor: catalogue.Vendor, table: ProviderTable, idle: float) -> Endpoint:
    base_url = table.base_url or vendor.base_url
    if not base_url:
        raise CallFailed("unknown_provider", f"provider {name}: set base_url in [gateway.providers.{name}]")
    _check_url(name, base_url)
    vendor = replace(
        vendor,
        max_tokens_parameter=table.max_tokens_parameter or vendor.max_tokens_parameter,
        schemas=table.schemas or vendor.schemas,
    )
    headers = {header.lower(): value for header, value in table.headers.items()}
    return Endpoint(name, base_url, None, vendor, idle, table.stream, table.drop_unsupported, headers)


def _cli(name: str, vendor: catalogue.Vendor, table: ProviderTable) -> Cli:
    if table.base_url is not None:
        _check_url(name, table.base_url)
    environment = passed_on(os.environ)
    return Cli(name, tuple(table.command), table.base_url, None, vendor, table.drop_unsupported, environment)


def _refuse_without_key(name: str, table: ProviderTable, keys: ProviderKeys) -> None:
    """A server of one's own (a base_url, and no key named) may do without a key; the vendors never do."""
    if table.base_url is None or table.api_key_env or table.api_key_file:
        places = (*(table.api_key_env or ()), *(table.api_key_file or ())) or (PROVIDER_KEYS.get(name, "api_key_env"),)
        why = "; ".join(keys.missing) or f"set {', '.join(places)}"
        raise CallFailed("no_key", f"provider {name} has no key: {why}; see to it where popd starts, and restart it")


def _check_url(name: str, base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        fine = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets or a port that are none
        fine = False
    if not fine:
        raise CallFailed("unknown_provider", f"provider {name}: its base_url is no http or https address")
