"""Reads JSON documents that nobody vouches for: whatever stands there, the answer is a value of the type asked for.

Used by the wire formats. Pure.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from typing import Any

import orjson

from pop_actors.providers.types import AttemptFailed

MAX_TOKENS_COUNT = 2**53


def bad_reply(why: str) -> AttemptFailed:
    """A reply that is none: it was paid, and would be the same again."""
    return AttemptFailed("bad_reply", f"the provider's reply is no completion: {why}", "permanent")


def document_of(body: bytes | str, what: str = "the reply") -> dict[str, Any]:
    """The JSON object in a body; a byte order mark before it is passed over. AttemptFailed bad_reply where there is
    none."""
    body = body.removeprefix(BOM_UTF8) if isinstance(body, bytes) else body
    if not body.strip():
        raise bad_reply(f"{what} is empty")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_reply(f"{what} is not JSON; it begins {body[:40]!r}") from None
    return object_of(value, what)


def object_of(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_reply(f"{what} is not an object")
    return value


def json_text(value: Any) -> str:
    """The value as JSON again. AttemptFailed bad_reply where it is nested deeper than is written anywhere."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError as error:
        raise bad_reply(f"it cannot be told again: {error}") from None


def table(value: Any) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; what is no list has none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def count(value: Any) -> int:
    """A number of tokens; 0 for what cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TOKENS_COUNT:
        return 0
    return int(value)
