"""Whether a JSON Schema stands in the dialect of OpenAI's strict mode, in which no reply can break it. Pure.

The dialect wants every object closed and every property required, and refuses what it does not know: a schema that says
anything beyond what is listed here is sent without the mode, and its reply is validated here as every other.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 5
_SCALARS = frozenset({"string", "number", "integer", "boolean", "null"})
_SAID_OF_ALL = frozenset({"type", "title", "description", "enum", "const"})
_SAID_OF = {
    "object": _SAID_OF_ALL | {"properties", "required", "additionalProperties"},
    "array": _SAID_OF_ALL | {"items"},
}


def is_strict(schema: dict[str, Any]) -> bool:
    """The outermost value must be an object."""
    return schema.get("type") == "object" and _fits(schema, 1)


def _fits(schema: Any, depth: int) -> bool:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return False
    if schema.keys() <= {"anyOf", "title", "description"}:
        variants = schema.get("anyOf")
        return isinstance(variants, list) and bool(variants) and all(_fits(variant, depth + 1) for variant in variants)
    kind = schema.get("type")
    if not isinstance(kind, str) or not schema.keys() <= _SAID_OF.get(kind, _SAID_OF_ALL):
        return isinstance(kind, list) and schema.keys() <= _SAID_OF_ALL and _are_scalars(kind)
    match kind:
        case "object":
            return _is_closed(schema) and all(_fits(one, depth + 1) for one in schema["properties"].values())
        case "array":
            return _fits(schema.get("items"), depth + 1)
        case _:
            return kind in _SCALARS


def _are_scalars(kinds: list[Any]) -> bool:
    return bool(kinds) and all(isinstance(kind, str) and kind in _SCALARS for kind in kinds)


def _is_closed(schema: dict[str, Any]) -> bool:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not isinstance(required, list) or not properties:
        return False
    return schema.get("additionalProperties") is False and sorted(map(str, required)) == sorted(properties)
