"""Server-sent events out of bytes, however they were cut. Pure; what is no event is skipped, as the standard says."""

from __future__ import annotations

import codecs
import re

from pop_actors.providers.types import AttemptFailed, ServerEvent

MAX_EVENT_CHARACTERS = 16 * 1024 * 1024
_LINE_END = re.compile(r"\r\n|\n|\r")


class EventDecoder:
    """Feed it the body's chunks in order. Comments and blank lines (keep-alives) come to nothing."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._open: list[str] = []  # pieces of the line that has not ended
        self._name = ""
        self._data: list[str] = []
        self._data_size = 0
        self._open_size = 0

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that are whole now. AttemptFailed bad_reply for one without measure."""
        text = self._decoder.decode(chunk)
        self._open_size += len(text)
        if self._open_size + self._data_size > MAX_EVENT_CHARACTERS:
            raise AttemptFailed(
                "bad_reply", f"an event of over {MAX_EVENT_CHARACTERS} characters was not taken", "permanent"
            )
        if "\n" not in text and "\r" not in text and not self._ends_in_return():
            self._open.append(text)
            return []
        return self._events("".join((*self._open, text)))

    def end(self) -> list[ServerEvent]:
        """What the end of the body completes: a last event whose blank line is missing."""
        found = self._events("".join((*self._open, self._decoder.decode(b"", final=True), "\n\n")))
        self._open.clear()
        return found

    def _ends_in_return(self) -> bool:
        return bool(self._open) and self._open[-1].endswith("\r")

    def _events(self, text: str) -> list[ServerEvent]:
        # a carriage return at the very end may be half of a line end: it waits for what follows
        held = "\r" if text.endswith("\r") else ""
        *lines, rest = _LINE_END.split(text.removesuffix("\r") if held else text)
        self._open = [rest + held]
        self._open_size = len(rest)
        found = []
        for line in lines:
            if line:
                self._field(line)
                continue
            if self._data:
                found.append(ServerEvent(self._name or "message", "\n".join(self._data)))
            self._name, self._data, self._data_size = "", [], 0
        return found

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            self._data_size += len(value) + 1
        elif name == "event":
            self._name = value
