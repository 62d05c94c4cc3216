"""A document that conforms to a JSON Schema, the same one for the same schema and seed. Pure; for the offline provider.

Understands type, properties, required, items, prefixItems, enum, const, anyOf, oneOf, allOf, local $ref, the lengths
and bounds, uniqueItems, multipleOf, plain patterns and the usual formats. Other keywords are left out of account.
"""

from __future__ import annotations

import hashlib
import math
import re
import string
from collections.abc import Callable
from typing import Any

from pop_actors.errors import CallFailed

Schema = Any
SHALLOW = 5  # below this depth only what is required is made
DEEPEST = 40
MOST_PARTS = 20_000
MOST_CHARACTERS = 1_000_000
_WORDS = (
    "amber",
    "basalt",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "island",
    "juniper",
    "keel",
    "lumen",
)
_FORMATS = {
    "date-time": "2025-01-15T12:00:00Z",
    "date": "2025-01-15",
    "time": "12:00:00Z",
    "duration": "PT1H",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com/",
    "uuid": "6f1b8f0e-2f0a-4c38-9d52-0d6c4a2f7f11",
}
_HINTS = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}


def sample(schema: Schema, seed: bytes) -> Any:
    """A conforming document. CallFailed bad_request where the schema is none, or needs a document without end."""
    try:
        return _Sampler(schema, seed).make(schema, "", 0)
    except (TypeError, AttributeError, KeyError, ValueError, ArithmeticError) as error:
        raise CallFailed("bad_request", f"the response_format is no JSON Schema that can be met: {error}") from None


class _Sampler:
    def __init__(self, root: Schema, seed: bytes) -> None:
        self._root = root
        self._seed = seed
        self._left = MOST_PARTS
        self._makers: dict[str, Callable[[dict[str, Any], str, int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "integer": lambda schema, _path, _depth: int(_number(schema, whole=True)),
            "number": lambda schema, _path, _depth: _number(schema, whole=False),
            "boolean": lambda _schema, path, _depth: self._pick(path, 2) == 0,
            "null": lambda _schema, _path, _depth: None,
        }

    def make(self, schema: Schema, path: str, depth: int) -> Any:
        self._left -= 1
        if depth > DEEPEST or self._left < 0:
            raise CallFailed("bad_request", f"the response_format's schema has no end at {path[:120]}")
        if not isinstance(schema, dict):
            return self._word(path)
        schema = self._flat(schema, depth)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][self._pick(path, len(schema["enum"]))]
        return self._makers[_type_of(schema, depth)](schema, path, depth)

    def _flat(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """The schema with its references followed and its combinations resolved to one alternative."""
        for _ in range(DEEPEST):
            if "$ref" in schema:
                schema = _merged(_without(schema, "$ref"), self._target(schema["$ref"]))
            elif schema.get("allOf"):
                first, *rest = schema["allOf"]
                schema = _merged(_without(schema, "allOf") | ({"allOf": rest} if rest else {}), first)
            elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
                chosen = min(alternatives, key=_size) if depth > SHALLOW else alternatives[0]
                schema = _merged(_without(schema, "anyOf", "oneOf"), chosen)
            else:
                return schema
        raise CallFailed("bad_request", "the response_format's schema refers to itself without end")

    def _target(self, reference: Any) -> Schema:
        place = self._root
        for part in str(reference).removeprefix("#").strip("/").split("/"):
            if part:
                key = part.replace("~1", "/").replace("~0", "~")
                place = place.get(key) if isinstance(place, dict) else None
        if place is None or not str(reference).startswith("#"):
            raise CallFailed("bad_request", f"the response_format's schema has no {reference}")
        return place

    def _object(self, schema: dict[str, Any], path: str, depth: int) -> dict[str, Any]:
        known = schema.get("properties") or {}
        required = schema.get("required") or []
        names = [*known, *(name for name in required if name not in known)] if depth <= SHALLOW else required
        other = schema.get("additionalProperties", {})
        made = {name: self.make(known.get(name, other), f"{path}/{name}", depth + 1) for name in names}
        while len(made) < min(schema.get("minProperties", 0), MOST_PARTS):
            name = next((name for name in known if name not in made), f"extra{len(made) + 1}")
            made[name] = self.make(known.get(name, other), f"{path}/{name}", depth + 1)
        return made

    def _array(self, schema: dict[str, Any], path: str, depth: int) -> list[Any]:
        fixed = schema.get("prefixItems") or []
        wish = max(len(fixed), 2) if depth <= SHALLOW else 0
        count = min(MOST_PARTS, max(schema.get("minItems", 0), min(wish, schema.get("maxItems", wish))))
        rest = schema.get("items", {})
        if rest is False:
            count = min(count, len(fixed))
        schemas = [*fixed[:count], *[rest] * (count - len(fixed))]
        made = [self.make(item, f"{path}/{place}", depth + 1) for place, item in enumerate(schemas)]
        return self._distinct(made, schema, rest) if schema.get("uniqueItems") else made

    def _distinct(self, made: list[Any], schema: dict[str, Any], rest: Schema) -> list[Any]:
        """Drop repetitions, and fill up to minItems from the items' own choices."""
        values: list[Any] = []
        choices = rest.get("enum", []) if isinstance(rest, dict) else []
        for value in [*made, *choices]:
            if value not in values and len(values) < max(len(made), schema.get("minItems", 0)):
                values.append(value)
        while len(values) < schema.get("minItems", 0):
            last = values[-1] if values else 0
            values.append(last + 1 if isinstance(last, int | float) else f"{last}{len(values)}")
        return values

    def _string(self, schema: dict[str, Any], path: str, _depth: int) -> str:
        least = int(schema.get("minLength", 0))
        if least > MOST_CHARACTERS:
            raise ValueError(f"minLength {least} is too long")
        if isinstance(schema.get("pattern"), str):
            return _matching(schema["pattern"], least)
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._word(path)
        text += f" {text}" * (least // len(text))
        most = max(least, int(schema.get("maxLength", len(text))))
        return text[:most]

    def _word(self, path: str) -> str:
        return f"{_WORDS[self._pick(path, len(_WORDS))]} {_WORDS[self._pick(path + '+', len(_WORDS))]}"

    def _pick(self, path: str, count: int) -> int:
        return int.from_bytes(hashlib.sha256(self._seed + path.encode("utf-8", "replace")).digest()[:4], "big") % count


def _type_of(schema: dict[str, Any], depth: int) -> str:
    said = schema.get("type")
    if isinstance(said, list) and said:
        return str("null" if depth > SHALLOW and "null" in said else said[0])
    if isinstance(said, str) and said in {*_HINTS, "integer", "boolean", "null"}:
        return said
    return next((name for name, hints in _HINTS.items() if any(hint in schema for hint in hints)), "string")


def _merged(one: dict[str, Any], other: Schema) -> dict[str, Any]:
    """Both schemas at once, as far as keywords can be joined."""
    if not isinstance(other, dict):
        return one
    joined = {**one, **other}
    if "properties" in one and "properties" in other:
        joined["properties"] = {**one["properties"], **other["properties"]}
    if "required" in one and "required" in other:
        joined["required"] = [*dict.fromkeys([*one["required"], *other["required"]])]
    if "allOf" in one and "allOf" in other:
        joined["allOf"] = [*one["allOf"], *other["allOf"]]
    return joined


def _without(schema: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in keys}


def _size(schema: Schema) -> int:
    """How much an alternative asks for: what refers to others may go on for ever, null is over at once."""
    if not isinstance(schema, dict):
        return 0
    if "$ref" in schema:
        return 3
    return {"null": 0, "array": 1, "object": 2}.get(str(schema.get("type")), 1)


def _number(schema: dict[str, Any], *, whole: bool) -> float:
    step: float = schema.get("multipleOf") or (1 if whole else 0)
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    start: float = max(low, above)
    end: float = min(high, below)
    if step:
        value = _first_step(start if start > -math.inf else min(step, end), step)
        return value + step if value <= above else value if value < below else value - step
    if start == -math.inf and end == math.inf:
        return 0.5
    if math.inf in {-start, end}:
        return start + 1 if start > -math.inf else end - 1
    return start if start == end else (start + end) / 2


def _first_step(start: float, step: float) -> float:
    return math.ceil(start / step) * step


def _matching(pattern: str, least: int) -> str:
    """A text that matches a plain pattern: literals, classes, groups, alternatives and repetitions."""
    from re import _parser  # type: ignore[attr-defined]  # the parser re itself uses; there is no public one

    try:
        parsed = _parser.parse(pattern)
    except re.error:
        return pattern
    text = _joined(parsed)
    return text if pattern.endswith("$") else text.ljust(least, "a")


def _joined(parts: Any) -> str:
    return "".join(_PIECES.get(str(name), _nothing)(value) for name, value in parts)


def _nothing(_value: Any) -> str:
    """For anchors and whatever else stands for no text of its own."""
    return ""


def _repeated(value: Any) -> str:
    least: int
    least, most, part = value
    return (_joined(part) * min(max(least, 1), int(most), MOST_PARTS))[:MOST_CHARACTERS]


def _one_of(choices: Any) -> str:
    if str(choices[0][0]) == "NEGATE":
        unwanted = re.compile(f"[{''.join(_as_class(*choice) for choice in choices[1:])}]")
        return next((sign for sign in string.printable if not unwanted.match(sign)), "")
    operation, value = choices[0]
    match str(operation):
        case "LITERAL":
            return chr(value)
        case "RANGE":
            return chr(value[0])
        case _:
            return {"CATEGORY_DIGIT": "1", "CATEGORY_SPACE": " ", "CATEGORY_NOT_WORD": "-"}.get(str(value), "a")


def _as_class(operation: Any, value: Any) -> str:
    match str(operation):
        case "LITERAL":
            return re.escape(chr(value))
        case "RANGE":
            return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        case _:
            return {"CATEGORY_DIGIT": r"\d", "CATEGORY_SPACE": r"\s", "CATEGORY_WORD": r"\w"}.get(str(value), "")


_PIECES: dict[str, Callable[[Any], str]] = {
    "LITERAL": chr,
    "NOT_LITERAL": lambda value: "b" if value == ord("a") else "a",
    "ANY": lambda _value: "a",
    "IN": _one_of,
    "BRANCH": lambda value: _joined(value[1][0]),
    "SUBPATTERN": lambda value: _joined(value[3]),
    "MAX_REPEAT": _repeated,
    "MIN_REPEAT": _repeated,
}
