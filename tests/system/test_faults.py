"""A few of everything that can fail, on both stores. `python -m tests.soak.faults` has hundreds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.world import wait_until
from tests.postgres import shared_postgres
from tests.s3_server import KEYS, shared_s3
from tests.system.faults import EVENTS, KILLS, fire_on, under_fire, working_hosts

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.system


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_whatever_fails_no_accepted_result_is_lost(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_disks = store == "sqlite"
    fire = under_fire(
        tmp_path, monkeypatch, store=store, seed=20261129, kills=6, full_disks=full_disks
    )
    assert {*EVENTS[store], *(["disk full"] if full_disks else [])} <= fire.done.keys()
    assert sum(fire.done[name] for name in KILLS) == 6
    assert sum(fire.done[name] for name in ("lost", "unanswered", "doubled", "replayed")) > 5


def test_moving_to_a_database_and_a_bucket_and_back_while_hosts_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(f"AWS_{name.upper()}", value)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    shared_postgres().run("CREATE DATABASE under_load")
    bucket = f"s3://{shared_s3().new_bucket()}/pleb"
    there = (shared_postgres().url("under_load"), bucket, "--s3-endpoint", shared_s3().endpoint)
    with fire_on(tmp_path, monkeypatch, store="sqlite", seed=20261130) as fire:
        with working_hosts(fire):
            for places in (there, ("sqlite", "files")):
                before = fire.world.project.version
                fire.move(*places)
                wait_until("a version", lambda: fire.world.project.version > before + 1)  # noqa: B023
        assert fire.versions > 4
