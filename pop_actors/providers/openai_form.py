"""The one form requests come in (messages, tools and images as OpenAI writes them), read for formats that have another.

Pure. What cannot be translated is a bad_request before anything is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from pop_actors.core.chat import ChatRequest, Message, ToolCall
from pop_actors.providers.types import AttemptFailed

INSTRUCTING_ROLES = frozenset({"system", "developer"})
JSON_ONLY = "Answer with one JSON object and nothing else: no words around it, no code fence."


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image that came with the message, in base64."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class LinkedImage:
    """An image the provider is to fetch."""

    url: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of a tool an assistant made earlier. `extra`: what one provider or another wants to see again with it."""

    id: str
    name: str
    arguments: dict[str, Any]
    extra: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether tools are to be used; `name` where it must be that one."""

    mode: Literal["auto", "none", "required"]
    name: str | None = None


def instructions(request: ChatRequest) -> list[Message]:
    """The system and developer messages, in order."""
    return [message for message in request.messages if message.role in INSTRUCTING_ROLES]


def conversation(request: ChatRequest) -> list[Message]:
    """The other messages. bad_request where there are none."""
    said = [message for message in request.messages if message.role not in INSTRUCTING_ROLES]
    if not said:
        raise bad_request("this provider needs a message of the user beside the instructions")
    return said


def parts_of(message: Message) -> Iterator[dict[str, Any]]:
    """The parts of a message; plain text is one part. Empty text is left out: it is refused."""
    parts = message.content if isinstance(message.content, list) else [{"type": "text", "text": message.content or ""}]
    return (part for part in parts if part.get("type") != "text" or part["text"])


def image_of(part: dict[str, Any]) -> InlineImage | LinkedImage:
    """The image of an `image_url` part."""
    url: str = part["image_url"]["url"]
    if not url.startswith("data:"):
        return LinkedImage(url)
    described, _, data = url.removeprefix("data:").partition(",")
    return InlineImage(described.partition(";")[0].lower(), data)


def schema_shown(schema: dict[str, Any]) -> str:
    """The instruction that stands for a JSON Schema where it cannot be sent as one."""
    return f"{JSON_ONLY} It is of this JSON Schema: {orjson.dumps(schema).decode()}"


def tool_uses(message: Message) -> list[ToolUse]:
    """The tool calls of an assistant's message."""
    return [_tool_use(call) for call in message.tool_calls or []]


def _tool_use(call: ToolCall) -> ToolUse:
    function, extra = call["function"], call.get("extra_content")
    try:
        arguments = orjson.loads(function["arguments"] or "{}")
    except orjson.JSONDecodeError:
        arguments = None
    if not isinstance(arguments, dict):
        raise bad_request(f"the arguments of tool call {call['id']} are no JSON object")
    return ToolUse(call["id"], function["name"], arguments, extra if isinstance(extra, dict) else {})


def tool_call(id_: str, name: str, arguments: str, extra: dict[str, Any] | None = None) -> ToolCall:
    """A tool call as a reply says it; `arguments` is JSON text."""
    call: ToolCall = {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments or "{}"}}
    return {**call, "extra_content": extra} if extra else call


def functions(request: ChatRequest) -> list[dict[str, Any]]:
    """What the tools declare: `name`, and perhaps `description`, `parameters`, `strict`."""
    return [tool["function"] for tool in request.tools or []]


def tool_choice(request: ChatRequest) -> Choice | None:
    """What the request says of using tools; None where it says nothing."""
    wanted = request.tool_choice
    if wanted is None:
        return None
    return Choice("required", str(wanted["function"]["name"])) if isinstance(wanted, dict) else Choice(wanted)


def bad_request(why: str) -> AttemptFailed:
    """A request this provider's format has no words for; nothing was sent."""
    return AttemptFailed("bad_request", why, "permanent")
