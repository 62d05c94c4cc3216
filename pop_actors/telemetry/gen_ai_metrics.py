"""The calls of the service under OpenTelemetry's names, as its Prometheus exporter prints them.

Kept by `Metrics`, beside the service's own names and from the same observations.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from pop_actors.core.observations import CallEnded
from pop_actors.telemetry.gen_ai import CHAT, DURATION_BUCKETS, TOKEN_BUCKETS, error_type, provider_name
from pop_actors.telemetry.labelled import Labelled

_WHO = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")


class GenAiMetrics:
    """Two histograms: how long calls took, and how many tokens each used."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Labelled(
            Histogram(
                "gen_ai_client_operation_duration_seconds",
                "From permit to end of a call.",
                (*_WHO, "error_type"),
                registry=registry,
                buckets=DURATION_BUCKETS,
            )
        )
        self._tokens = Labelled(
            Histogram(
                "gen_ai_client_token_usage",
                "Tokens of a call, by type; those of a cache and of reasoning are within.",
                (*_WHO, "gen_ai_token_type"),
                registry=registry,
                buckets=TOKEN_BUCKETS,
            )
        )

    def call_ended(self, seen: CallEnded, model: str, wrote: str) -> None:
        """`model` and `wrote` are the names to count under: names are bounded elsewhere."""
        who = (CHAT, provider_name(seen.provider), model, wrote)
        self._seconds.labels(*who, error_type(seen.outcome)).observe(seen.seconds)
        if seen.input_tokens or seen.output_tokens:
            self._tokens.labels(*who, "input").observe(seen.input_tokens)
            self._tokens.labels(*who, "output").observe(seen.output_tokens)
