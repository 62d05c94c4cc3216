"""A job's log as it is read: its events, and where they stop making sense. Reads only, and never more than it is given.

Recovery refuses what is broken in the middle, doctor tells of it, repair takes what is whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from pop_actors.core.events import FORMAT, NEWS, Event, event_from
from pop_actors.core.ids import seconds_of
from pop_actors.errors import Damaged, FormatRefused


@dataclass(frozen=True, slots=True)
class LogReading:
    """What a log's bytes say.

    `events` come before the first broken line, `later` are the whole lines after it. `sound` is the length in bytes up
    to the broken line, `line` its number (from 1) and `fault` what is wrong with it; 0 and empty where none is broken.
    `lost` counts broken lines; `has_holes`: zeros are in each of them that ends, and a power cut puts zeros there.
    """

    events: tuple[Event, ...]
    sound: int
    line: int = 0
    fault: str = ""
    later: tuple[Event, ...] = ()
    lost: int = 0
    has_holes: bool = False

    @property
    def is_whole(self) -> bool:
        return not self.fault

    @property
    def is_broken_inside(self) -> bool:
        """Whether cutting at the broken line would lose whole events that somebody may rely on.

        A disk may save what came later and not what came before, in the stretch that was not synced when the power was
        cut. Nobody relies on anything in there; zeros and mere news are what it looks like.
        """
        is_unsynced = self.has_holes and all(isinstance(event, NEWS) for event in self.later)
        return bool(self.later) and not is_unsynced


def read_log(content: bytes) -> LogReading:
    """Every line of a log judged. FormatRefused where a newer version began it: its lines mean nothing here."""
    refuse_newer(content)
    events: list[Event] = []
    offset = 0
    for number, line in enumerate(_lines(content), 1):
        event, fault = _event_of(line)
        if event is None:
            later, lost, has_holes = _rest(content[offset:])
            return LogReading(tuple(events), offset, number, fault, later, lost, has_holes)
        events.append(event)
        offset += len(line)
    return LogReading(tuple(events), offset)


def refuse_newer(content: bytes) -> None:
    """FormatRefused where the first line says that the log has a newer format than this version's."""
    first = _json_of(content.partition(b"\n")[0])
    number = first.get("format") if isinstance(first, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise FormatRefused(
            f"this job's log has format {number}, and this version knows up to {FORMAT}; it stays untouched: start the "
            "version that wrote it, or a newer one"
        )


def whole_lines(content: bytes) -> Iterator[Event]:
    """Every event that is still whole, wherever it stands; zeros before a line are not taken for a part of it."""
    for line in content.split(b"\n"):
        event, _ = _event_of(line.strip(b"\0") + b"\n")
        if event is not None:
            yield event


def _lines(content: bytes) -> Iterator[bytes]:
    """Each with its newline; a last one without."""
    *lines, rest = content.split(b"\n")
    yield from (line + b"\n" for line in lines)
    if rest:
        yield rest


def _rest(content: bytes) -> tuple[tuple[Event, ...], int, bool]:
    """Of what begins with a broken line: the whole lines, how many are broken, and whether all of these have zeros. The
    end that lacks its newline is no line: it was not written to its end, so it was confirmed to nobody."""
    *lines, end = content.split(b"\n")
    later = tuple(whole_lines(b"\n".join(lines)))
    broken = [line for line in lines if _event_of(line + b"\n")[0] is None]
    return later, max(1, len(broken) + bool(end.strip(b"\0"))), all(b"\0" in line for line in broken)


def _event_of(line: bytes) -> tuple[Event | None, str]:
    if not line.endswith(b"\n"):
        return None, "not a whole line"
    if not line.strip(b"\0\n"):
        return None, "empty, or zeros only"
    try:
        event = event_from(orjson.loads(line))
        seconds_of(event.at)
    except orjson.JSONDecodeError as error:
        return None, f"not JSON: {error.msg}"
    except (Damaged, ValueError) as error:
        return None, str(error)
    return event, ""


def _json_of(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
