"""A coordinator on a bucket into which agents put their results themselves."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import pytest

from pleb_coordinator.home.config import config_text, read_config
from tests.e2e.recompute import recompute
from tests.e2e.world import PROJECTS
from tests.large_results import bucket_config
from tests.s3_server import Fault, FaultyProxy, shared_nanio

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.world import World

pytestmark = pytest.mark.e2e

RESULT_BYTES = 1_100_000
"""Of a packed one, at least."""


def wide_project(folder: Path) -> Path:
    """The small project with a layer so wide that its results are large."""
    shutil.copytree(PROJECTS / "tiny", folder)
    model = folder / "model.py"
    text = model.read_text("utf-8")
    wide = "nn.Linear(64, 1100), nn.SiLU(), nn.Linear(1100, 1100), nn.SiLU(), nn.Linear(1100, 10)"
    small = "nn.Linear(64, 32), nn.SiLU(), nn.Linear(32, 10)"
    assert small in text
    model.write_text(text.replace(small, wide), "utf-8")
    project = folder / "project.toml"
    project.write_text(project.read_text("utf-8") + '\n[codec]\nup = "int8"\n', "utf-8")
    return folder


def test_results_go_into_the_bucket_and_past_it_while_it_fails(
    world: World, tmp_path: Path
) -> None:
    server = shared_nanio()
    name = server.new_bucket()
    with FaultyProxy(server.endpoint, keep_host=True) as proxy:
        address = f"{proxy.endpoint}/{name}/pleb"
        world.admin("init", "--own-network", "127.0.0.0/8")
        file = world.home / "coordinator.toml"
        s3 = bucket_config(server.endpoint, address)
        config = dataclasses.replace(read_config(file), blobs=f"s3://{name}/pleb", s3=s3)
        file.write_text(config_text(config))
        world.serve()
        link = world.publish(wide_project(tmp_path / "wide"), uploads=address)
        world.attach("trusted", link, trusted=True)
        world.attach("volunteer", link)
        for agent in ("trusted", "volunteer"):
            world.start_agent(agent)
        world.wait_for_version("tiny", 2)
        assert proxy.received > 3 * 2 * RESULT_BYTES  # a quorum for each version

        proxy.faults = [Fault(9999, status=503)]
        before = world.version("tiny")
        world.wait_for_version("tiny", before + 2)
        assert proxy.spoiled  # it was tried
        for process in (*world.agents.values(), world.coordinator):
            assert process is not None
            process.stop()
    assert world.admin("model", "verify", "tiny")["verified"]
    world.admin("migrate", "--to", "files")
    versions, wrong = recompute(world.home, "tiny")
    assert versions >= 4
    assert wrong == []
