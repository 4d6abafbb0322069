"""A project moves to another coordinator, alive or lost: agents follow, and nobody does a thing."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from pleb_project.cli.main import main as project_main
from tests.e2e.world import PROJECTS, World, files_served, run_here, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.fixture
def there(tmp_path: Path) -> Iterator[World]:
    """Another coordinator."""
    world = World(tmp_path / "there")
    world.root.mkdir()
    world.serve()
    yield world
    world.close()


def attach_two(world: World, link: str) -> None:
    for name in ("anna", "trusted"):
        world.attach(name, link, trusted=name == "trusted")
        world.start_agent(name)


def move(world: World, there: World, *options: object) -> Any:
    """Move as a researcher would; at the new coordinator a trusted host of its own helps."""
    words = ("--to", there.url, "--invite", there.invite("publisher"), *options)
    home = ("--home", world.root / "researcher")
    moved = run_here(project_main, "move", "tiny", *words, *home)
    there.attach("umpire", moved["attach_link"], trusted=True)
    there.start_agent("umpire")
    return moved


def digests(world: World) -> dict[int, str]:
    versions = world.admin("model", "list", "tiny")
    return {version["version"]: version["digest"] for version in versions}


def assert_goes_on(world: World, there: World, moved: Any, before: dict[int, str]) -> None:
    def all_follow() -> bool:
        there.check_alive()
        return len(there.admin("host", "list", "tiny")) == 3

    wait_until("both agents and the new trusted host", all_follow, seconds=120)
    there.wait_for_version("tiny", moved["version"] + 2, seconds=120)
    found = digests(there)
    assert {number: found[number] for number in before if number <= moved["version"]} == {
        number: digest for number, digest in before.items() if number <= moved["version"]
    }
    verified = there.admin("model", "verify", "tiny")
    assert verified["wrong"] == []
    assert verified["versions"] >= 2


def test_agents_follow_a_project_that_moves(world: World, there: World) -> None:
    world.serve()
    attach_two(world, world.publish(PROJECTS / "tiny"))
    world.wait_for_version("tiny", 1)
    stopped = ("move", "tiny", "--to", there.url, "--invite", "0" * 32)
    refused = run_here(project_main, *stopped, "--home", world.root / "researcher", check=False)
    assert "invite" in refused["message"]
    assert world.admin("project", "show", "tiny")["waiting_for"] != "finishing"
    moved = move(world, there)
    assert moved["told"]
    before = digests(world)
    assert max(before) == moved["version"], "the open round was finished first"
    assert_goes_on(world, there, moved, before)
    shown = world.admin("project", "show", "tiny")
    assert (shown["state"], there.url in shown["waiting"]) == ("moved", True)
    with closing(sqlite3.connect(world.home / "store.sqlite")) as store:
        states = {state for (state,) in store.execute("SELECT DISTINCT state FROM assignments")}
    unfinished = {"leased", "uploading", "reported", "expired"}
    assert not states & unfinished, "a unit that a host had in hand was lost"
    # an earlier link leads there, too
    there.attach("late", world.links["tiny"])
    assert len(there.admin("host", "list", "tiny")) == 4


def test_agents_find_a_project_whose_coordinator_is_lost(
    world: World, there: World, tmp_path: Path
) -> None:
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    with files_served(mirror) as address:
        project = shutil.copytree(PROJECTS / "tiny", tmp_path / "tiny")
        text = (project / "project.toml").read_text()
        (project / "project.toml").write_text(
            text.replace("[project]\n", f'[project]\nmirrors = ["{address}"]\n')
        )
        world.serve()
        attach_two(world, world.publish(project))
        world.wait_for_version("tiny", 2)
        world.admin("mirror", "sync", "tiny", mirror)
        before = digests(world)
        assert world.coordinator is not None
        world.coordinator.stop()
        shutil.rmtree(world.home)
        world.coordinator = None

        moved = move(world, there, "--from", address)
        assert not moved["told"]
        there.admin("mirror", "sync", "tiny", mirror)
        assert_goes_on(world, there, moved, before)
