"""Sends the spans of runs to an OTLP collector; the only user of the OpenTelemetry SDK, which is imported with it.

Hears the feed, in the daemon alone. Spans wait in a bounded queue for a thread of their own: a collector that does not
answer costs spans, never work. Knows no prompt and no reply.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator

from pop_actors import __version__
from pop_actors.core.observations import Observation
from pop_actors.telemetry.spans import Span, spans_of

MOST_WAITING = 4096
BATCH = 512
EVERY_SECONDS = 2.0
REQUEST_SECONDS = 10.0
FAREWELL_SECONDS = 3.0
QUIET_SECONDS = 60.0
NANOSECONDS = 1_000_000_000

_log = logging.getLogger("pop_actors.telemetry")


class Tracer:
    """Makes each span the SDK's, and hands it over. `on_observation` may be called from any thread, until `close`."""

    def __init__(self, address: str, headers: Mapping[str, str], service_name: str) -> None:
        self._exporter = OTLPSpanExporter(address, headers=dict(headers), timeout=REQUEST_SECONDS)
        logging.getLogger(OTLPSpanExporter.__module__).addFilter(_Seldom())
        self._ids = _GivenIds()
        resource = Resource.create({"service.name": service_name, "service.version": __version__})
        self._provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self._exporter,
                max_queue_size=MOST_WAITING,
                schedule_delay_millis=EVERY_SECONDS * 1000,
                max_export_batch_size=BATCH,
            )
        )
        self._tracer = self._provider.get_tracer("pop_actors", __version__)

    def on_observation(self, observation: Observation) -> None:
        """The feed's listener."""
        for span in spans_of(observation, time.time()):
            self._hand_over(span)

    def close(self) -> None:
        """Send what waits, for a few seconds at most. A second call does nothing."""
        closing = threading.Thread(target=self._provider.shutdown, name="telemetry-farewell", daemon=True)
        closing.start()
        closing.join(FAREWELL_SECONDS)
        if closing.is_alive():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the library leaves this one untyped
            _log.warning("the collector of traces did not take the last spans within %g s", FAREWELL_SECONDS)

    def _hand_over(self, span: Span) -> None:
        self._ids.give(span)
        made = self._tracer.start_span(
            span.name,
            _below(span),
            kind=trace.SpanKind.CLIENT if span.is_call else trace.SpanKind.INTERNAL,
            attributes=span.attributes,
            start_time=int(span.begin * NANOSECONDS),
        )
        if span.error is not None:
            made.set_status(trace.StatusCode.ERROR, span.error)
        made.end(int(span.end * NANOSECONDS))


def _below(span: Span) -> Context:
    if span.parent is None:
        return Context()
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    above = trace.SpanContext(span.trace, span.parent, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(above), Context())


class _Seldom(logging.Filter):
    """Lets through one line a minute: a collector that is down would be told of with every batch, several times."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet_until = 0.0

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002  (whatever it says)
        now = time.monotonic()
        if now < self._quiet_until:
            return False
        self._quiet_until = now + QUIET_SECONDS
        return True


class _GivenIds(threading.local, IdGenerator):
    """Ids are settled before a span is made, each thread's for itself."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._trace = 0
        self._span: int | None = None

    def give(self, span: Span) -> None:
        self._trace, self._span = span.trace, span.id

    def generate_span_id(self) -> int:
        return self._random.generate_span_id() if self._span is None else self._span

    def generate_trace_id(self) -> int:
        return self._trace
