"""A model provider on a real socket that does what the model's name says and counts every call it gets.

In a test: `with ProviderServer() as server:` then `server.base_url`, `server.calls`, `server.most_at_once`.
As a process: `python tests/support/provider_server.py --port-file F [--log F] [--port N]`; it writes its port to the
port file, one JSON line per chat request to the log before it replies, and answers `GET /stats`.

A model's name is directives joined by `+`. How the answer looks:
    ok                     a plain reply (any word it does not know means the same)
    slow-200ms, slow-2s    wait before replying
    usage-12-34            say that so many prompt and completion tokens were used
    cached-5               and so many of the prompt's were cached; cached-5-deepseek, cached-5-kimi: their way
    big-10mb               a reply of that many megabytes
What goes wrong, for ever or, with a count, as often per prompt (`fail-429-2`: twice, then ok):
    fail-STATUS            an error status; with after-1s, after-500ms or date-2s: with that Retry-After
    quota                  a 429 that says insufficient_quota
    reset, hangup          the connection is reset, or closed, instead of a reply
    cut                    the body ends early
    endless, stall         a body that never ends; a head and then nothing
    empty, garbage, notjson, nochoices, wrongtypes, deep     200 with a body that is no chat completion
    truncated, blocked, emptytext                            200 with usage, but without text
    redirect               a 307 to another server
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, it is not beside pop_actors

from pop_actors.providers.sample import sample

FAULTS = (
    "fail", "quota", "reset", "hangup", "cut", "endless", "stall", "empty", "garbage", "notjson", "nochoices",
    "wrongtypes", "deep", "truncated", "blocked", "emptytext", "redirect",
)  # fmt: skip


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


def _seconds(text: str) -> float:
    return float(text.removesuffix("ms")) / 1000 if text.endswith("ms") else float(text.removesuffix("s"))


class ProviderServer:
    """The server, in a thread of its own. `calls` are in order of arrival; `counts` by the body's SHA-256, per path."""

    def __init__(self, port: int = 0, log: Path | None = None) -> None:
        self.calls: list[Received] = []
        self.counts: dict[str, Counter[str]] = {}
        self.most_at_once = 0
        self.connections = 0
        self._at_once = 0
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
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = first.split(" ")[1]
        if path == "/stats":
            return self._send(writer, 200, json.dumps(self.stats()).encode())
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._chat(path, headers, body, writer)
        finally:
            self._at_once -= 1

    def stats(self) -> dict[str, Any]:
        """Calls and distinct requests per path, and how many there were at once."""
        paths = {path: {"calls": count.total(), "distinct": len(count)} for path, count in self.counts.items()}
        return {"calls": len(self.calls), "mostAtOnce": self.most_at_once, "paths": paths}

    async def _chat(self, path: str, headers: dict[str, str], body: bytes, writer: asyncio.StreamWriter) -> bool:
        document = json.loads(body)
        model = str(document.get("model"))
        received = Received(
            path, model, hashlib.sha256(body).hexdigest(), document, headers, time.time(), time.monotonic()
        )
        script = Script.of(model)
        prompt = model + hashlib.sha256(json.dumps(document.get("messages")).encode()).hexdigest()
        fails = script.fault is not None and self._faults[prompt] < script.times
        self._faults[prompt] += fails
        self._note(received, str(script.fault) if fails else "ok")
        if script.delay:
            await asyncio.sleep(script.delay)
        if fails:
            return await self._fail(script, writer)
        return self._send(writer, 200, json.dumps(_completion(document, script, received.sha256)).encode())

    def _note(self, received: Received, answer: str) -> None:
        if self._log >= 0:
            line = {
                "path": received.path,
                "model": received.model,
                "sha256": received.sha256,
                "at": received.at,
                "prompt": _first_words(received.body),
                "answer": answer,
            }
            os.write(self._log, json.dumps(line).encode() + b"\n")
        with self._changed:
            self.calls.append(received)
            self.counts.setdefault(received.path, Counter())[received.sha256] += 1
            self._changed.notify_all()

    async def _fail(self, script: Script, writer: asyncio.StreamWriter) -> bool:
        fault = str(script.fault)
        if fault in {"fail", "quota"}:
            words = {"type": "scripted", "code": None} if fault == "fail" else {"type": "insufficient_quota"}
            status = script.status if fault == "fail" else 429
            error = {"error": {"message": f"scripted {status}", **words}}
            return self._send(writer, status, json.dumps(error).encode(), script.retry_after)
        if fault == "redirect":
            return self._send(writer, 307, b"", {"location": "http://127.0.0.1:1/elsewhere"})
        if fault in {"reset", "hangup", "cut", "stall", "endless"}:
            await self._break(fault, writer)
            return False
        return self._send(writer, 200, _bad_body(fault, script))

    async def _break(self, fault: str, writer: asyncio.StreamWriter) -> None:
        """What is no reply: the connection is closed after it."""
        if fault == "reset":
            linger = struct.pack("ii", 1, 0)  # close with a reset instead of a farewell
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        if fault in {"cut", "stall"}:
            writer.write(_head(200, 1000) + b'{"choices": [')
            await writer.drain()
        if fault == "stall":
            await asyncio.sleep(3600)
        if fault == "endless":
            await self._drip(writer)

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
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    content = last.get("content") if isinstance(last, dict) else None
    return content[:200] if isinstance(content, str) else ""


def _head(status: int, length: int, headers: dict[str, str] | None = None) -> bytes:
    extra = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{extra}\r\n"
    return head.encode("latin-1")


def _completion(document: dict[str, Any], script: Script, sha256: str) -> dict[str, Any]:
    content = f"reply to {sha256[:12]}"
    wanted = document.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        content = json.dumps(sample(wanted["json_schema"]["schema"], sha256.encode()))
    elif wanted.get("type") == "json_object":
        content = json.dumps({"answer": content})
    if script.megabytes:
        content = "x" * int(script.megabytes * 1e6)
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": _usage(script)}


def _usage(script: Script) -> dict[str, Any]:
    prompt, completion = script.usage
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    cached, way = script.cached
    if way == "openai":
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    else:
        usage["prompt_cache_hit_tokens" if way == "deepseek" else "cached_tokens"] = cached
    return usage


def _bad_body(fault: str, script: Script) -> bytes:
    def without_text(finish: str, content: str | None) -> bytes:
        choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
        return json.dumps({"choices": [choice], "usage": _usage(script)}).encode()

    return {
        "empty": b"",
        "garbage": bytes(range(256)) * 4,
        "notjson": b"<html><body>502 Bad Gateway</body></html>",
        "nochoices": b'{"choices": [], "usage": "none"}',
        "wrongtypes": b'{"choices": [{"message": {"content": 7}, "finish_reason": []}], "usage": [1]}',
        "deep": b"[" * 200_000,
        "truncated": without_text("length", ""),
        "blocked": without_text("content_filter", None),
        "emptytext": without_text("stop", ""),
    }[fault]


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
