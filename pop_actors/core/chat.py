"""One request type and one reply type for every LLM call, whoever the provider is. Plain values, JSON in and out.

Messages, tools and tool calls have OpenAI's form, the one everybody knows; a wire format of another kind translates it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic.alias_generators import to_camel

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]
ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[ReasoningEffort, ...] = get_args(ReasoningEffort)
ToolCall = dict[str, Any]
"""`{"id", "type": "function", "function": {"name", "arguments": JSON text}}`, as a model made it and is told it again.

`extra_content`, where a provider put one, is what it wants back with the call (its reasoning, a signature): opaque.
"""

_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_IMAGE_URL = re.compile(r"data:image/[a-z0-9.+-]+;base64,|https://", re.IGNORECASE)


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if isinstance(tool.get("type"), str) and tool["type"] != "function":
        return tool  # one of the provider's own
    name, parameters = (function.get("name"), function.get("parameters", {})) if isinstance(function, dict) else ("", 0)
    if "type" not in tool or not (
        isinstance(name, str) and _TOOL_NAME.fullmatch(name) and isinstance(parameters, dict)
    ):
        raise ValueError(
            'a tool is {"type": "function", "function": {"name", "description", "parameters"}}; its name has letters, '
            "digits, dots, dashes and underscores, and its parameters are a JSON Schema, an object"
        )
    return tool


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, dict):
        function = choice.get("function")
        if choice.get("type") != "function" or not isinstance(function, dict) or not function.get("name"):
            raise ValueError('a tool_choice that names a tool is {"type": "function", "function": {"name"}}')
    return choice


def _tool_call(call: dict[str, Any]) -> ToolCall:
    function = call.get("function")
    words = (call.get("id"), function.get("name"), function.get("arguments")) if isinstance(function, dict) else (None,)
    if call.get("type", "function") != "function" or not all(isinstance(word, str) for word in words):
        raise ValueError('a tool call is {"id", "type": "function", "function": {"name", "arguments": JSON text}}')
    return call


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if part.get("type") == "text" and not isinstance(part.get("text"), str):
        raise ValueError('a text part is {"type": "text", "text": "…"}')
    if part.get("type") == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, dict) else None
        if not isinstance(url, str) or not _IMAGE_URL.match(url):
            raise ValueError('an image is {"type": "image_url", "image_url": {"url": "https://…" or "data:image/…"}}')
    return part


def _form(content: Any) -> str:
    return "parts" if isinstance(content, list) else "text"


Part = Annotated[dict[str, Any], AfterValidator(_part)]
# told apart before they are looked at: else a wrong part is reported as no text
Content = Annotated[Annotated[str, Tag("text")] | Annotated[list[Part], Tag("parts")], Discriminator(_form)]
Tool = Annotated[dict[str, Any], AfterValidator(_tool)]
ToolChoice = Annotated[Literal["none", "auto", "required"] | dict[str, Any], AfterValidator(_tool_choice)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Message(_Value):
    """`content` is text or parts: text, `image_url`, and others, passed through as the provider takes them.

    An assistant's message may have `tool_calls` and then no content; a tool's answers the one `tool_call_id` names.
    """

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: list[Annotated[ToolCall, AfterValidator(_tool_call)]] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> Message:
        if self.content is None and not (self.role == "assistant" and self.tool_calls):
            raise ValueError("a message needs content; only an assistant's with tool_calls may be without")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a message of role tool, and no other, has the tool_call_id it answers")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("only an assistant's message has tool_calls")
        return self

    @property
    def text(self) -> str:
        """What is text of the content."""
        if isinstance(self.content, list):
            return "\n".join(part["text"] for part in self.content if part.get("type") == "text")
        return self.content or ""


class ChatRequest(_Value):
    """What a task asks for, with provider and model settled by the caller where it has a wish.

    `response_format`: "text", "json", or a JSON Schema (an object). `temperature` and `reasoning_effort` are sent only
    when given. What is left out must leave no trace in `document()`: a call is known by it.
    """

    messages: list[Message] = Field(min_length=1)
    provider: str | None = None
    model: str | None = None
    temperature: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    max_tokens: int | None = Field(default=None, ge=1)
    response_format: Literal["text", "json"] | dict[str, Any] = "text"
    stop: list[str] | None = None
    reasoning_effort: ReasoningEffort | None = None
    tools: list[Tool] | None = Field(default=None, min_length=1)
    tool_choice: ToolChoice | None = None

    @model_validator(mode="after")
    def _choice_has_tools(self) -> ChatRequest:
        if self.tool_choice is not None and self.tools is None:
            raise ValueError("tool_choice is given, but no tools")
        return self

    def document(self) -> dict[str, Any]:
        """The JSON of what was asked, and of nothing else."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class Usage(_Value):
    """Tokens as billed. `input_tokens` includes those read from a cache and those written to one; `output_tokens`
    includes reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0


class ChatReply(_Value):
    """A completion. `cost_usd` None: the price of the model is unknown. `replayed`: it came from the journal, or
    (`cached`) from the response cache."""

    content: str
    usage: Usage
    cost_usd: float | None
    provider: str
    model: str
    finish_reason: FinishReason
    replayed: bool = False
    cached: bool = False
    tool_calls: list[ToolCall] = Field(default_factory=list)
