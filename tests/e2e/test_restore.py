"""The coordinator's disk is lost: agents go on with the newest backup, and nobody does a thing."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from tests.e2e.recompute import recompute
from tests.e2e.world import PROJECTS, wait_until

if TYPE_CHECKING:
    from tests.e2e.world import World

pytestmark = pytest.mark.e2e

FOLLOWS_SECONDS = 60
"""From the restored coordinator's start until every agent has taken part in its work."""


def test_agents_follow_a_coordinator_that_was_restored(world: World) -> None:
    world.serve()
    link = world.publish(PROJECTS / "tiny")
    for name in ("anna", "trusted"):
        world.attach(name, link, trusted=name == "trusted")
        world.start_agent(name)
    world.wait_for_version("tiny", 1)
    backup = world.admin("backup", world.root / "backups", "--keep", 2)
    saved = backup["projects"][0]["version"]
    world.wait_for_version("tiny", saved + 2)
    assert world.coordinator is not None
    world.coordinator.stop()
    shutil.rmtree(world.home)

    restored = world.admin("restore", world.root / "backups")
    assert [(p["project"], p["version"], p["obstacle"]) for p in restored["projects"]] == [
        ("tiny", saved, "")
    ]
    world.serve()
    began = time.time()

    def all_follow() -> bool:
        world.check_alive()
        hosts = world.admin("host", "list", "tiny")
        return len(hosts) == 2 and all(host["last_seen"] > began for host in hosts)

    wait_until("both agents to ask for work", all_follow, seconds=FOLLOWS_SECONDS)
    wait_until(
        "a version of the restored coordinator",
        lambda: world.version("tiny") > saved,
        seconds=FOLLOWS_SECONDS,
    )
    for agent in world.agents.values():
        agent.stop()
    world.coordinator.stop()
    versions, wrong = recompute(world.home, "tiny")
    assert wrong == []
    assert versions > saved
    assert all(host["refused"] == 0 for host in world.admin("host", "list", "tiny"))
