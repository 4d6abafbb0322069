"""A world of real processes for each test; it ends with the test."""

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
