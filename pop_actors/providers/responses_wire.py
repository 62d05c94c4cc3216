"""OpenAI's responses as JSON: requests, replies, streams. Nothing is stored at the provider. Pure; a `Wire`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from pop_actors.core.chat import ChatRequest, FinishReason, Message, ToolCall, Usage
from pop_actors.providers import failures
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.openai_strict import is_strict
from pop_actors.providers.openai_wire import MAX_TOOL_CALLS, auth, cut_stream, parse_error, tool_call, without_text
from pop_actors.providers.reading import bad_reply, count, document_of, objects, table, text
from pop_actors.providers.types import AttemptFailed, Parsed, ServerEvent, StreamParser, WireRequest

__all__ = ["auth", "open_stream", "parse_error", "parse_reply", "request"]

_INCOMPLETE: Mapping[str, FinishReason] = {"max_output_tokens": "length", "content_filter": "content_filter"}
_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_SAYS = ("response.output_text.", "response.reasoning", "response.refusal.", "response.function_call_arguments.")


def request(request: ChatRequest, model: str, vendor: Vendor, *, stream: bool) -> WireRequest:
    """`stop` has no word in this format: bad_request."""
    if request.stop:
        raise AttemptFailed("bad_request", "stop cannot be said with api = responses; use api = chat", "permanent")
    body: dict[str, Any] = {"model": model, "store": False} | ({"stream": True} if stream else {})
    leading, rest = _split(request.messages)
    if leading:
        body["instructions"] = "\n\n".join(leading)
    body["input"] = [item for message in rest for item in _items(message)]
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body["max_output_tokens"] = request.max_tokens
    if request.reasoning_effort is not None:
        body["reasoning"] = {"effort": request.reasoning_effort}
    body |= _tools(request)
    if request.response_format != "text":
        body["text"] = {"format": _format(request.response_format, vendor)}
        if request.response_format == "json" and not _mentions_json(request.messages):
            # json_object is refused where no message of the input mentions JSON
            body["input"].insert(0, {"role": "developer", "content": "Answer with one JSON object."})
    return WireRequest("/responses", orjson.dumps(body))


def _split(messages: Iterable[Message]) -> tuple[list[str], list[Message]]:
    """The instructions that lead, and the conversation. A conversation of nothing but those is input itself."""
    rest = list(messages)
    leading: list[str] = []
    while len(rest) > 1 and rest[0].role in {"system", "developer"}:
        leading.append(rest.pop(0).text)
    return leading, rest


def _items(message: Message) -> Iterable[dict[str, Any]]:
    if message.role == "tool":
        yield {"type": "function_call_output", "call_id": message.tool_call_id, "output": message.text}
        return
    if message.content:
        yield {"role": message.role, "content": _content(message)}
    for call in message.tool_calls or ():
        function = call["function"]
        yield {
            "type": "function_call",
            "call_id": call["id"],
            "name": function["name"],
            "arguments": function["arguments"],
        }


def _content(message: Message) -> Any:
    if not isinstance(message.content, list):
        return message.content
    said = "output_text" if message.role == "assistant" else "input_text"
    return [_part(part, said) for part in message.content]


def _part(part: dict[str, Any], said: str) -> dict[str, Any]:
    match part.get("type"):
        case "text":
            return {"type": said, "text": part["text"]}
        case "image_url":
            image = part["image_url"]
            return {"type": "input_image", "image_url": image["url"], "detail": image.get("detail", "auto")}
        case _:
            return part


def _tools(request: ChatRequest) -> dict[str, Any]:
    said: dict[str, Any] = {"tools": [_tool(tool) for tool in request.tools]} if request.tools else {}
    if request.tool_choice is not None:
        said["tool_choice"] = _tool_choice(request.tool_choice)
    return said


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    # not strict unless asked: the default of this format is a dialect a user's schema may not speak
    return {"type": "function", "strict": False, **tool["function"]} if tool.get("type") == "function" else tool


def _tool_choice(choice: Any) -> Any:
    return {"type": "function", "name": choice["function"]["name"]} if isinstance(choice, dict) else choice


def _format(wanted: Any, vendor: Vendor) -> dict[str, Any]:
    if wanted == "json":
        return {"type": "json_object"}
    strict = vendor.strict_schemas and is_strict(wanted)
    return {"type": "json_schema", "name": "reply", "schema": wanted, "strict": strict}


def _mentions_json(messages: Iterable[Message]) -> bool:
    return any("json" in str(message.content).lower() for message in messages if message.role == "user")


def parse_reply(body: bytes) -> Parsed:
    return _read(document_of(body))


def _read(document: dict[str, Any]) -> Parsed:
    usage = _usage(document.get("usage"))
    try:
        if document.get("error"):
            raise failures.in_reply(document["error"])
        if document.get("status") in ("failed", "cancelled"):
            raise failures.broken_off(document["status"])
        if not isinstance(document.get("output"), list):
            raise bad_reply("it has no output")
        return _parsed(document, usage or Usage())
    except AttemptFailed as failure:
        failure.usage = usage
        raise


def _parsed(document: dict[str, Any], usage: Usage) -> Parsed:
    output = objects(document["output"])
    calls = tuple(_calls(output)) if document.get("status") == "completed" else ()  # cut off, they are no JSON
    parts = [part for item in output if item.get("type") == "message" for part in objects(item.get("content"))]
    content = "".join(text(part.get("text")) for part in parts if part.get("type") == "output_text")
    refusal = "".join(text(part.get("refusal")) for part in parts if part.get("type") == "refusal")
    finish = _finish(document, has_calls=bool(calls))
    if content or calls:
        return Parsed(content, usage, finish, calls, text(document.get("model")))
    raise without_text(finish, refusal)


def _finish(document: dict[str, Any], *, has_calls: bool) -> FinishReason:
    status = document.get("status")
    if status == "incomplete":
        return _INCOMPLETE.get(text(table(document.get("incomplete_details")).get("reason")), "other")
    if status != "completed":
        return "other"
    return "tool_calls" if has_calls else "stop"


def _calls(output: list[dict[str, Any]]) -> Iterable[ToolCall]:
    for item in output[:MAX_TOOL_CALLS]:
        if item.get("type") == "function_call" and text(item.get("name")):
            yield tool_call(text(item.get("call_id")), item["name"], text(item.get("arguments")))


def _usage(document: Any) -> Usage | None:
    if not isinstance(document, dict):
        return None
    details = table(document.get("input_tokens_details"))
    return Usage(
        input_tokens=count(document.get("input_tokens")),
        output_tokens=count(document.get("output_tokens")),
        cached_tokens=count(details.get("cached_tokens")),
        reasoning_tokens=count(table(document.get("output_tokens_details")).get("reasoning_tokens")),
        cache_write_tokens=count(details.get("cache_write_tokens")),
    )


class ResponseStream:
    """A streamed response. Its last event has the whole of it; what comes before only shows that it lives.

    Where that event has no output, the items that were told as done stand in for it.
    """

    def __init__(self) -> None:
        self.began = False
        self._items: list[dict[str, Any]] = []
        self._response: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        return self._response is not None

    def feed(self, event: ServerEvent) -> None:
        if self.done:
            return
        document = document_of(event.data, "an event of the stream")
        kind = text(document.get("type")) or event.name
        if kind == "error":
            raise failures.in_reply(document.get("error") or document)
        if kind in _ENDS:
            self._response = table(document.get("response"))
        elif kind == "response.output_item.done":
            self._items.append(table(document.get("item")))
        elif kind.startswith(_SAYS):
            self.began = True

    def usage(self) -> Usage | None:
        return _usage((self._response or {}).get("usage"))

    def close(self) -> Parsed:
        if self._response is None:
            raise cut_stream(None)
        return _read(self._response if self._response.get("output") else {**self._response, "output": self._items})


def open_stream() -> StreamParser:
    return ResponseStream()
