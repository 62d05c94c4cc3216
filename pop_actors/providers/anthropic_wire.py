"""Anthropic's messages as JSON. Pure; a `Wire`. Requests are here, replies, streams and errors in `anthropic_reply`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from pop_actors.core.chat import ChatRequest, Message
from pop_actors.providers import anthropic_schema
from pop_actors.providers.anthropic_models import (
    BUDGETS,
    DEFAULT_MAX_TOKENS,
    LEAST_BUDGET,
    AnthropicModel,
    anthropic_model,
)
from pop_actors.providers.anthropic_reply import open_stream, parse_error, parse_reply
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.openai_form import (
    JSON_ONLY,
    Choice,
    InlineImage,
    bad_request,
    conversation,
    functions,
    image_of,
    instructions,
    parts_of,
    schema_shown,
    tool_choice,
    tool_uses,
)
from pop_actors.providers.types import WireRequest

__all__ = ["auth", "open_stream", "parse_error", "parse_reply", "request"]

VERSION = "2026-10-21"
PATH = "/v1/messages"
_CHOICES = {"auto": "auto", "none": "none", "required": "any"}


def auth(key: str) -> Mapping[str, str]:
    return {"x-api-key": key}


def request(request: ChatRequest, model: str, vendor: Vendor, *, stream: bool) -> WireRequest:  # noqa: ARG001  # a Wire's
    """The bytes to post. `max_tokens` is the one thing sent unasked: the API wants it."""
    known = anthropic_model(model)
    wanted = request.response_format
    schema = anthropic_schema.in_dialect(wanted) if isinstance(wanted, dict) and known.schemas else None
    body: dict[str, Any] = {
        "model": model,
        # more than a model ever writes is refused; asking for it means its most
        "max_tokens": min(request.max_tokens or DEFAULT_MAX_TOKENS, known.max_output),
        "messages": _messages(request, model, known),
    }
    system = _system(request, shown=schema is None)
    if system:
        body["system"] = system
    if request.stop:
        body["stop_sequences"] = request.stop
    choice = tool_choice(request)
    if request.tools:
        body["tools"] = [_tool(function) for function in functions(request)]
    if choice is not None:
        body["tool_choice"] = _choice(choice, model, known)
    if schema is not None:
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    _think(body, request, known, forced=choice is not None and choice.mode == "required")
    if stream:
        body["stream"] = True
    return WireRequest(PATH, orjson.dumps(body), {"anthropic-version": VERSION})


def _system(request: ChatRequest, *, shown: bool) -> str | list[dict[str, Any]]:
    """The instructions; plain text where it is no more than that. `shown`: a schema is to stand in them."""
    blocks = [_block(part) for message in instructions(request) for part in parts_of(message)]
    if request.response_format == "json":
        blocks.append(_text(JSON_ONLY))
    elif isinstance(request.response_format, dict) and shown:
        blocks.append(_text(schema_shown(request.response_format)))
    if all(block.keys() == {"type", "text"} for block in blocks):
        return "\n\n".join(block["text"] for block in blocks)
    return blocks


def _messages(request: ChatRequest, model: str, known: AnthropicModel) -> list[dict[str, Any]]:
    """Turns in alternation: what the tools answered belongs into one turn of the user, before what the user says."""
    turns: list[dict[str, Any]] = []
    for message in conversation(request):
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, model)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns:
        raise bad_request("no message says anything")
    if turns[-1]["role"] == "assistant" and not known.prefill:
        raise bad_request(f"{model} does not go on with what the assistant began: let the last message be the user's")
    return turns


def _blocks(message: Message, model: str) -> list[dict[str, Any]]:
    said = [_block(part) for part in parts_of(message)]
    if message.role == "tool":
        answer = {"type": "tool_result", "tool_use_id": message.tool_call_id}
        return [{**answer, "content": said} if said else answer]
    for number, use in enumerate(tool_uses(message)):
        call = {"type": "tool_use", "id": use.id, "name": use.name, "input": use.arguments}
        thoughts = _thoughts(use.extra, model)
        said = [*thoughts, *said, call] if number == 0 else [*said, *thoughts, call]
    return said


def _thoughts(extra: dict[str, Any], model: str) -> list[dict[str, Any]]:
    """The thinking a call came from, for the model it came from: others refuse it."""
    own = extra.get("anthropic")
    if not isinstance(own, dict) or not isinstance(own.get("thinking"), list):
        return []
    thinker = str(own.get("model"))
    return own["thinking"] if thinker.startswith(model) or model.startswith(thinker) else []


def _block(part: dict[str, Any]) -> dict[str, Any]:
    """A part as a block; one that is neither text nor an image of the one form goes as it is."""
    if part.get("type") != "image_url":
        return part
    image = image_of(part)
    if isinstance(image, InlineImage):
        source = {"type": "base64", "media_type": image.media_type, "data": image.data}
    else:
        source = {"type": "url", "url": image.url}
    return {"type": "image", "source": source}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _tool(function: dict[str, Any]) -> dict[str, Any]:
    tool = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return tool | {key: function[key] for key in ("description", "strict") if function.get(key) is not None}


def _choice(choice: Choice, model: str, known: AnthropicModel) -> dict[str, Any]:
    if choice.mode == "required" and not known.forced_tools:
        raise bad_request(f"{model} cannot be told to use a tool: leave tool_choice out, or set it to auto")
    return {"type": "tool", "name": choice.name} if choice.name else {"type": _CHOICES[choice.mode]}


def _think(body: dict[str, Any], request: ChatRequest, known: AnthropicModel, *, forced: bool) -> None:
    """How hard to think. Where a model may not think (a forced tool, a history without its thoughts), it does not."""
    effort = request.reasoning_effort
    if effort is None:
        return
    if effort == "none":
        if known.off in {"disabled", "between_tools"}:
            body["thinking"] = {"type": known.off}
    elif known.thinking == "budget":
        budget = min(BUDGETS[effort], body["max_tokens"] // 2)
        if budget >= LEAST_BUDGET and not forced and _thought_so_far(body["messages"]):
            body["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        body["output_config"] = {**body.get("output_config", {}), "effort": effort}
        if known.thinking == "asked" and not forced:
            body["thinking"] = {"type": "adaptive"}


def _thought_so_far(turns: list[dict[str, Any]]) -> bool:
    """Whether the tool calls being answered, if there are any, come with the thinking that led to them."""
    answered = [turn["content"] for turn in turns if turn["role"] == "assistant"][-1:]
    calls = [blocks for blocks in answered if any(block.get("type") == "tool_use" for block in blocks)]
    return not calls or calls[0][0].get("type") in {"thinking", "redacted_thinking"}
