"""What the scripted servers of single wire formats share: sockets, the calls they got, and models' names as scripts.

A model's name is directives joined by `+`, each a word and its arguments joined by `_`: `usage_12_34+cached_5`. What a
word does is the server's own affair; these are everybody's:
    fail_STATUS      an error status, with after_SECONDS as its Retry-After; fail_STATUS_2: twice per prompt, then ok
    slow_MS          so many milliseconds before the answer
    cut              the body, or the stream, ends without its end
    stall            half of the answer, and then nothing
    left_3_10        its headers say that so many of so many requests are left
"""

from __future__ import annotations

import argparse
import hashlib
import json
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Received:
    """One call as it arrived; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    script: dict[str, list[str]]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.body, sort_keys=True).encode()).hexdigest()

    def number(self, word: str, place: int = 0, otherwise: int = 0) -> int:
        """An argument of a directive."""
        arguments = self.script.get(word, [])
        return int(arguments[place]) if len(arguments) > place else otherwise


@dataclass(frozen=True)
class Answer:
    """A document, or the events of a stream."""

    document: dict[str, Any] | list[Any] = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    events: Sequence[str] | None = None

    def pieces(self) -> list[bytes]:
        """The body, cut where it may break."""
        if self.events is not None:
            return [event.encode() for event in self.events]
        body = json.dumps(self.document).encode()
        return [body[: len(body) // 2], body[len(body) // 2 :]]


def script_of(model: str) -> dict[str, list[str]]:
    return {word: arguments for word, *arguments in (part.split("_") for part in model.split("+"))}


class WireServer(ABC):
    """A server in threads of its own. `calls` are in order of arrival. `limit_header` is how it tells of limits."""

    limit_header = "x-ratelimit-{what}-requests"

    def __init__(self, port: int = 0) -> None:
        self.calls: list[Received] = []
        self.over = threading.Event()
        self._failed: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Handler, self))
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="provider", daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @abstractmethod
    def model(self, path: str, body: dict[str, Any]) -> str | None:
        """The model that is asked; None where nobody is at home."""

    @abstractmethod
    def reply(self, call: Received) -> Answer:
        """What a call that does not fail gets."""

    @abstractmethod
    def error(self, status: int, call: Received) -> dict[str, Any]:
        """The body of an error status."""

    def answer(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> tuple[Answer, dict[str, list[str]]]:
        model = self.model(path, body)
        if model is None:
            return Answer({"error": {"message": f"nothing is at {path}"}}, 404), {}
        call = Received(path, headers, body, script_of(model))
        with self._lock:
            self.calls.append(call)
            self._failed[call.sha256] += 1
            fails = "fail" in call.script and self._failed[call.sha256] <= call.number("fail", 1, 1 << 30)
        if "slow" in call.script:
            self.over.wait(call.number("slow") / 1000)
        if not fails:
            answer = self.reply(call)
            return replace(answer, headers=answer.headers | self._limits(call)), call.script
        status = call.number("fail")
        after = {"retry-after": str(call.number("after"))} if "after" in call.script else {}
        return Answer(self.error(status, call), status, after), {}

    def _limits(self, call: Received) -> dict[str, str]:
        told = zip(("remaining", "limit"), call.script.get("left", ()), strict=False)
        return {self.limit_header.format(what=what): number for what, number in told}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, server: WireServer, *arguments: Any) -> None:
        self._wire = server
        super().__init__(*arguments)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer, script = self._wire.answer(self.path, headers, body)
        pieces = answer.pieces()
        kind = "application/json" if answer.events is None else "text/event-stream"
        self.send_response(answer.status)
        for name, value in {"content-type": kind, "transfer-encoding": "chunked", **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if "cut" in script or "stall" in script:
            pieces = pieces[: -(-len(pieces) // 2)]
        for piece in pieces:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        if "stall" in script:
            self._wire.over.wait()
        # a stream that is cut ends as if nothing was missing
        if "cut" not in script or answer.events is not None:
            self.wfile.write(b"0\r\n\r\n")
        self.close_connection = self.close_connection or "cut" in script or "stall" in script

    def log_message(self, *_: Any) -> None:
        """Tests look at `calls`."""


def serve(kind: type[WireServer]) -> None:
    """Be a process: write the port to the port file and go on until somebody ends it."""
    parser = argparse.ArgumentParser(description=kind.__doc__)
    parser.add_argument("--port-file", type=Path)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    with kind(arguments.port) as server:
        if arguments.port_file is not None:
            fresh = arguments.port_file.with_suffix(".tmp")
            fresh.write_text(str(server.port))
            fresh.rename(arguments.port_file)
        server.over.wait()
