"""A running API, and clients for its two addresses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from support.memory_control import Service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path / "root") as running:
        yield running


@pytest.fixture
def unix(service: Service) -> Iterator[httpx2.Client]:
    transport = httpx2.HTTPTransport(uds=str(service.server.socket_path))
    with httpx2.Client(transport=transport, base_url="http://localhost", timeout=5) as client:
        yield client


@pytest.fixture
def tcp(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"http://127.0.0.1:{service.server.port}", timeout=5, trust_env=False) as client:
        yield client
