"""What Anthropic's replies, streams and errors say. Pure; nothing a server sends is trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pop_actors.core.chat import FinishReason, ToolCall, Usage
from pop_actors.providers import failures
from pop_actors.providers.openai_form import tool_call
from pop_actors.providers.openai_wire import MAX_TOOL_CALLS, cut_stream, without_text
from pop_actors.providers.reading import bad_reply, count, document_of, json_text, objects, table, text
from pop_actors.providers.types import AttemptFailed, Parsed, ServerEvent, StreamParser

MAX_BLOCKS = 4096
_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# what is kept of a block of thinking, to be told again
_THINKING: Mapping[str, tuple[str, ...]] = {"thinking": ("thinking", "signature"), "redacted_thinking": ("data",)}
# limits of spending: no retry-after comes with them, and waiting does not cure them before the month is over
_SPENT = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "linked_organization_spend_limit_reached"}
)
# the same as a 400, told by nothing but its message
_SPENT_MESSAGES = ("You have reached your specified ", "Your credit balance is too low")
# what an error in mid-stream would have been as a status
_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
# how a block of a stream grows: the delta's type, its field, and the block's field that takes it
_GROWTH: Mapping[str, tuple[str, str]] = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "input"),
}


def parse_reply(body: bytes) -> Parsed:
    return _read(document_of(body))


def _read(document: dict[str, Any]) -> Parsed:
    usage = _usage(document.get("usage"))
    try:
        if document.get("type") == "error":
            raise _failure(_STATUS.get(_kind(document), 500), {}, document, 0.0)
        if not isinstance(document.get("content"), list):
            raise bad_reply("it has no content")
        return _parsed(document, usage or Usage())
    except AttemptFailed as failure:
        failure.usage = usage
        raise


def _parsed(document: dict[str, Any], usage: Usage) -> Parsed:
    blocks = objects(document["content"])
    finish = _FINISH.get(text(document.get("stop_reason")), "other")
    content = "".join(text(block.get("text")) for block in blocks if block.get("type") == "text")
    model = text(document.get("model"))
    calls = tuple(_calls(blocks, model))
    # what was said before a refusal is not to be used
    if (content or calls) and finish != "content_filter":
        return Parsed(content, usage, finish, calls, model)
    raise without_text(finish, text(table(document.get("stop_details")).get("explanation")))


def _calls(blocks: list[dict[str, Any]], model: str) -> Iterable[ToolCall]:
    """The tool calls, each with the thinking since the one before: the model wants it back with the tool's answer."""
    thinking: list[dict[str, Any]] = []
    made = 0
    for block in blocks:
        kind = text(block.get("type"))
        if kind in _THINKING:
            thinking.append({"type": kind} | {key: text(block.get(key)) for key in _THINKING[kind]})
        elif kind == "tool_use" and text(block.get("name")) and made < MAX_TOOL_CALLS:
            extra = {"anthropic": {"model": model, "thinking": thinking}} if thinking else None
            yield tool_call(text(block.get("id")), block["name"], _arguments(block.get("input")), extra)
            thinking, made = [], made + 1


def _arguments(input_: Any) -> str:
    """JSON text; a stream's stays as it came, also where the tokens ran out within it."""
    return input_ if isinstance(input_, str) else json_text(table(input_))


def _usage(document: Any) -> Usage | None:
    """Usage as billed: Anthropic counts what was read from the cache or written to it apart from the input."""
    if not isinstance(document, dict):
        return None
    read = count(document.get("cache_read_input_tokens"))
    written = count(document.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=count(document.get("input_tokens")) + read + written,
        output_tokens=count(document.get("output_tokens")),
        cached_tokens=read,
        reasoning_tokens=count(table(document.get("output_tokens_details")).get("thinking_tokens")),
        cache_write_tokens=written,
    )


def parse_error(status: int, headers: Mapping[str, str], body: bytes, now: float) -> AttemptFailed:
    try:
        document = document_of(body)
    except AttemptFailed:  # a proxy's page, or nothing
        document = {}
    if not isinstance(document.get("error"), dict):
        return failures.from_status(status, headers, body, now)
    return _failure(status, headers, document, now)


def _failure(status: int, headers: Mapping[str, str], document: dict[str, Any], now: float) -> AttemptFailed:
    error = table(document.get("error"))
    message = text(error.get("message"))
    spent = text(table(error.get("details")).get("error_code")) in _SPENT or message.startswith(_SPENT_MESSAGES)
    failure = failures.failure(status, headers, frozenset({_kind(document)}), failures.short(message), now)
    if spent:
        failure = AttemptFailed("quota", failure.message, "permanent", details=failure.details)
    request_id = text(document.get("request_id"))
    if request_id:
        failure.details["requestId"] = request_id
    return failure


def _kind(document: dict[str, Any]) -> str:
    return text(table(document.get("error")).get("type"))


class MessageStream:
    """A streamed message, put together to the one a plain reply would have been. Ends by `message_stop`."""

    def __init__(self) -> None:
        self.began = False
        self.done = False
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str], list[str]] = {}

    def feed(self, event: ServerEvent) -> None:
        if self.done:
            return
        document = document_of(event.data, "an event of the stream")
        match document.get("type"):
            case "message_start":
                self._message = table(document.get("message"))
                self._count(self._message.get("usage"))
            case "content_block_start":
                self._open(document)
            case "content_block_delta":
                self._grow(document)
            case "message_delta":
                self._message |= table(document.get("delta"))
                self._count(document.get("usage"))
            case "message_stop":
                self.done = True
            case "error":
                raise self._broken(document)
            case _:  # a ping, or a kind of event that is newer than this
                pass

    def _count(self, usage: Any) -> None:
        """What comes later is the sum so far; what it leaves out stands."""
        self._usage |= {key: value for key, value in table(usage).items() if value is not None}

    def _open(self, document: dict[str, Any]) -> None:
        block = table(document.get("content_block"))
        if len(self._blocks) >= MAX_BLOCKS:
            raise bad_reply(f"it has over {MAX_BLOCKS} blocks")
        self.began = True
        self._blocks[count(document.get("index"))] = dict(block)

    def _grow(self, document: dict[str, Any]) -> None:
        delta = table(document.get("delta"))
        field, grown = _GROWTH.get(text(delta.get("type")), ("", ""))
        if text(delta.get(field)):
            self._pieces.setdefault((count(document.get("index")), grown), []).append(delta[field])

    def _broken(self, document: dict[str, Any]) -> AttemptFailed:
        failure = _failure(_STATUS.get(_kind(document), 500), {}, document, 0.0)
        if failure.fate == "refused" and self._message:  # it was at work already
            failure.fate = "ambiguous"
        failure.usage = self.usage()
        return failure

    def usage(self) -> Usage | None:
        return _usage(self._usage) if self._usage else None

    def close(self) -> Parsed:
        if not self.done:
            raise cut_stream(self.usage())
        for (index, field), pieces in self._pieces.items():
            if index in self._blocks:
                before = text(self._blocks[index].get(field))
                self._blocks[index][field] = before + "".join(pieces)
        blocks = [block for _, block in sorted(self._blocks.items())]
        return _read({**self._message, "content": blocks, "usage": self._usage or None})


def open_stream() -> StreamParser:
    return MessageStream()
