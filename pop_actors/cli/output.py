"""Prints: one JSON document for programs, or aligned text for people, coloured on a terminal only."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from pop_actors.cli.failure import CommandFailed
from pop_actors.cli.wording import one_line, safe

_COLOURS = {
    "running": "34", "done": "32", "error": "31", "rejected": "31", "stopped": "33", "waiting": "35", "paused": "35",
}  # fmt: skip


def print_json(document: Any, *, compact: bool = False) -> None:
    """A document on stdout; `compact` on one line, for commands that go on."""
    text = json.dumps(document, ensure_ascii=False, indent=None if compact else 2)
    sys.stdout.buffer.write(text.encode("utf-8", "surrogatepass") + b"\n")
    sys.stdout.buffer.flush()


def print_failure(failed: CommandFailed, *, as_json: bool) -> None:
    """The message on stderr; with --json, the document on stdout as well."""
    if as_json:
        print_json({"ok": False, "code": failed.code, "message": failed.message})
    note(f"popctl: {failed.message}")


def note(text: str) -> None:
    """Something a person should know, beside the output."""
    print(safe(text), file=sys.stderr, flush=True)


def say(text: str = "") -> None:
    """A line of output."""
    print(safe(text), flush=True)


def say_raw(text: str) -> None:
    """Text from elsewhere; what would steer a terminal is taken out where there is one."""
    sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def coloured(text: str, state: str) -> str:
    """The text in the colour of a state, on a terminal."""
    colour = _COLOURS.get(state)
    return f"\x1b[{colour}m{text}\x1b[0m" if colour and sys.stdout.isatty() else text


def print_table(heads: Sequence[str], rows: Iterable[Sequence[Any]], *, state_column: int | None = None) -> None:
    """Rows in aligned columns; the column of states is coloured."""
    cells = [list(heads), *([one_line(value) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    for number, row in enumerate(cells):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        if number and state_column is not None:
            padded[state_column] = coloured(padded[state_column], row[state_column])
        print("  ".join(padded).rstrip())


def print_facts(facts: Iterable[tuple[str, Any]]) -> None:
    """`name  value` lines, aligned."""
    lines = [(name, one_line(value)) for name, value in facts]
    width = max((len(name) for name, _ in lines), default=0)
    for name, value in lines:
        print(f"{name.ljust(width)}  {value}")
