"""Worlds of real processes: one for each test, which ends with it, and one that tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.stranger import Stranger
from tests.e2e.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    try:
        yield world
    finally:
        world.close()


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One coordinator, and agents that are attached to each project of tests that only train."""
    world = World(tmp_path_factory.mktemp("shared"))
    try:
        world.serve()
        yield world
    finally:
        world.close()


@pytest.fixture
def strangers() -> Iterator[Callable[[str], Stranger]]:
    """Makes clients that are written from the document; they hang up when the test ends."""
    made: list[Stranger] = []

    def stranger(link: str) -> Stranger:
        made.append(Stranger(link))
        return made[-1]

    yield stranger
    for one in made:
        one.close()
