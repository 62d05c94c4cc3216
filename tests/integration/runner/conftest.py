"""A fresh job for each test of the runner."""

from __future__ import annotations

from pathlib import Path

import pytest
from runner_world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
