"""Values as people read them: times, amounts, and text from elsewhere made safe for a terminal. Pure."""

from __future__ import annotations

import re
from typing import Any

from pop_actors.core.ids import seconds_of

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_LEAST_SHOWN_SECONDS = 10


def safe(text: str) -> str:
    """Without the control characters that would steer a terminal; line ends and tabs stay."""
    return _CONTROL.sub("�", text)


def one_line(value: Any) -> str:
    """A value as a table's cell."""
    return safe(text_of(value)).replace("\n", " ").replace("\t", " ")


def text_of(value: Any) -> str:
    """A JSON value as text: `-` for null, yes and no, and small objects as key=value."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case dict():
            return ", ".join(f"{key}={text_of(part)}" for key, part in value.items()) or "-"
        case list():
            return ", ".join(text_of(part) for part in value) or "-"
    return str(value)


def duration(seconds: float) -> str:
    """`0.25 s`, `42 s`, `3 m 05 s`, `2 h 10 m`, `4 d 3 h`."""
    if seconds < _LEAST_SHOWN_SECONDS:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} m {whole % _MINUTE:02d} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} m"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def ago(stamp: str | None, now: float) -> str:
    """How long ago a time stamp was."""
    if not stamp:
        return "-"
    try:
        passed = max(0.0, now - seconds_of(stamp))
    except ValueError:  # a line of a history that somebody else's hands, or a bad disk, have changed
        return stamp
    return "now" if passed < 1 else f"{duration(float(round(passed)) or 1.0)} ago".replace(".00", "")


def money(dollars: float | None) -> str:
    """`$0.0012`; `-` where it is not known."""
    return "-" if dollars is None else f"${dollars:.4f}"


def place(task: str | None, stage: str | None) -> str:
    """Where a job is: `task / stage`."""
    return " / ".join(part for part in (task, stage) if part) or "-"
