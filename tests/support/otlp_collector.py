"""An OpenTelemetry collector on a real socket: takes traces over HTTP, and remembers them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True)
class Taken:
    """One span. Ids are in hexadecimal, `parent` empty at the root; times in nanoseconds."""

    trace: str
    id: str
    parent: str
    name: str
    begin: int
    end: int
    error: str | None
    kind: int
    attributes: dict[str, Any]
    resource: dict[str, Any] = field(repr=False)


class Collector:
    """`spans` in order of arrival, `headers` of each request. `silent`: it takes connections and never answers."""

    def __init__(self, *, silent: bool = False) -> None:
        self.spans: list[Taken] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.silent = silent
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, collector: Collector, *arguments: Any) -> None:
        self._collector = collector
        super().__init__(*arguments)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        if self._collector.silent:
            self._collector.over.wait()
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self._collector.paths.append(self.path)
        self._collector.headers.append({name.lower(): value for name, value in self.headers.items()})
        self._collector.spans += _spans(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Tests look at what was taken."""


def _spans(request: Any) -> Iterator[Taken]:
    for told in request.resource_spans:
        resource = _values(told.resource.attributes)
        for span in (span for scope in told.scope_spans for span in scope.spans):
            yield Taken(
                span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.name,
                span.start_time_unix_nano, span.end_time_unix_nano,
                span.status.message if span.status.code == 2 else None, span.kind, _values(span.attributes), resource,
            )  # fmt: skip


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
