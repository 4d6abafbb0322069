"""An operator takes versions back while agents work; the agents follow by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pleb_shared.tensors.layout import load_tensors
from tests.e2e.recompute import recompute
from tests.e2e.world import PROJECTS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.world import World

pytestmark = pytest.mark.e2e


def test_agents_follow_a_rollback_without_a_refusal(world: World, tmp_path: Path) -> None:
    world.serve()
    link = world.publish(PROJECTS / "tiny")
    for name in ("trusted", "volunteer"):
        world.attach(name, link, trusted=name == "trusted")
        world.start_agent(name)
    world.wait_for_version("tiny", 6)
    world.admin("model", "export", "tiny", tmp_path / "good", "--version", 4)
    restored = world.admin("model", "rollback", "tiny", "--to", 4)
    assert restored["restores"] == 4
    number = restored["version"]

    # The version is the old one, agents train from it, and nobody is blamed.
    world.wait_for_version("tiny", number + 3)
    world.admin("model", "export", "tiny", tmp_path / "again", "--version", number)
    good, again = (load_tensors((tmp_path / name).read_bytes()) for name in ("good", "again"))
    assert all((good[name] == again[name]).all() for name in good)
    assert sum(host["refused"] for host in world.admin("host", "list", "tiny")) == 0

    # The log says it, and every version comes out of it again.
    assert world.admin("project", "show", "tiny")["restores"][0]["restores"] == 4
    assert world.admin("model", "verify", "tiny")["verified"]
    versions, wrong = recompute(world.home, "tiny")
    assert wrong == []
    assert versions > number + 3
