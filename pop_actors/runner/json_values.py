"""JSON values between a task and the runner: checked once on the way in, copied on every way out. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MAX_LEVELS = 200
_SMALLEST, _BIGGEST = -(2**63), 2**64 - 1
_SHOWN_CHARACTERS = 80


class InvalidResult(Exception):
    """A stage returned something that is no result; the message names the stage, the place and what is allowed."""


class FlagChanged(Exception):
    """A stage gave a flag another type than it had; the message names the flag and both types."""


def plain(value: Any, where: str) -> Any:
    """A copy of `value` made of plain dict, list, str, int, float, bool and None only.

    InvalidResult names the place (`output.items[3]`) of anything JSON does not have, of a number that is not finite or
    does not fit in 64 bits, of half a surrogate pair, and of nesting deeper than `MAX_LEVELS`.
    """
    return _plain(value, where, 0)


def _plain(value: Any, where: str, level: int) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, int):
        return _whole(value, where)
    if isinstance(value, float):
        return _finite(value, where)
    if level >= MAX_LEVELS:
        raise InvalidResult(f"{_short(where)}: nested deeper than {MAX_LEVELS} levels")
    if isinstance(value, dict):
        return {_key(key, where): _plain(item, f"{where}.{key}", level + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{index}]", level + 1) for index, item in enumerate(value)]
    raise InvalidResult(f"{_short(where)}: a {type(value).__name__} is not JSON; give text, numbers, lists, objects")


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise InvalidResult(f"{_short(where)}: the key {_short(repr(key))} is not a text")
    return _text(key, f"{where}, a key")


def _text(value: str, where: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidResult(f"{_short(where)}: half of a surrogate pair stands alone") from None
    return value if type(value) is str else str.__str__(value)


def _whole(value: int, where: str) -> int:
    if not _SMALLEST <= value <= _BIGGEST:
        raise InvalidResult(f"{_short(where)}: a whole number beyond 64 bits; give it as a text")
    return value if type(value) is int else int.__int__(value)


def _finite(value: float, where: str) -> float:
    if not math.isfinite(value):
        raise InvalidResult(f"{_short(where)}: {value} is no finite number")
    return value if type(value) is float else float.__float__(value)


def copied(value: Any) -> Any:
    """A deep copy of a plain value."""
    if type(value) is dict:
        return {key: copied(item) for key, item in value.items()}
    if type(value) is list:
        return [copied(item) for item in value]
    return value


def merged_flags(before: Mapping[str, Any], added: Mapping[str, Any], stage: str) -> dict[str, Any]:
    """The flags after a stage. FlagChanged where one of them changes its type (all numbers are of one type)."""
    for name, value in added.items():
        if name in before and json_type(before[name]) != json_type(value):
            raise FlagChanged(
                f"{stage}: the flag {_short(name)} was {json_type(before[name])} and became {json_type(value)}"
            )
    return {**before, **added}


def json_type(value: Any) -> str:
    """What JSON calls this plain value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "an object" if isinstance(value, dict) else "a list"


def result_of(returned: Any, stage: str) -> tuple[Any, dict[str, Any]]:
    """(output, flags) of what a stage returned, as plain values. InvalidResult where it is no result."""
    output, flags = _parts(returned, stage)
    if not isinstance(flags, dict):
        raise InvalidResult(f"{stage}: flags must be an object, not {_short(repr(flags))}")
    return plain(output, f"{stage}: output"), plain(flags, f"{stage}: flags")


def _parts(returned: Any, stage: str) -> tuple[Any, Any]:
    expected = f"{stage} must return StageResult(output, flags) or a mapping with `output` and optional `flags`"
    if hasattr(returned, "output") and hasattr(returned, "flags") and not isinstance(returned, Mapping):
        return returned.output, {} if returned.flags is None else returned.flags
    if not isinstance(returned, Mapping):
        raise InvalidResult(f"{expected}, not {_short(repr(type(returned).__name__))}")
    if "output" not in returned:
        raise InvalidResult(f"{expected}; this mapping has no `output`")
    unknown = [key for key in returned if key not in {"output", "flags"}]
    if unknown:
        raise InvalidResult(f"{expected}; {_short(repr(unknown[0]))} is neither")
    flags = returned.get("flags")
    return returned["output"], {} if flags is None else flags


def _short(text: str) -> str:
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
