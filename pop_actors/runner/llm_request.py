"""From what a stage says to the request that is sent: checked before anything leaves, each fault named with its place.
Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from pop_actors.core.chat import ChatRequest
from pop_actors.errors import CallFailed
from pop_actors.runner.llm_choice import Choice


@dataclass(frozen=True, slots=True)
class Asked:
    """What a stage asks, as it said it; nothing is checked yet."""

    messages: Any
    response_format: Any
    stop: Any
    tools: Any
    tool_choice: Any


def seconds_of(timeout: Any, otherwise: float) -> float:
    """How long a call may take. CallFailed bad_request for what is no time."""
    if timeout is None:
        return otherwise
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:  # not: NaN is none
        raise CallFailed(
            "bad_request", f"chat: timeout: {timeout!r}: must be seconds above 0; leave it out for the usual"
        )
    return timeout


def no_json(request: Mapping[str, Any]) -> CallFailed:
    """Why a request cannot be sent, with the place."""
    for name, field_ in ChatRequest.model_fields.items():
        try:
            orjson.dumps(request.get(field_.alias or name))
        except orjson.JSONEncodeError as error:
            hint = (
                '; mend the text, as with text.encode("utf-8", "replace").decode()' if "surrogate" in str(error) else ""
            )
            return CallFailed("bad_request", f"chat: {name}: it cannot be sent as JSON: {error}{hint}")
    return CallFailed("bad_request", "chat: it cannot be sent as JSON")


def request_of(choice: Choice, asked: Asked) -> dict[str, Any]:
    """The document of a `ChatRequest`. CallFailed bad_request, naming the place."""
    said = {
        "messages": [{"role": "user", "content": asked.messages}]
        if isinstance(asked.messages, str)
        else asked.messages,
        "provider": choice.provider,
        "model": choice.model,
        "temperature": choice.temperature,
        "max_tokens": choice.max_tokens,
        "response_format": asked.response_format,
        "stop": [asked.stop] if isinstance(asked.stop, str) else asked.stop,
        "reasoning_effort": choice.reasoning_effort,
        "tools": asked.tools,
        "tool_choice": asked.tool_choice,
    }
    try:
        return ChatRequest.model_validate(said).document()
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise CallFailed("bad_request", f"chat: {where}: {fault['msg']}") from None
    except PydanticSerializationError as error:
        raise CallFailed("bad_request", f"chat: it cannot be sent as JSON: {error}") from None
