"""A user's JSON Schema in the dialect Anthropic's structured outputs speak, where it can be said in it. Pure.

The dialect closes every object and knows no bounds. What is dropped becomes part of the description, where the model
reads it; whoever asked holds the reply against the schema itself.
"""

from __future__ import annotations

from typing import Any

import orjson

_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)  # fmt: skip
_SCALARS = frozenset({"string", "integer", "number", "boolean", "null"})
_KEPT = ("title", "description", "type", "enum", "const", "anyOf", "allOf", "$ref", "$defs", "definitions", "default")
_SILENT = frozenset({"$schema", "$id", "$comment", "examples"})  # they say nothing about the reply
MAX_DEPTH = 64


class _Inexpressible(Exception):
    """The dialect has no words for it."""


def in_dialect(schema: dict[str, Any]) -> dict[str, Any] | None:
    """The schema as the API takes it; None where it cannot be said, so that the model has to be shown it instead."""
    try:
        return _narrow(schema, 0)
    except _Inexpressible:
        return None


def _narrow(schema: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        raise _Inexpressible
    said: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
    dropped = {key: value for key, value in schema.items() if key not in _KEPT and key not in _SILENT}
    for key in ("$defs", "definitions"):
        if key in said:
            said[key] = _each(said[key], depth)
    if "oneOf" in dropped and "anyOf" not in said:
        said["anyOf"] = dropped.pop("oneOf")
    for key in ("anyOf", "allOf"):
        if key in said:
            said[key] = [_narrow(variant, depth + 1) for variant in _list(said[key])]
    _kinds_said(said, dropped, depth)
    if dropped:
        _describe(said, dropped)
    return said


def _kinds_said(said: dict[str, Any], dropped: dict[str, Any], depth: int) -> None:
    """What the types named bring with them, moved from what is dropped to what is said."""
    kinds = _kinds(said.get("type"))
    if not kinds and not {"enum", "const", "anyOf", "allOf", "$ref"} & said.keys():
        raise _Inexpressible
    if "object" in kinds:
        _close(said, dropped, depth)
    if "array" in kinds:
        _items(said, dropped, depth)
    if "string" in kinds and dropped.get("format") in _FORMATS:
        said["format"] = dropped.pop("format")


def _kinds(named: Any) -> set[str]:
    kinds = {named} if isinstance(named, str) else set(_list(named)) if named is not None else set()
    if not kinds <= _SCALARS | {"object", "array"}:
        raise _Inexpressible
    return kinds


def _close(said: dict[str, Any], dropped: dict[str, Any], depth: int) -> None:
    """An object: exactly its properties. One that is a map of unnamed keys cannot be said."""
    properties = dropped.pop("properties", None)
    more = dropped.pop("additionalProperties", None)
    if isinstance(more, dict) or "patternProperties" in dropped or not properties:
        raise _Inexpressible
    said["properties"] = _each(properties, depth)
    if "required" in dropped:
        said["required"] = dropped.pop("required")
    said["additionalProperties"] = False


def _items(said: dict[str, Any], dropped: dict[str, Any], depth: int) -> None:
    if "items" not in dropped:
        raise _Inexpressible
    said["items"] = _narrow(dropped.pop("items"), depth + 1)
    if dropped.get("minItems") in {0, 1}:
        said["minItems"] = dropped.pop("minItems")


def _each(schemas: Any, depth: int) -> dict[str, Any]:
    if not isinstance(schemas, dict):
        raise _Inexpressible
    return {name: _narrow(schema, depth + 1) for name, schema in schemas.items()}


def _describe(said: dict[str, Any], dropped: dict[str, Any]) -> None:
    shown = orjson.dumps(dropped, option=orjson.OPT_NON_STR_KEYS).decode()
    before = said.get("description")
    said["description"] = f"{before}\n\n{shown}" if isinstance(before, str) else shown


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not all(isinstance(item, str | dict) for item in value):
        raise _Inexpressible
    return value
