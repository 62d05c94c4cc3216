"""popctl beside a running API, and popctl alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.memory_control import Service
from support.popctl import Popctl


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "root") as running:
        yield running


@pytest.fixture
def popctl(service: Service, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Popctl:
    return Popctl(service.workspace.root, capfd, monkeypatch)


@pytest.fixture
def alone(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Popctl:
    """popctl in a workspace without a daemon."""
    (tmp_path / "alone" / "pipeline-config").mkdir(parents=True)
    return Popctl(tmp_path / "alone", capfd, monkeypatch)
