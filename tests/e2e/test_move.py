"""A project moves to another coordinator, alive or lost: agents follow, and nobody does a thing."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from pleb_project.cli.main import main as project_main
from pleb_shared.protocol.sealing import read_reading, seal_mark
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


def hosts_of(world: World) -> dict[str, dict[str, Any]]:
    """Return the hosts by their keys' fingerprints."""
    return {host["host"]: host for host in world.admin("host", "list", "tiny")}


def credit_of(host: dict[str, Any]) -> list[Any]:
    """Return what a volunteer has earned."""
    return [host[name] for name in ("account", "credit", "units_valid", "refused", "bans")]


def assert_nothing_lost(world: World) -> None:
    """Check that no unit was lost which a host had in hand that did not sleep."""
    awake = (
        "SELECT DISTINCT state FROM assignments a JOIN hosts h ON h.id = a.host "
        "WHERE h.display_name <> 'asleep'"
    )
    with closing(sqlite3.connect(world.home / "store.sqlite")) as store:
        states = {state for (state,) in store.execute(awake)}
        assert store.execute("SELECT 1 FROM hosts WHERE display_name = 'asleep'").fetchone()
    assert "valid" in states
    assert not states & {"leased", "uploading", "reported", "expired"}


def assert_goes_on(there: World, moved: Any, before: dict[int, str], *, hosts: int = 3) -> None:
    def all_follow() -> bool:
        there.check_alive()
        found = hosts_of(there).values()
        return len([host for host in found if host["sequence"]]) == hosts

    wait_until("all agents and the new trusted host", all_follow, seconds=120)
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
    world.attach("asleep", world.links["tiny"])
    asleep = world.start_agent("asleep")

    def all_have_earned() -> bool:
        world.check_alive()
        return all(host["units_valid"] for host in hosts_of(world).values())

    wait_until("units of all three", all_have_earned)
    asleep.stop()
    world.wait_for_version("tiny", 1)
    stopped = ("move", "tiny", "--to", there.url, "--invite", "0" * 32)
    refused = run_here(project_main, *stopped, "--home", world.root / "researcher", check=False)
    assert "invite" in refused["message"]
    assert world.admin("project", "show", "tiny")["waiting_for"] != "finishing"
    moved = move(world, there)
    assert moved["told"]
    before = digests(world)
    assert max(before) == moved["version"], "the open round was finished first"
    earned, found = hosts_of(world), hosts_of(there)
    assert moved["credit"]
    assert len(earned) == 3
    assert all(credit_of(found[name])[1:] >= credit_of(host)[1:] for name, host in earned.items())
    same = [name for name, host in found.items() if name in earned and not host["sequence"]]
    assert same, "of whoever has not followed yet nothing has changed"
    for name in same:
        assert credit_of(found[name]) == credit_of(earned[name])
        assert found[name]["record"] == min(earned[name]["record"], 2), "all exams but one"
    with httpx.Client(base_url=there.url) as client:
        page = client.get("/projects/tiny/status").json()
    assert sum(one["credit"] for one in page["contributors"]) >= sum(
        host["credit"] for host in earned.values()
    )
    world.start_agent("asleep")
    assert_goes_on(there, moved, before, hosts=4)
    shown = world.admin("project", "show", "tiny")
    assert (shown["state"], there.url in shown["waiting"]) == ("moved", True)
    assert_nothing_lost(world)
    # an earlier link leads there, too
    there.attach("late", world.links["tiny"])
    assert len(there.admin("host", "list", "tiny")) == 5


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
        earned = hosts_of(world)
        assert world.coordinator is not None
        world.coordinator.stop()

        moved = move(world, there, "--from", address)
        assert (moved["told"], moved["credit"]) == (False, False)
        there.admin("mirror", "sync", "tiny", mirror)
        assert_goes_on(there, moved, before)
        again = ("move", "tiny", "--to", there.url, "--home", world.root / "researcher")
        still_away = run_here(project_main, *again, check=False)
        assert still_away["untold"] == [world.url]

        world.serve()  # from where it stopped: it would issue units again
        assert world.admin("project", "show", "tiny")["state"] == "active"
        told = run_here(project_main, *again)
        assert (told["untold"], told["credit"]) == ([], True)
        assert world.admin("project", "show", "tiny")["state"] == "moved"
        found = hosts_of(there)
        now = {name: credit_of(found[name])[1:] for name in earned}
        assert all(now[name] >= credit_of(host)[1:] for name, host in earned.items())
        assert any(now[name] > credit_of(host)[1:] for name, host in earned.items())
        refused = run_here(project_main, *again, check=False)
        assert "already" in refused["message"]
        there.wait_for_version("tiny", there.version("tiny") + 1)


def test_members_follow_a_private_project_whose_new_versions_its_old_operator_cannot_read(
    world: World, there: World
) -> None:
    world.serve()
    link = world.publish(PROJECTS / "tiny", access="invited")
    world.attach("trusted", link, trusted=True)
    world.attach("anna", world.admin("invite", "new", "--project", "tiny")["link"])
    for name in ("trusted", "anna"):
        world.start_agent(name)
    wait_until("a version", lambda: len(world.admin("model", "list", "tiny")) > 1)
    moved = move(world, there)
    assert (moved["told"], moved["credit"]) == (True, True)
    before = digests(world)
    with closing(sqlite3.connect(world.home / "store.sqlite")) as store:
        [(old_keys,)] = store.execute("SELECT key_numbers FROM projects")
    with closing(sqlite3.connect(there.home / "store.sqlite")) as store:
        [(new_keys, kept)] = store.execute("SELECT key_numbers, brought_keys FROM projects")
    *brought, own = map(int, new_keys.split())
    assert brought == [int(number) for number in old_keys.split()]
    assert seal_mark(kept), "they lie there sealed"
    assert_goes_on(there, moved, before)
    [file] = (world.root / "anna" / "keys").glob("*.reading")

    def has_new_key() -> bool:
        return own in {known.number for known in read_reading(file.read_bytes()).keys}

    wait_until("the new key at a member", has_new_key)
    with closing(sqlite3.connect(there.home / "store.sqlite")) as store:
        newest = store.execute("SELECT difference FROM versions ORDER BY number DESC").fetchone()
    blob = (there.home / "blobs" / newest[0][:2] / newest[0]).read_bytes()
    mark = seal_mark(blob)
    assert mark is not None
    assert mark[0] == own, "what is made here is not for who has kept the old keys"
    assert httpx.get(f"{there.url}/projects/tiny/metadata").status_code == 404
    model = world.root / "model.safetensors"
    run_here(project_main, "export", "tiny", model, "--home", world.root / "researcher")
    assert model.stat().st_size > 0
