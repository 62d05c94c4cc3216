"""A table that is drawn over itself, for terminals. The only place that needs rich."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from pop_actors.cli.wording import one_line

_STYLES = {"running": "blue", "done": "green", "error": "red", "rejected": "red", "stopped": "yellow"}


class LiveTable:
    """Give it rows as often as they change."""

    def __init__(self, heads: Sequence[str], state_column: int) -> None:
        from rich.console import Console  # rich costs 40 ms, and only terminals that watch need it
        from rich.live import Live

        self._heads = heads
        self._state_column = state_column
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def show(self, rows: Iterable[Sequence[Any]]) -> None:
        """Draw these rows in place of the ones before."""
        from rich.table import Table
        from rich.text import Text

        table = Table(*self._heads, box=None, pad_edge=False)
        for row in rows:
            cells = [Text(one_line(value)) for value in row]
            cells[self._state_column].stylize(_STYLES.get(cells[self._state_column].plain, ""))
            table.add_row(*cells)
        self._live.update(table, refresh=True)
