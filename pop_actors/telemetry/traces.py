"""Whether runs are traced, and where to: reads `[telemetry]` and opens a tracer, or none.

Imports nothing of OpenTelemetry before a collector is set.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from pop_actors.errors import SettingsError

if TYPE_CHECKING:
    from pop_actors.telemetry.tracer import Tracer

PATH = "/v1/traces"
NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


class TelemetryTable(Protocol):
    """What `[telemetry]` says."""

    @property
    def otlp_endpoint(self) -> str | None: ...
    @property
    def headers(self) -> Mapping[str, SecretStr]: ...
    @property
    def service_name(self) -> str: ...


def check(table: TelemetryTable) -> None:
    """SettingsError where traces are wanted, and what sends them is not installed."""
    missing = [name for name in NEEDED if not _is_installed(name)] if table.otlp_endpoint is not None else []
    if missing:
        raise SettingsError(
            f"[telemetry.otlp_endpoint] is set, but {missing[0]} is not installed: pip install 'pop-actors[otel]', or "
            "remove the setting"
        )


def open_tracer(table: TelemetryTable) -> Tracer | None:
    """The tracer to hang on the feed; None where no collector is set. SettingsError as `check`."""
    if table.otlp_endpoint is None:
        return None
    check(table)
    from pop_actors.telemetry import tracer  # the SDK, which a daemon without a collector must not carry

    headers = {name: value.get_secret_value() for name, value in table.headers.items()}
    return tracer.Tracer(address(table.otlp_endpoint), headers, table.service_name)


def address(endpoint: str) -> str:
    """Where spans are posted: at the path of OTLP where the endpoint has none."""
    return endpoint if urlsplit(endpoint).path.strip("/") else endpoint.rstrip("/") + PATH


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # of what it stands in
        return False
