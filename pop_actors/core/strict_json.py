"""Strict JSON from outside: seeds, pipelines, registries. One door, so that all are held to the same rules.

The standard library's scanner does the work; a walk over the tokens guards its recursion and, only once something is
wrong, finds the place to blame.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from pop_actors.errors import InvalidJson

MAX_LEVELS = 64
MAX_DIGITS = 4300
SHOWN_DIGITS = 40

_BOM = b"\xef\xbb\xbf"
# An unclosed string runs to the end of the text, so that no text makes the walk slower than linear.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]|-?(?:\d[\d.eE+-]*|Infinity)|NaN', re.DOTALL)
_COLON = re.compile(r"[ \t\n\r]*:")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _Repeated(Exception):
    """A key stands twice in one object."""


class _NotFinite(Exception):
    """A number is infinite, not a number, or has more digits than a number may have."""


def parse(content: bytes) -> Any:
    """The value the bytes stand for.

    InvalidJson, with line and column, for anything but UTF-8 JSON (a BOM is accepted) with unique keys, finite
    numbers, whole characters and at most 64 levels.
    """
    text = _decode(content.removeprefix(_BOM))
    if text.count("[") + text.count("{") > MAX_LEVELS:
        _refuse_too_deep(text)
    value = _scan(text)
    if _ESCAPED_SURROGATE.search(text):
        _refuse_lone_surrogates(text)
    return value


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        _blame(f"not UTF-8: byte 0x{content[error.start]:02x}", before, len(before))


def _scan(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidJson(error.msg, error.lineno, error.colno) from None
    except _Repeated:
        key, position = next(_repeated_keys(text))
        _blame(f"the key {json.dumps(key, ensure_ascii=False)} stands twice in one object", text, position)
    except _NotFinite:
        token = _first(text, _is_not_finite)
        _blame(f"{_short(token.group())} is no finite number", text, token.start())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _Repeated
    return value


def _finite(token: str) -> float:
    number = float(token)
    if math.isinf(number):
        raise _NotFinite
    return number


def _whole(token: str) -> int:
    if len(token) > MAX_DIGITS:
        raise _NotFinite
    return int(token)


def _no_constant(token: str) -> NoReturn:
    raise _NotFinite(token)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_int=_whole, parse_constant=_no_constant
)


def _is_not_finite(token: str) -> bool:
    if token in {"NaN", "Infinity", "-Infinity"}:
        return True
    if token[0] not in "-0123456789":
        return False
    return len(token) > MAX_DIGITS or math.isinf(float(token))


def _first(text: str, is_it: Callable[[str], bool]) -> re.Match[str]:
    return next(token for token in _TOKEN.finditer(text) if is_it(token.group()))


def _refuse_too_deep(text: str) -> None:
    level = 0
    for token in _TOKEN.finditer(text):
        mark = token.group()[0]
        if mark in "[{":
            level += 1
            if level > MAX_LEVELS:
                _blame(f"nested deeper than {MAX_LEVELS} levels", text, token.start())
        elif mark in "]}":
            level -= 1


def _repeated_keys(text: str) -> Iterator[tuple[str, int]]:
    """Each key that stands again in its object, with its place. The text is JSON up to the first of them."""
    objects: list[set[str]] = []
    for token in _TOKEN.finditer(text):
        mark = token.group()[0]
        if mark in "[{":
            objects.append(set())
        elif mark in "]}":
            objects.pop()
        elif mark == '"' and _COLON.match(text, token.end()):
            key = json.loads(token.group())
            if key in objects[-1]:
                yield key, token.start()
            objects[-1].add(key)


def _refuse_lone_surrogates(text: str) -> None:
    for token in _TOKEN.finditer(text):
        if token.group()[0] == '"' and any("\ud800" <= char <= "\udfff" for char in json.loads(token.group())):
            _blame("half of a surrogate pair stands alone", text, token.start())


def _short(token: str) -> str:
    return token if len(token) <= SHOWN_DIGITS else f"{token[:SHOWN_DIGITS]}… ({len(token)} digits)"


def _blame(fault: str, text: str, position: int) -> NoReturn:
    line = text.count("\n", 0, position) + 1
    raise InvalidJson(fault, line, position - text.rfind("\n", 0, position))
