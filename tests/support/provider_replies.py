"""What the scripted provider says: completions and responses as documents, and the same as the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pop_actors.providers.sample import sample

_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 0, "model": "scripted"}
WITHOUT_TEXT = {"truncated": ("length", ""), "blocked": ("content_filter", None), "emptytext": ("stop", "")}


@dataclass
class Reply:
    """One reply, whatever it is told as. `cached` is a number and the way of saying it."""

    content: str | None
    finish: str
    usage: tuple[int, int]
    cached: tuple[int, str]
    reasoning: int = 0
    tool: str | None = None
    written: int = 0

    def completion(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self.tool:
            message |= {"content": None, "reasoning_content": "which tool?", "tool_calls": [self._tool_call()]}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if self.tool else self.finish}
        return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": self.chat_usage()}

    def response(self) -> dict[str, Any]:
        incomplete = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(self.finish)
        output: list[dict[str, Any]] = [{"type": "reasoning", "id": "rs_1", "summary": []}]
        if self.tool:
            function = self._tool_call()["function"]
            output.append({"type": "function_call", "id": "fc_1", "call_id": "call_1", **function})
        elif self.content:
            output.append({"type": "message", "content": [{"type": "output_text", "text": self.content}]})
        return {
            "id": "resp_1",
            "object": "response",
            "status": "incomplete" if incomplete else "completed",
            "incomplete_details": {"reason": incomplete} if incomplete else None,
            "error": None,
            "output": output,
            "usage": self.response_usage(),
        }

    def chat_usage(self) -> dict[str, Any]:
        prompt, completion = self.usage
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
        cached, way = self.cached
        if way == "openai":
            usage["prompt_tokens_details"] = {"cached_tokens": cached}
        else:
            usage["prompt_cache_hit_tokens" if way == "deepseek" else "cached_tokens"] = cached
        if self.written:
            usage.setdefault("prompt_tokens_details", {})["cache_write_tokens"] = self.written
        if self.reasoning:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.reasoning}
        return usage

    def response_usage(self) -> dict[str, Any]:
        return {
            "input_tokens": self.usage[0],
            "input_tokens_details": {"cached_tokens": self.cached[0], "cache_write_tokens": self.written},
            "output_tokens": self.usage[1],
            "output_tokens_details": {"reasoning_tokens": self.reasoning},
            "total_tokens": sum(self.usage),
        }

    def _tool_call(self) -> dict[str, Any]:
        return {"id": "call_1", "type": "function", "function": {"name": self.tool, "arguments": '{"query": "x"}'}}


def content_of(body: dict[str, Any], sha256: str) -> str:
    """A text, or JSON as the request wants it: to the schema it is given, natively or in words."""
    wanted = body.get("response_format") or (body.get("text") or {}).get("format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(sample((wanted.get("json_schema") or wanted)["schema"], sha256.encode()))
    content = f"reply to {sha256[:12]}"
    if wanted.get("type") != "json_object":
        return content
    shown = _shown_schema(body)
    return json.dumps({"answer": content} if shown is None else sample(shown, sha256.encode()))


def _shown_schema(body: dict[str, Any]) -> Any:
    for message in body.get("messages") or []:
        _, found, schema = str(message.get("content")).partition("JSON Schema: ")
        if found and message.get("role") == "system":
            return json.loads(schema)
    return None


def completion_events(document: dict[str, Any], *, with_usage: bool) -> Iterator[bytes]:
    """A chat completion as a stream; its last event is the terminator."""
    choice = document["choices"][0]
    message = choice["message"]
    yield _chunk({"role": "assistant", "content": ""})
    if message.get("reasoning_content"):
        yield _chunk({"reasoning_content": message["reasoning_content"]})
    for piece in _pieces(message["content"] or ""):
        yield _chunk({"content": piece})
    for index, call in enumerate(message.get("tool_calls", [])):
        function = call["function"]
        head = {"index": index, **call, "function": {"name": function["name"], "arguments": ""}}
        yield _chunk({"tool_calls": [head]})
        for piece in _pieces(function["arguments"]):
            yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _chunk({}, choice["finish_reason"])
    if with_usage:
        yield _event({**_CHUNK, "choices": [], "usage": document["usage"]})
    yield b"data: [DONE]\n\n"


def response_events(document: dict[str, Any]) -> Iterator[bytes]:
    """A response as a stream; its last event is the terminator, which holds all of it."""
    yield _named("response.created", {"response": {**document, "output": [], "usage": None, "status": "in_progress"}})
    for item in document["output"]:
        for part in item.get("content", []):
            for piece in _pieces(part["text"]):
                yield _named("response.output_text.delta", {"delta": piece})
        yield _named("response.output_item.done", {"item": item})
    yield _named(f"response.{document['status']}", {"response": document})


def error_event(key: str) -> bytes:
    """Some servers repeat the key they were given."""
    return _event({"type": "error", "error": {"type": "server_error", "message": f"scripted, after {key!r}"}})


def _pieces(text: str) -> list[str]:
    middle = len(text) // 2
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return _event({**_CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _named(name: str, document: dict[str, Any]) -> bytes:
    return f"event: {name}\n".encode() + _event({"type": name, **document})
