"""OpenAI's chat completions as JSON: the body of a request, and what a reply says. Pure; the reply is never trusted."""

from __future__ import annotations

from typing import Any

import orjson

from pop_actors.core.chat import ChatRequest, FinishReason, Usage
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.types import AttemptFailed

MAX_TOKENS_COUNT = 2**53
_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def request_body(request: ChatRequest, model: str, vendor: Vendor) -> bytes:
    """The bytes to post. Nothing is sent that was not asked for; `temperature` in particular."""
    messages = [message.model_dump() for message in request.messages]
    body: dict[str, Any] = {"model": model, "messages": messages}
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.max_tokens is not None:
        body[vendor.max_tokens_parameter] = request.max_tokens
    if request.stop:
        body["stop"] = request.stop
    if request.response_format != "text":
        _ask_for_json(body, messages, request.response_format, vendor)
    return orjson.dumps(body)


def _ask_for_json(body: dict[str, Any], messages: list[dict[str, Any]], wanted: Any, vendor: Vendor) -> None:
    if isinstance(wanted, dict) and vendor.schemas == "native":
        # not strict: that mode takes a dialect (every property required, no others) a user's schema may not speak
        schema = {"name": "reply", "schema": wanted, "strict": False}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return
    body["response_format"] = {"type": "json_object"}
    if isinstance(wanted, dict):
        shown = orjson.dumps(wanted).decode()
        messages.insert(0, {"role": "system", "content": f"Answer with one JSON object of this JSON Schema: {shown}"})
    elif not any("json" in str(message["content"]).lower() for message in messages):
        # the vendors refuse json_object where no message mentions JSON
        messages.insert(0, {"role": "system", "content": "Answer with one JSON object."})


def parse_reply(body: bytes) -> tuple[str, Usage, FinishReason]:
    """Text, usage and finish reason. AttemptFailed, never to be retried, where there is no text to use.

    Codes: bad_reply (not a chat completion), truncated (the tokens ran out before any text), blocked (refused or
    filtered). The failure carries the usage where the reply has one: it is billed.
    """
    document = _object(_loads(body), "the reply")
    usage = _usage(document.get("usage"))
    try:
        choices = document.get("choices")
        if not isinstance(choices, list) or not choices:
            raise _bad("it has no choices")
        choice = _object(choices[0], "its first choice")
        message = _object(choice.get("message"), "its message")
        finish = _FINISH.get(str(choice.get("finish_reason")), "other")
        return _content(message, finish), usage or Usage(), finish
    except AttemptFailed as failure:
        failure.usage = usage
        raise


def _content(message: dict[str, Any], finish: FinishReason) -> str:
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part_text(part) for part in content)
    if content is not None and not isinstance(content, str):
        raise _bad(f"its content is {type(content).__name__}, not text")
    if content:
        return content
    if finish == "length":
        raise AttemptFailed("truncated", "the tokens ran out before any text; raise max_tokens", "permanent")
    refusal = message.get("refusal")
    if finish == "content_filter" or refusal:
        said = f": {refusal[:200]}" if isinstance(refusal, str) else ""
        raise AttemptFailed("blocked", f"the provider would not answer this prompt{said}", "permanent")
    raise _bad("it has no text")


def _part_text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def _usage(document: Any) -> Usage | None:
    """Usage as billed; None where the reply has none."""
    if not isinstance(document, dict):
        return None
    details = _dict(document.get("prompt_tokens_details"))
    # DeepSeek and Kimi say it beside the total instead of in the details
    cached = details.get("cached_tokens") or document.get("prompt_cache_hit_tokens") or document.get("cached_tokens")
    return Usage(
        input_tokens=_count(document.get("prompt_tokens")),
        output_tokens=_count(document.get("completion_tokens")),
        cached_tokens=_count(cached),
        reasoning_tokens=_count(_dict(document.get("completion_tokens_details")).get("reasoning_tokens")),
    )


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TOKENS_COUNT:
        return 0
    return int(value)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _loads(body: bytes) -> Any:
    if not body.strip():
        raise _bad("it is empty")
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise _bad(f"it is not JSON; it begins {body[:40]!r}") from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(f"{what} is not an object")
    return value


def _bad(why: str) -> AttemptFailed:
    return AttemptFailed("bad_reply", f"the provider's reply is no chat completion: {why}", "permanent")
