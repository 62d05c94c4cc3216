"""The provider that is built in: no network, no key, no cost, and the same reply to the same request for ever."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import orjson

from pop_actors.core.chat import ChatRequest, ToolCall, Usage
from pop_actors.errors import CallFailed
from pop_actors.providers.sample import sample
from pop_actors.providers.types import ProviderReply

BYTES_PER_TOKEN = 4
_WORD = re.compile(r"[^\W\d_][\w'-]{3,}")
_OPENINGS = (
    "Taken together, the material points to {a} as the main theme, with {b} close behind.",
    "Three things stand out here: {a}, {b} and {c}.",
    "The question comes down to {a}, and to how it bears on {b}.",
    "Seen from a distance, {a} sets the direction and {b} sets the pace.",
)
_MIDDLES = (
    "What is known about {b} supports this, although {c} deserves a closer look.",
    "The link between {a} and {c} is plausible and can be checked against the sources.",
    "Where {c} is concerned the picture is less clear, so it is named as an assumption.",
    "Of the two, {b} is easier to measure and {a} matters more.",
)
_CLOSINGS = (
    "The next step is to test this against one concrete case.",
    "In short: begin with {a}, and come back to {c} once the numbers are in.",
    "A short review of {b} would settle what is still open.",
    "This is enough to go on, and it says plainly where it is thin.",
)


class OfflineProvider:
    """A `Provider` that answers by itself."""

    async def chat(self, request: ChatRequest, model: str, deadline: float) -> ProviderReply:  # noqa: ARG002  # the seam's signature; it never waits
        """A paragraph about the last user message, or JSON as asked for; a call of a tool only where one must be."""
        asked = orjson.dumps(request.document(), option=orjson.OPT_SORT_KEYS)
        seed = hashlib.sha256(model.encode() + b"\0" + asked).digest()
        calls = _forced_call(request, seed)
        content = "" if calls else _content(request, seed)
        most = (request.max_tokens or len(content)) * BYTES_PER_TOKEN
        cut = request.response_format == "text" and len(content) > most
        content = content[:most] if cut else content
        prompt = sum(len(_text(message.content).encode()) for message in request.messages)
        usage = Usage(input_tokens=_tokens(prompt), output_tokens=_tokens(len(content.encode())))
        return ProviderReply(content, usage, "tool_calls" if calls else "length" if cut else "stop", 0.0, calls)

    async def close(self) -> None:
        """There is nothing to let go of."""


def _forced_call(request: ChatRequest, seed: bytes) -> tuple[ToolCall, ...]:
    """With arguments as the tool's parameters say."""
    choice = request.tool_choice
    if choice is None or choice in ("auto", "none"):
        return ()
    wanted = choice["function"]["name"] if isinstance(choice, dict) else None
    functions = [tool["function"] for tool in request.tools or () if tool.get("type") == "function"]
    for function in functions:
        if wanted in {None, function["name"]}:
            arguments = orjson.dumps(sample(function.get("parameters") or {"type": "object"}, seed)).decode()
            called = {"name": function["name"], "arguments": arguments}
            return ({"id": f"call_{seed[:6].hex()}", "type": "function", "function": called},)
    raise CallFailed("bad_request", f"tool_choice wants {wanted or 'a tool'}, but there is no such tool")


def _content(request: ChatRequest, seed: bytes) -> str:
    wanted = request.response_format
    if isinstance(wanted, dict):
        return orjson.dumps(sample(wanted, seed), option=orjson.OPT_INDENT_2).decode()
    words = _words(_last_user_text(request), seed)
    paragraph = " ".join(
        choices[seed[place] % len(choices)].format_map(words)
        for place, choices in enumerate((_OPENINGS, _MIDDLES, _CLOSINGS))
    )
    if wanted == "text":
        return paragraph
    document = {"topic": words["a"], "summary": paragraph, "points": [words["a"], words["b"], words["c"]]}
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode()


def _words(text: str, seed: bytes) -> dict[str, str]:
    """Three words of the text to write about, the longest of it first in line."""
    found = sorted({word.lower() for word in _WORD.findall(text)}, key=lambda word: (-len(word), word))[:12]
    found += ["subject", "context", "detail"][: max(0, 3 - len(found))]
    first = seed[8] % len(found)
    a, b, c = ((found * 2)[first + step] for step in range(3))
    return {"a": a, "b": b, "c": c}


def _last_user_text(request: ChatRequest) -> str:
    said = [message.content for message in request.messages if message.role == "user"]
    return _text(said[-1] if said else request.messages[-1].content)


def _text(content: str | list[dict[str, Any]] | None) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    return " ".join(str(part.get("text", "")) for part in content)


def _tokens(size: int) -> int:
    return max(1, -(-size // BYTES_PER_TOKEN))
