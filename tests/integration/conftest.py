"""Fixtures of the integration tests."""

from __future__ import annotations

import pytest

from tests.integration.state_moves import illegal_moves
from tests.integration.steps_world import World
from tests.postgres import shared_postgres
from tests.s3_server import shared_s3
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


@pytest.fixture(params=["sqlite", "postgres"])
def each_engine(request, monkeypatch):
    """Run the test with `steps_world.World` on files, and on PostgreSQL with a bucket."""
    if request.param == "postgres":
        server = shared_postgres()
        monkeypatch.setattr(World, "new_place", staticmethod(lambda _: server.emptied_database()))
        monkeypatch.setattr(World, "new_blobs", staticmethod(lambda _: shared_s3().new_blobs()))
    return request.param
