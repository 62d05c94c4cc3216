"""Gemini's generateContent as JSON. Pure; a `Wire`. Requests are here; replies, streams, errors in `gemini_reply`."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import orjson

from pop_actors.core.chat import ChatRequest, Message, ReasoningEffort
from pop_actors.providers.catalogue import Vendor
from pop_actors.providers.gemini_models import BUDGETS, is_earlier
from pop_actors.providers.gemini_reply import open_stream, parse_error, parse_reply
from pop_actors.providers.openai_form import (
    JSON_ONLY,
    Choice,
    InlineImage,
    ToolUse,
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
from pop_actors.providers.reading import table
from pop_actors.providers.types import WireRequest

__all__ = ["auth", "open_stream", "parse_error", "parse_reply", "request"]

# what stands for the signature of a call this API did not make itself, as its documentation says
NO_SIGNATURE = "skip_thought_signature_validator"
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


def auth(key: str) -> Mapping[str, str]:
    return {"x-goog-api-key": key}


def request(request: ChatRequest, model: str, vendor: Vendor, *, stream: bool) -> WireRequest:  # noqa: ARG001  # a Wire's
    name = model.removeprefix("models/")
    body: dict[str, Any] = {"contents": _contents(request, name)}
    system = _system(request, name)
    if system:
        body["systemInstruction"] = {"parts": system}
    config = _config(request, name)
    if config:
        body["generationConfig"] = config
    if request.tools:
        body["tools"] = [{"functionDeclarations": [_declaration(function) for function in functions(request)]}]
    choice = tool_choice(request)
    if choice is not None:
        body["toolConfig"] = {"functionCallingConfig": _calling(choice)}
    verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return WireRequest(f"/v1/models/{quote(name, safe='')}:{verb}", orjson.dumps(body))


def _config(request: ChatRequest, model: str) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if request.temperature is not None:
        config["temperature"] = request.temperature
    if request.max_tokens is not None:
        config["maxOutputTokens"] = request.max_tokens
    if request.stop:
        config["stopSequences"] = request.stop
    if _takes_json(request, model):
        config["responseMimeType"] = "application/json"
        if isinstance(request.response_format, dict):
            config["responseJsonSchema"] = request.response_format
    if request.reasoning_effort is not None:
        config["thinkingConfig"] = _thinking(request.reasoning_effort, model)
    return config


def _takes_json(request: ChatRequest, model: str) -> bool:
    return request.response_format != "text" and not (request.tools and is_earlier(model))


def _thinking(effort: ReasoningEffort, model: str) -> dict[str, Any]:
    if is_earlier(model):
        return {"thinkingBudget": BUDGETS.get(effort, BUDGETS["high"])}
    return {"thinkingLevel": effort.upper()}


def _system(request: ChatRequest, model: str) -> list[dict[str, Any]]:
    parts = [_part(part) for message in instructions(request) for part in parts_of(message)]
    if not _takes_json(request, model):
        if isinstance(request.response_format, dict):
            parts.append({"text": schema_shown(request.response_format)})
        elif request.response_format == "json":
            parts.append({"text": JSON_ONLY})
    return parts


def _contents(request: ChatRequest, model: str) -> list[dict[str, Any]]:
    """The turns. The answers to calls made together belong into one."""
    turns: list[dict[str, Any]] = []
    names: dict[str, str] = {}
    answering = False
    for message in conversation(request):
        uses = tool_uses(message)
        names |= {use.id: use.name for use in uses}
        if message.role == "tool":
            parts = [_response(message, names)]
        else:
            parts = [_part(part) for part in parts_of(message)]
            parts += [_call(use, model, first=number == 0) for number, use in enumerate(uses)]
        if message.role == "tool" and answering:
            turns[-1]["parts"] += parts
        elif parts:
            turns.append({"role": "model" if message.role == "assistant" else "user", "parts": parts})
        answering = message.role == "tool"
    if not turns:
        raise bad_request("no message says anything")
    return turns


def _part(part: dict[str, Any]) -> dict[str, Any]:
    """A part in Gemini's words; one that has no `type` is in them already."""
    match part.get("type"):
        case "text":
            return {"text": part["text"]}
        case "image_url":
            return _image(part)
        case None:
            return part
        case kind:
            raise bad_request(f"gemini has no words for a content part of type {kind}")


def _image(part: dict[str, Any]) -> dict[str, Any]:
    image = image_of(part)
    if isinstance(image, InlineImage):
        return {"inlineData": {"mimeType": image.media_type, "data": image.data}}
    guessed, _ = mimetypes.guess_type(urlsplit(image.url).path)
    kind = {"mimeType": guessed} if guessed and guessed.startswith("image/") else {}
    return {"fileData": {"fileUri": image.url, **kind}}


def _call(use: ToolUse, model: str, *, first: bool) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"id": use.id, "name": use.name, "args": use.arguments}}
    signature = table(use.extra.get("google")).get("thought_signature")
    if isinstance(signature, str):
        part["thoughtSignature"] = signature
    elif first and not is_earlier(model):
        part["thoughtSignature"] = NO_SIGNATURE
    return part


def _response(message: Message, names: Mapping[str, str]) -> dict[str, Any]:
    call = str(message.tool_call_id)
    if call not in names:
        raise bad_request(f"a message of role tool answers call {call}, which no message before it makes")
    response: dict[str, Any] = {"id": call, "name": names[call], "response": _result(message.text)}
    shown = [_part(part) for part in parts_of(message) if part.get("type") != "text"]
    return {"functionResponse": {**response, "parts": shown} if shown else response}


def _result(said: str) -> dict[str, Any]:
    """What a tool said, as the object the API wants."""
    try:
        value = orjson.loads(said)
    except orjson.JSONDecodeError:
        value = said
    return value if isinstance(value, dict) else {"result": value}


def _declaration(function: dict[str, Any]) -> dict[str, Any]:
    declared = {"name": function["name"]}
    if function.get("description"):
        declared["description"] = function["description"]
    if function.get("parameters"):
        declared["parametersJsonSchema"] = function["parameters"]
    return declared


def _calling(choice: Choice) -> dict[str, Any]:
    calling: dict[str, Any] = {"mode": _MODES[choice.mode]}
    return calling | {"allowedFunctionNames": [choice.name]} if choice.name else calling
