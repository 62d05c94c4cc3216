"""An empty workspace on a real disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from pop_actors.storage.layout import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path, tmp_path / "pipeline-data")
    for folder in (*made.folders, made.config):
        folder.mkdir(parents=True)
    return made
