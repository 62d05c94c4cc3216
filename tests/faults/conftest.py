"""A provider for all tests here, and a world for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_world import Provider, World, provider_process

LONGEST = "test_a_system_actor_that_hangs_has_the_service_start_anew"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for a minute begins first: at the end, all other workers would wait for it."""
    items.sort(key=lambda item: item.name != LONGEST)


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provider_process(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture
def make_world(tmp_path: Path, provider: Provider) -> Iterator[Callable[..., World]]:
    """`make_world(settings)`: further tables of pop.toml."""
    made: list[World] = []

    def make(settings: str = "") -> World:
        made.append(World(tmp_path, provider, settings))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()


@pytest.fixture
def job_id(tmp_path: Path) -> str:
    """An id that no other test's job has: the provider counts by it. Short, for the process's name holds it whole."""
    return f"j{abs(hash(tmp_path)) % 10**8:08d}"
