"""One request type and one reply type for every LLM call, whoever the provider is. Plain values, JSON in and out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Message(_Value):
    """`content` is text (content parts of other kinds are passed through as the provider takes them)."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]]


class ChatRequest(_Value):
    """What a task asks for, with provider and model settled by the caller where it has a wish.

    `response_format`: "text", "json", or a JSON Schema (an object). `temperature` is sent only when given.
    """

    messages: list[Message] = Field(min_length=1)
    provider: str | None = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    response_format: Literal["text", "json"] | dict[str, Any] = "text"
    stop: list[str] | None = None


class Usage(_Value):
    """Tokens as billed. `input_tokens` includes the cached ones; `output_tokens` includes reasoning."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


class ChatReply(_Value):
    """A completion. `cost_usd` None: the price of the model is unknown. `replayed`: it came from the journal."""

    content: str
    usage: Usage
    cost_usd: float | None
    provider: str
    model: str
    finish_reason: FinishReason
    replayed: bool = False
