"""Fixtures of the integration tests."""

from __future__ import annotations

import pytest

from tests.integration.state_moves import illegal_moves
from tests.unit.worker.stories import WarmWorkers


@pytest.fixture(scope="session")
def workers(tmp_path_factory):
    """Started workers that tests share."""
    warm = WarmWorkers(tmp_path_factory.mktemp("workers"))
    yield warm
    warm.close()


@pytest.fixture
def legal_moves(tmp_path):
    """Fail if any store of the test has changed a state around the state tables."""
    yield
    for path in tmp_path.rglob("store.sqlite"):
        assert illegal_moves(path) == set()
