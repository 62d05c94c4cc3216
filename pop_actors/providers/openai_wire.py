"""OpenAI's chat completions as JSON, the wire format of a whole family: requests, replies, streams. Pure; a `Wire`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pop_actors.core.chat import ChatRequest, FinishReason, Message, ToolCall, Usage
from pop_actors.providers import failures
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.openai_form import bad_request
from pop_actors.providers.openai_strict import is_strict
from pop_actors.providers.reading import bad_reply, count, document_of, object_of, objects, table, text
from pop_actors.providers.types import AttemptFailed, Parsed, ServerEvent, StreamParser, WireRequest

MAX_TOOL_CALLS = 1000
_FINISH: Mapping[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "sensitive": "content_filter",  # Z.ai's word
    "model_context_window_exceeded": "length",
}
# endings by which the provider says that it broke off itself: Z.ai's, DeepSeek's
_BROKE_OFF = frozenset({"network_error", "insufficient_system_resource"})

parse_error = failures.from_status


def auth(key: str) -> Mapping[str, str]:
    return {"authorization": f"Bearer {key}"}


def request(request: ChatRequest, model: str, vendor: Vendor, *, stream: bool) -> WireRequest:
    """Nothing is sent that was not asked for; `temperature` in particular. More tokens than the model writes:
    bad_request."""
    thinks = request.reasoning_effort != "none"
    messages = [_message(message, vendor, thinks=thinks) for message in request.messages]
    body: dict[str, Any] = {"model": model, "messages": messages}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        most = vendor.model(model).max_output
        if most is not None and request.max_tokens > most:
            raise bad_request(f"{model} writes at most {most} tokens: lower max_tokens")
        body[vendor.max_tokens_parameter] = request.max_tokens
    if request.stop:
        body["stop"] = request.stop
    if request.reasoning_effort is not None:
        body |= _effort(request.reasoning_effort, vendor.model(model).effort_by)
    if request.tools:
        body["tools"] = request.tools
    if request.tool_choice is not None:
        body["tool_choice"] = request.tool_choice
    if request.response_format != "text":
        _ask_for_json(body, messages, request.response_format, vendor)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return WireRequest("/chat/completions", orjson.dumps(body))


def _message(message: Message, vendor: Vendor, *, thinks: bool) -> dict[str, Any]:
    role = "system" if message.role == "developer" and not vendor.developer else message.role
    told: dict[str, Any] = {"role": role, "content": message.content}
    if message.tool_call_id is not None:
        told["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        told["tool_calls"] = [_without_extra(call) for call in message.tool_calls]
        thought = _thought_before(message.tool_calls)
        if vendor.thoughts != "refused" and thought is not None:
            told["reasoning_content"] = thought
        elif vendor.thoughts == "wanted" and thinks:
            told["reasoning_content"] = ""  # another provider made the calls
    return told


def _thought_before(calls: list[ToolCall]) -> str | None:
    """What a model that thinks between its tools wants to see again."""
    thoughts = (table(call.get("extra_content")).get("reasoning_content") for call in calls)
    return next((thought for thought in thoughts if isinstance(thought, str)), None)


def _without_extra(call: ToolCall) -> ToolCall:
    return {"type": "function"} | {key: value for key, value in call.items() if key != "extra_content"}


def _effort(level: str, said_by: str) -> dict[str, Any]:
    if said_by == "reasoning_effort":
        return {"reasoning_effort": level}
    switch: dict[str, Any] = {"thinking": {"type": "disabled" if level == "none" else "enabled"}}
    return switch if said_by == "thinking" or level == "none" else switch | {"reasoning_effort": level}


def _ask_for_json(body: dict[str, Any], messages: list[dict[str, Any]], wanted: Any, vendor: Vendor) -> None:
    if isinstance(wanted, dict) and vendor.schemas == "native":
        schema = {"name": "reply", "schema": wanted, "strict": vendor.strict_schemas and is_strict(wanted)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return
    body["response_format"] = {"type": "json_object"}
    if isinstance(wanted, dict):
        shown = orjson.dumps(wanted).decode()
        messages.insert(0, {"role": "system", "content": f"Answer with one JSON object of this JSON Schema: {shown}"})
    elif not any("json" in str(message["content"]).lower() for message in messages):
        # the vendors refuse json_object where no message mentions JSON
        messages.insert(0, {"role": "system", "content": "Answer with one JSON object."})


def parse_reply(body: bytes) -> Parsed:
    """Codes beside those of every wire: what `failures.in_reply` makes of an error told with status 200."""
    return _read(document_of(body))


def _read(document: dict[str, Any]) -> Parsed:
    usage = usage_of(document.get("usage"))
    try:
        choices = document.get("choices")
        if not choices and document.get("error"):
            raise failures.in_reply(document["error"])
        if not isinstance(choices, list) or not choices:
            raise bad_reply("it has no choices")
        choice = object_of(choices[0], "its first choice")
        message = object_of(choice.get("message"), "its message")
        ending = str(choice.get("finish_reason"))
        if ending in _BROKE_OFF:
            raise failures.broken_off(ending)
        return _parsed(message, _FINISH.get(ending, "other"), usage or Usage(), text(document.get("model")))
    except AttemptFailed as failure:
        failure.usage = usage
        raise


def _parsed(message: dict[str, Any], finish: FinishReason, usage: Usage, model: str) -> Parsed:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(text(part.get("text")) for part in objects(content))
    if content is not None and not isinstance(content, str):
        raise bad_reply(f"its content is {type(content).__name__}, not text")
    calls = _tool_calls(message) if finish != "length" else ()  # cut off, their arguments are no JSON
    if content or calls:
        return Parsed(content or "", usage, finish, calls, model)
    raise without_text(finish, text(message.get("refusal")))


def without_text(finish: FinishReason, refusal: str) -> AttemptFailed:
    """The failure of a reply that has neither text nor whole tool calls."""
    if finish == "length":
        return AttemptFailed("truncated", "the tokens ran out before any text; raise max_tokens", "permanent")
    if finish == "content_filter" or refusal:
        said = f": {refusal[:200]}" if refusal else ""
        return AttemptFailed("blocked", f"the provider would not answer this prompt{said}", "permanent")
    return bad_reply("it has no text")


def _tool_calls(message: dict[str, Any]) -> tuple[ToolCall, ...]:
    thought = message.get("reasoning_content")
    extra = {"extra_content": {"reasoning_content": thought}} if isinstance(thought, str) and thought else {}
    calls = []
    for call in objects(message.get("tool_calls"))[:MAX_TOOL_CALLS]:
        function = table(call.get("function"))
        name = text(function.get("name"))
        if name:
            calls.append(tool_call(text(call.get("id")), name, text(function.get("arguments"))) | extra)
    return tuple(calls)


def tool_call(call_id: str, name: str, arguments: str) -> ToolCall:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments or "{}"}}


def usage_of(document: Any) -> Usage | None:
    """Usage as billed; None where the reply has none."""
    if not isinstance(document, dict):
        return None
    details = table(document.get("prompt_tokens_details"))
    # DeepSeek and Kimi say it beside the total instead of in the details
    cached = details.get("cached_tokens") or document.get("prompt_cache_hit_tokens") or document.get("cached_tokens")
    return Usage(
        input_tokens=count(document.get("prompt_tokens")),
        output_tokens=count(document.get("completion_tokens")),
        cached_tokens=count(cached),
        reasoning_tokens=count(table(document.get("completion_tokens_details")).get("reasoning_tokens")),
        cache_write_tokens=count(details.get("cache_write_tokens")),
    )


class ChatStream:
    """A streamed chat completion: its deltas, put together to the message a plain reply has. `[DONE]` ends it."""

    def __init__(self) -> None:
        self.began = False
        self.done = False
        self._pieces: dict[str, list[str]] = {"content": [], "refusal": [], "reasoning_content": []}
        self._calls: dict[int, dict[str, Any]] = {}
        self._finish: Any = None
        self._usage: Any = None
        self._model: Any = None
        self._chunks = 0

    def feed(self, event: ServerEvent) -> None:
        if self.done:
            return
        if event.data.strip() == "[DONE]":
            self.done = True
            return
        chunk = document_of(event.data, "an event of the stream")
        if chunk.get("error"):
            raise failures.in_reply(chunk["error"])
        self._chunks += 1
        self._model = self._model or chunk.get("model")
        self._usage = chunk["usage"] if isinstance(chunk.get("usage"), dict) else self._usage
        for choice in objects(chunk.get("choices"))[:1]:
            self._finish = choice.get("finish_reason") or self._finish
            if isinstance(choice.get("usage"), dict):  # where Kimi says it
                self._usage = choice["usage"]
            self._take(table(choice.get("delta")))

    def _take(self, delta: dict[str, Any]) -> None:
        for kind, pieces in self._pieces.items():
            piece = text(delta.get(kind))
            if piece:
                pieces.append(piece)
                self.began = True
        for call in objects(delta.get("tool_calls")):
            self.began = True
            index = call.get("index")
            self._take_call(index if isinstance(index, int) else len(self._calls), call)

    def _take_call(self, index: int, delta: dict[str, Any]) -> None:
        if index not in self._calls and len(self._calls) >= MAX_TOOL_CALLS:
            raise bad_reply(f"it calls over {MAX_TOOL_CALLS} tools")
        call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": []})
        function = table(delta.get("function"))
        call["id"] = call["id"] or text(delta.get("id"))
        call["name"] = call["name"] or text(function.get("name"))
        call["arguments"].append(text(function.get("arguments")))

    def usage(self) -> Usage | None:
        return usage_of(self._usage)

    def close(self) -> Parsed:
        if not self.done:
            raise cut_stream(self.usage())
        whole = {kind: "".join(pieces) for kind, pieces in self._pieces.items()}
        calls = [
            tool_call(call["id"], call["name"], "".join(call["arguments"])) for _, call in sorted(self._calls.items())
        ]
        choices = [{"message": {**whole, "tool_calls": calls}, "finish_reason": self._finish}] if self._chunks else []
        return _read({"choices": choices, "usage": self._usage, "model": self._model})


def cut_stream(usage: Usage | None) -> AttemptFailed:
    """The failure of a stream that ended without its terminator, whatever it had said till then."""
    return AttemptFailed("disconnected", "the stream ended before the reply did", "ambiguous", usage=usage)


def open_stream() -> StreamParser:
    return ChatStream()
