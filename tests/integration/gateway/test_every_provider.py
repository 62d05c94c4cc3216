"""docs/providers.md has one table, provider by feature, and every cell of it is what is seen on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from every_provider import COLUMNS, Subject, every_subject
from provider_features import FEATURES

from pop_actors.config import GatewaySettings, load

DOCUMENT = Path(__file__).parents[3] / "docs" / "providers.md"


def cells_of(text: str) -> dict[tuple[str, str], str]:
    """The table whose first heading is `feature`: by column and row, what stands there."""
    rows = [
        [cell.strip().replace("`", "") for cell in line.strip().strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    begin = next(place for place, row in enumerate(rows) if row[0] == "feature")
    columns = rows[begin][1:]
    found = {}
    for title, *cells in rows[begin + 2 :]:
        if len(cells) != len(columns):
            break
        found |= {(column, title): cell for column, cell in zip(columns, cells, strict=True)}
    return found


CELLS = cells_of(DOCUMENT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Subject]]:
    yield from every_subject(tmp_path_factory.mktemp("providers"))


@pytest.mark.parametrize(("column", "row"), CELLS, ids=[f"{column}: {row}" for column, row in CELLS])
def test_a_cell_of_the_table_is_what_is_seen(subjects: dict[str, Subject], column: str, row: str) -> None:
    """Over a real socket, or with a real process, of the provider as its settings alone open it."""
    assert FEATURES[row](subjects[column]) == CELLS[column, row]


def test_the_table_is_whole() -> None:
    """A provider that is added needs its column, and a feature its row."""
    assert list(CELLS) == [(column, row) for row in FEATURES for column in COLUMNS]


def test_the_settings_that_are_shown_are_taken(tmp_path: Path) -> None:
    """Each of the document's examples, as it stands."""
    examples = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        (tmp_path / "pop.toml").write_text(example, encoding="utf-8")
        assert load(tmp_path, None, {}).gateway != GatewaySettings()
