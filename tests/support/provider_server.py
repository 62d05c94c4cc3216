"""A model provider on a real socket that does what the model's name says and counts every call it gets.

In a test: `with ProviderServer() as server:` then `server.base_url`, `server.calls`, `server.most_at_once`.
As a process: `python tests/support/provider_server.py --port-file F [--log F] [--port N]`; it writes its port to the
port file, one JSON line per chat request to the log before it replies, answers `GET /stats`, and has the mood that is
posted to `/mood` (`{"mood": NAME}`, null: none) until the next one.
It speaks chat completions and, at a path that ends in /responses, responses; both as streams where a request says so.

A model's name is directives joined by `+`. How the answer looks:
    ok                     a plain reply (any word it does not know means the same)
    slow-200ms, slow-2s    wait before replying
    usage-12-34            say that so many prompt and completion tokens were used
    cached-5               and so many of the prompt's were cached; cached-5-deepseek, cached-5-kimi: their way
    reasoning-7            and so many of the completion's were reasoning
    written-9              and so many of the prompt's were written to a cache
    big-10mb               a reply of that many megabytes
    tool-NAME              a call of that tool instead of text
    nostream               a plain reply, although a stream was asked for
    silent-200ms           a stream is silent for that long after its head; pings-200ms: but for keep-alives
    left-3-of-10           say that so many of so many requests are left
    hold                   the connection stays open after a stream's terminator
What goes wrong, for ever or, with a count, as often per prompt (`fail-429-2`: twice, then ok):
    fail-STATUS            an error status; with after-1s, after-500ms or date-2s: with that Retry-After
    word-1113              with that code in its body
    quota                  a 429 that says insufficient_quota
    reset, hangup          the connection is reset, or closed, instead of a reply
    cut                    the body ends early
    endless, stall, hole   a body that never ends; a head and then nothing; nothing at all
    drip-100ms             the reply, a byte at a time, so far apart
    empty, garbage, notjson, nochoices, wrongtypes, deep     200 with a body that is no chat completion
    truncated, blocked, emptytext                            200 with usage, but without text
    unfinished, streamerror, streamstall                     a stream that ends, fails or stops in the middle
    redirect               a 307 to another server
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self

# run as a file, it is beside neither pop_actors nor support
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.provider_replies import (
    WITHOUT_TEXT,
    Reply,
    completion_events,
    content_of,
    error_event,
    response_events,
)

TLS_HANDSHAKE = b"\x16"  # this server speaks no TLS, and hangs up on who does

FAULTS = (
    "fail", "quota", "reset", "hangup", "cut", "endless", "stall", "hole", "empty", "garbage", "notjson", "nochoices",
    "wrongtypes", "deep", "truncated", "blocked", "emptytext", "redirect", "unfinished", "streamerror", "streamstall",
)  # fmt: skip
FAREWELL_TURNS = 10  # of the loop: the socket is read, the reader is told, its task goes on


@dataclass(frozen=True)
class Received:
    """One chat request as it arrived. `at`: seconds since the epoch; `since`: monotonic seconds."""

    path: str
    model: str
    sha256: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float
    since: float


@dataclass
class Script:
    """What a model's name asks for."""

    delay: float = 0.0
    fault: str | None = None
    status: int = 500
    times: float = float("inf")
    retry_after: dict[str, str] = field(default_factory=dict)
    usage: tuple[int, int] = (12, 34)
    cached: tuple[int, str] = (0, "openai")
    megabytes: float = 0.0
    reasoning: int = 0
    written: int = 0
    word: str | None = None
    tool: str | None = None
    streams: bool = True
    limits: dict[str, str] = field(default_factory=dict)
    silence: float = 0.0
    drip: float = 0.0
    pings: bool = False
    holds: bool = False
    key: str = ""

    @classmethod
    def of(cls, model: str) -> Script:
        script = cls()
        for directive in model.split("+"):
            word, *rest = directive.split("-")
            script._take(word, rest)
        return script

    def _take(self, word: str, rest: list[str]) -> None:
        if word in FAULTS:
            self.fault = word
            if word == "fail":
                self.status, rest = int(rest[0]), rest[1:]
            self.times = int(rest[0]) if rest else float("inf")
        elif word == "slow":
            self.delay = _seconds(rest[0])
        elif word == "after":
            text = rest[0]
            header = "retry-after-ms" if text.endswith("ms") else "retry-after"
            self.retry_after = {header: text.removesuffix("ms").removesuffix("s")}
        elif word == "date":
            self.retry_after = {"retry-after": formatdate(time.time() + _seconds(rest[0]), usegmt=True)}
        elif word == "usage":
            self.usage = (int(rest[0]), int(rest[1]))
        elif word == "cached":
            self.cached = (int(rest[0]), rest[1] if len(rest) > 1 else "openai")
        elif word == "big":
            self.megabytes = float(rest[0].removesuffix("mb"))
        else:
            self._take_form(word, rest)

    def _take_form(self, word: str, rest: list[str]) -> None:
        if word == "reasoning":
            self.reasoning = int(rest[0])
        elif word == "written":
            self.written = int(rest[0])
        elif word == "word":
            self.word = rest[0]
        elif word == "tool":
            self.tool = rest[0]
        elif word == "nostream":
            self.streams = False
        elif word in {"silent", "pings"}:
            self.silence, self.pings = _seconds(rest[0]), word == "pings"
        elif word == "drip":
            self.drip = _seconds(rest[0])
        elif word == "hold":
            self.holds = True
        elif word == "left":
            self.limits = {"x-ratelimit-remaining-requests": rest[0], "x-ratelimit-limit-requests": rest[2]}

    def reply(self, body: dict[str, Any], sha256: str) -> Reply:
        content: str | None = "x" * int(self.megabytes * 1e6) if self.megabytes else content_of(body, sha256)
        finish = "stop"
        if self.fault in WITHOUT_TEXT:
            finish, content = WITHOUT_TEXT[self.fault]
        return Reply(content, finish, self.usage, self.cached, self.reasoning, self.tool, self.written)


def _seconds(text: str) -> float:
    return float(text.removesuffix("ms")) / 1000 if text.endswith("ms") else float(text.removesuffix("s"))


class ProviderServer:
    """The server, in a thread of its own. `calls` are in order of arrival; `counts` by the body's SHA-256, per path."""

    def __init__(self, port: int = 0, log: Path | None = None) -> None:
        self.calls: list[Received] = []
        self.counts: dict[str, Counter[str]] = {}
        self.most_at_once = 0
        self.mood: str | None = None  # while set, it stands for the name of every model
        self.connections = 0
        self._at_once = 0
        self._held = 0
        self.keys: dict[str, str] = {}  # by key: what is scripted for it, whatever the model's name asks for
        self._faults: Counter[str] = Counter()
        self._log = -1 if log is None else os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._changed = threading.Condition()
        self._listening = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="provider", daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def held(self) -> int:
        """Clients that are answered nothing, or no end, and have not gone."""
        return self._held

    def wait_for_calls(self, count: int, timeout: float = 10.0) -> None:
        """Return once so many chat requests have arrived."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= count, timeout), f"{len(self.calls)} calls came"

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if self._log >= 0:
            os.close(self._log)

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._socket, limit=64 * 2**20))
        self._loop.call_soon(self._listening.set)
        self._loop.run_forever()
        server.close()
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        if rest:
            self._loop.run_until_complete(asyncio.wait(rest))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        # asyncio does this only for sockets that name their protocol; without, small writes wait for 40 ms
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        begun = await reader.readexactly(1)
        if begun == TLS_HANDSHAKE:
            return False
        head = (begun + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = first.split(" ")[1]
        if path == "/stats":
            return self._send(writer, 200, json.dumps(self.stats()).encode())
        if path == "/mood":
            self.mood = json.loads(body)["mood"]
            return self._send(writer, 200, b"{}")
        # who has given up a request before may ask again: its farewell has come by now, and is heard first
        for _ in range(FAREWELL_TURNS if self._held else 0):
            await asyncio.sleep(0)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._chat(path, headers, body, reader, writer)
        finally:
            self._at_once -= 1

    def stats(self) -> dict[str, Any]:
        """Calls and distinct requests per path, and how many there were at once."""
        paths = {path: {"calls": count.total(), "distinct": len(count)} for path, count in self.counts.items()}
        return {"calls": len(self.calls), "mostAtOnce": self.most_at_once, "paths": paths}

    async def _chat(
        self,
        path: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        document = json.loads(body)
        model = str(document.get("model"))
        received = Received(
            path, model, hashlib.sha256(body).hexdigest(), document, headers, time.time(), time.monotonic()
        )
        name = self.mood or self.keys.get(headers.get("authorization", "").removeprefix("Bearer "), model)
        script = Script.of(name)
        script.key = headers.get("authorization", "")
        said = document.get("messages") or document.get("input")
        prompt = name + hashlib.sha256(json.dumps(said).encode()).hexdigest()
        fails = script.fault is not None and self._faults[prompt] < script.times
        self._faults[prompt] += fails
        self._note(received, str(script.fault) if fails else "drip" if script.drip else "ok")
        if script.delay:
            await asyncio.sleep(script.delay)
        if fails and script.fault in {"hole", "stall"}:
            return await self._hold(str(script.fault), reader, writer)
        if fails and script.fault not in {*WITHOUT_TEXT, "unfinished", "streamerror", "streamstall"}:
            return await self._fail(script, writer)
        script.fault = script.fault if fails else None
        return await self._reply(received, script, reader, writer)

    async def _reply(
        self, received: Received, script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        reply = script.reply(received.body, received.sha256)
        is_response = received.path.endswith("/responses")
        whole = reply.response() if is_response else reply.completion()
        if not (received.body.get("stream") and script.streams):
            if script.drip:
                return await self._send_slowly(reader, writer, json.dumps(whole).encode(), script.drip)
            return self._send(writer, 200, json.dumps(whole).encode(), script.limits)
        with_usage = bool((received.body.get("stream_options") or {}).get("include_usage"))
        events = response_events(whole) if is_response else completion_events(whole, with_usage=with_usage)
        return await self._stream(list(events), script, reader, writer)

    async def _stream(
        self, events: list[bytes], script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        until = time.monotonic() + script.silence
        while time.monotonic() < until:
            if script.pings:
                await self._write_chunks([b": keep-alive\n\n"], writer)
            await asyncio.sleep(0.02)
        if script.fault == "streamerror":
            events = [*events[:2], error_event(script.key)]
        elif script.fault in {"unfinished", "streamstall"}:
            events = events[:-1]
        await self._write_chunks(events, writer)
        if script.holds or script.fault == "streamstall":
            with self._holding(reader) as gone:
                await gone
        writer.write(b"0\r\n\r\n")
        return True

    async def _write_chunks(self, events: Iterable[bytes], writer: asyncio.StreamWriter) -> None:
        for event in events:
            writer.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        await writer.drain()

    def _note(self, received: Received, answer: str) -> None:
        if self._log >= 0:
            line = {
                "path": received.path,
                "model": received.model,
                "sha256": received.sha256,
                "at": received.at,
                "prompt": _first_words(received.body),
                "answer": answer,
                "atOnce": self._at_once,
            }
            os.write(self._log, json.dumps(line).encode() + b"\n")
        with self._changed:
            self.calls.append(received)
            self.counts.setdefault(received.path, Counter())[received.sha256] += 1
            self._changed.notify_all()

    async def _fail(self, script: Script, writer: asyncio.StreamWriter) -> bool:
        fault = str(script.fault)
        if fault in {"fail", "quota"}:
            words = {"type": "scripted", "code": script.word} if fault == "fail" else {"type": "insufficient_quota"}
            status = script.status if fault == "fail" else 429
            error = {"error": {"message": f"scripted {status}", **words}}
            return self._send(writer, status, json.dumps(error).encode(), {**script.retry_after, **script.limits})
        if fault == "redirect":
            return self._send(writer, 307, b"", {"location": "http://127.0.0.1:1/elsewhere"})
        if fault in {"reset", "hangup", "cut", "endless"}:
            await self._break(fault, writer)
            return False
        return self._send(writer, 200, _BAD_BODIES[fault])

    async def _break(self, fault: str, writer: asyncio.StreamWriter) -> None:
        """What is no reply: the connection is closed after it."""
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)  # close with a reset instead of a farewell
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if fault == "cut":
            writer.write(_head(200, 1000) + b'{"choices": [')
            await writer.drain()
        if fault == "endless":
            await self._drip(writer)

    async def _hold(self, fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Say no more until the client has gone."""
        if fault == "stall":
            writer.write(_head(200, 1000) + b'{"choices": [')
        with self._holding(reader) as gone:
            await gone
        return False

    async def _send_slowly(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes, seconds: float
    ) -> bool:
        """A byte at a time; the connection is closed after it."""
        writer.write(_head(200, len(body)))
        with self._holding(reader) as gone:
            for byte in body:
                writer.write(bytes([byte]))
                if (await asyncio.wait({gone}, timeout=seconds))[0]:
                    break
        return False

    @contextlib.contextmanager
    def _holding(self, reader: asyncio.StreamReader) -> Iterator[asyncio.Task[bytes]]:
        """What ends when the client goes. Until then it is known that one is held."""
        gone = asyncio.create_task(reader.read())
        self._held += 1
        try:
            yield gone
        finally:
            self._held -= 1
            gone.cancel()

    async def _drip(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    def _send(
        self, writer: asyncio.StreamWriter, status: int, body: bytes, headers: dict[str, str] | None = None
    ) -> bool:
        writer.write(_head(status, len(body), headers) + body)
        return True


def _first_words(body: dict[str, Any]) -> str:
    messages = body.get("messages") or body.get("input")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    return content[:200] if isinstance(content, str) else ""


def _head(status: int, length: int, headers: dict[str, str] | None = None) -> bytes:
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{extra}\r\n"
    return head.encode("latin-1")


_BAD_BODIES = {
    "empty": b"",
    "garbage": bytes(range(256)) * 4,
    "notjson": b"<html><body>502 Bad Gateway</body></html>",
    "nochoices": b'{"choices": [], "usage": "none"}',
    "wrongtypes": b'{"choices": [{"message": {"content": 7}, "finish_reason": []}], "usage": [1]}',
    "deep": b"[" * 200_000,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model provider.")
    parser.add_argument("--port-file", type=Path)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    with ProviderServer(arguments.port, arguments.log) as server:
        if arguments.port_file is not None:
            fresh = arguments.port_file.with_suffix(".tmp")
            fresh.write_text(str(server.port))
            fresh.rename(arguments.port_file)
        threading.Event().wait()


if __name__ == "__main__":
    main()
