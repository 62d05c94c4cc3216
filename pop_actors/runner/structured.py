"""Structured replies, held against what was asked for; and the request that shows a model what it got wrong. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from pop_actors.errors import CallFailed

SHOWN_CHARACTERS = 2000
LONGEST_REPAIRED = 200_000
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL | re.IGNORECASE)


class Misfit(CallFailed):
    """A reply that is not what was asked for: code bad_reply. It was paid. `faults` are as a person would read them."""

    def __init__(self, message: str, faults: list[str], content: str) -> None:
        super().__init__("bad_reply", message, {"content": content[:SHOWN_CHARACTERS]})
        self.faults = faults
        self.content = content


def parsed(content: str, response_format: Any) -> Any:
    """The JSON value of a reply, None where text was asked for. Misfit where it is none, or breaks its schema."""
    if response_format == "text":
        return None
    fenced = _FENCED.fullmatch(content)
    try:
        value = orjson.loads(fenced[1] if fenced else content)
    except orjson.JSONDecodeError as error:
        raise Misfit(f"the reply is not JSON: {error}", [f"it is not JSON: {error}"], content) from None
    if isinstance(response_format, Mapping):
        from pop_actors.runner.json_schema import faults  # jsonschema takes 40 ms to import; most calls need none

        wrong = faults(response_format, value)
        if wrong:
            raise Misfit(f"the reply breaks its schema: {'; '.join(wrong)}", wrong, content)
    return value


def check(response_format: Any) -> None:
    """CallFailed bad_request for a schema that is none: found after the reply, it would have been paid for nothing."""
    if isinstance(response_format, Mapping):
        if response_format.get("type") in ("json_object", "json_schema", "text"):  # as one provider has it on its wire
            told = f"type {response_format['type']!r} is of no schema"
            how = 'write "text", "json", or the JSON Schema itself'
            raise CallFailed("bad_request", f"chat: response_format: {told}: {how}")
        from pop_actors.runner.json_schema import faults  # as in `parsed`

        try:
            faults(response_format, None)
        except ValueError as error:
            raise CallFailed("bad_request", f"chat: response_format: {error}") from None


def repair_of(request: Mapping[str, Any], misfit: Misfit) -> dict[str, Any] | None:
    """The request asked once more, with the reply and its faults shown; None where that cannot help."""
    if len(misfit.content) > LONGEST_REPAIRED:
        return None
    faults = "\n".join(f"- {fault}" for fault in misfit.faults)
    said = [
        {"role": "assistant", "content": misfit.content},
        {
            "role": "user",
            "content": f"This reply is not what was asked for:\n{faults}\n"
            "Answer again, with the corrected JSON and nothing else.",
        },
    ]
    again = {**request, "messages": [*request["messages"], *said]}
    return again | {"toolChoice": "none"} if "tools" in again else again
