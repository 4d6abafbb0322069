"""Keys of a running project change; its agents, and a stranger's client, follow by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pleb_project.cli import main as project_main
from tests.e2e.test_project_life import refusals, verified
from tests.e2e.world import PROJECTS, run_here, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.stranger import Stranger
    from tests.e2e.world import World

pytestmark = pytest.mark.e2e


def test_every_key_is_replaced_while_the_project_runs(
    world: World, strangers: Callable[[str], Stranger]
) -> None:
    world.serve()
    link = world.publish(PROJECTS / "tiny")
    for name in ("trusted", "volunteer"):
        world.attach(name, link, trusted=name == "trusted")
        world.start_agent(name)
    stranger = strangers(link)
    stranger.enrol()
    wait_until("the volunteer to count", lambda: verified(world, "volunteer"))
    hosts = len(world.admin("host", "list", "tiny"))

    def researcher(*arguments: object):
        return run_here(project_main, *arguments, "--home", world.root / "researcher")

    def goes_on(what: str) -> None:
        before = verified(world, "volunteer")
        wait_until(f"the volunteer to count {what}", lambda: verified(world, "volunteer") > before)
        reply = stranger.post(stranger.request(max_units=0))
        assert reply["metadata_number"] >= stranger.number

    # A new online key: the old one signs until the researcher renews, then the new one does.
    (old,) = (key["key"] for key in world.admin("key", "list"))
    world.admin("key", "rotate")
    goes_on("under the old key")
    assert world.coordinator is not None
    world.coordinator.kill()
    world.serve()  # a power cut in between: both keys are on the disk
    goes_on("after a restart")
    researcher("renew", "tiny")
    goes_on("under the new key")
    researcher("key", "revoke", "tiny", old[:16])
    world.admin("key", "delete", old[:16], "--yes")
    goes_on("without the old one")

    # A new root, twice; the first link still works, until its root is revoked.
    researcher("key", "rotate", "tiny", "--no-passphrase")
    goes_on("under the second root")
    late = strangers(link)
    late.enrol()
    newest = researcher("key", "rotate", "tiny", "--no-passphrase", "--revoke")["attach_link"]
    goes_on("under the third root")
    shown = researcher("key", "show", "tiny")
    assert shown["root"] == newest.rpartition("#")[2]
    assert len(shown["replaced"]) == 2
    strangers(newest).enrol()

    # Nobody was attached again, nobody was refused, and nothing that was accepted is lost.
    assert len(world.admin("host", "list", "tiny")) == hosts + 2
    assert refusals(world) == 0
    assert world.admin("model", "verify", "tiny")["verified"]
