"""A private project from end to end: two members train it, one is removed, and it goes on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest

from pleb_agent.cli import main as agent_main
from pleb_project.cli.main import main as project_main
from pleb_shared.errors import TrustError
from pleb_shared.protocol.sealing import read_reading, seal_mark, unseal
from tests.e2e.world import PROJECTS, World, files_served, run_here, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pleb_shared.protocol.sealing import Keyring

TINY = PROJECTS / "tiny"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    try:
        yield found
    finally:
        found.close()


def version(world: World) -> int:
    rows = world.admin("project", "list")
    [row] = [row for row in rows if row["project"] == "tiny"]
    return int(row["version"])


def stored_blobs(world: World) -> dict[str, bytes]:
    found = {}
    for path in (world.home / "blobs").rglob("*"):
        if len(path.name) == 64:
            with suppress(FileNotFoundError):  # an old one goes at any time
                found[path.name] = path.read_bytes()
    return found


def key_of(data: bytes) -> bytes:
    mark = seal_mark(data)
    assert mark is not None
    return mark[1]


def member(world: World, name: str) -> str:
    """Attach an agent by a link with an invite; return its reader's text."""
    made = world.admin("invite", "new", "--project", "tiny")
    world.attach(name, made["link"])
    [file] = (world.root / name / "keys").glob("*.reading")
    return read_reading(file.read_bytes()).reader


def downloads_are_equal(world: World, link: str) -> None:
    """The researcher and a member download the model, and it is the same."""
    files = [world.root / "by-researcher.safetensors", world.root / "by-member.safetensors"]
    home = ("--home", world.researcher.path)
    run_here(project_main, "export", "tiny", files[0], "--version", 2, *home)
    reading = world.root / "anna.reading"
    run_here(agent_main, "reader", "tiny", "--to", reading, "--home", world.root / "anna")
    options = ("--version", 2, "--reading", reading, "--home", world.root / "somebody")
    run_here(project_main, "export", link, files[1], *options)
    assert files[0].read_bytes() == files[1].read_bytes()


def new_epoch_is_sealed_anew(world: World, keys_of_ben: Keyring) -> None:
    """What a new epoch brings is sealed with the new key alone."""
    before = stored_blobs(world)
    world.publish(TINY, access="invited", new_epoch=True)
    published = {name: data for name, data in stored_blobs(world).items() if name not in before}
    newer = [data for data in published.values() if key_of(data) not in keys_of_ben]
    assert len(newer) > 10  # shards, graphs and version 0, at least

    def epoch() -> int:
        [row] = world.admin("model", "list", "tiny")[-1:]
        return int(row["epoch"]) if row["version"] else 0

    wait_until("a version of the new epoch", lambda: epoch() == 1)
    assert world.admin("model", "verify", "tiny")["verified"]


def test_members_train_one_is_removed_and_the_project_goes_on(world: World) -> None:
    world.serve()
    link = world.publish(TINY, access="invited")
    plain = httpx.get(f"{world.url}/projects/tiny/metadata")
    unknown = httpx.get(f"{world.url}/projects/other/metadata")
    assert (plain.status_code, plain.text.replace("tiny", "other")) == (404, unknown.text)
    refused = run_here(agent_main, "attach", link, "--home", world.root / "stranger", check=False)
    assert "tiny" in str(refused)

    readers = {name: member(world, name) for name in ("anna", "ben")}
    world.attach("trusted", link, trusted=True)
    for name in ("trusted", "anna", "ben"):
        world.start_agent(name)
    wait_until("three versions", lambda: version(world) >= 3)

    as_anna = {"Authorization": f"Pleb {readers['anna']}"}
    as_ben = {"Authorization": f"Pleb {readers['ben']}"}
    for headers in (as_anna, as_ben):
        assert httpx.get(f"{world.url}/projects/tiny/status", headers=headers).is_success

    # everything in the store is sealed
    before = stored_blobs(world)
    assert before
    assert all(seal_mark(data) for data in before.values())

    downloads_are_equal(world, link)

    # ben is removed; what he holds opens nothing that is made from now on
    [kept] = (world.root / "ben" / "keys").glob("*.reading")
    keys_of_ben = read_reading(kept.read_bytes()).keyring
    banned = world.admin("host", "ban", "tiny", "ben", "--reason", "left")
    assert banned["key_replaced"]
    at = version(world)
    wait_until("two more versions", lambda: version(world) >= at + 2)
    stored = stored_blobs(world)
    for number in (at + 1, at + 2):
        source = world.admin("model", "show", "tiny", "--version", number)["source"]
        digest = source["differences"][-1]["digest"]
        newest = stored[digest]
        assert key_of(newest) not in keys_of_ben
        with pytest.raises(TrustError, match="is not here"):
            unseal(newest, keys_of_ben)
        assert httpx.get(f"{world.url}/blobs/{digest}", headers=as_ben).status_code == 404
        assert httpx.get(f"{world.url}/blobs/{digest}", headers=as_anna).is_success
    for path in ("status", "metadata", "events", f"versions/0/{at + 1}"):
        answer = httpx.get(f"{world.url}/projects/tiny/{path}", headers=as_ben)
        assert answer.status_code == 404, path
    new_epoch_is_sealed_anew(world, keys_of_ben)


def test_a_mirror_serves_members_and_is_of_no_use_to_strangers(world: World) -> None:
    folder = world.root / "mirror"
    folder.mkdir()
    world.serve()
    with files_served(folder) as mirror:
        world.publish(TINY, access="invited", mirrors=[mirror])
        world.admin("mirror", "sync", "tiny", folder)
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert len(files) > 20
        for path in files:
            assert "tiny" not in str(path.relative_to(folder))
            if path.name != "files.json":  # digests of sealed bytes alone
                assert seal_mark(path.read_bytes()), path
        member(world, "anna")
        world.start_agent("anna")

        def from_mirror() -> int:
            return int(world.admin("project", "show", "tiny")["received"]["mirrors"])

        wait_until("a member to get files from the mirror", from_mirror)


def test_another_pc_of_a_member_joins_without_an_invite(world: World) -> None:
    world.serve()
    world.publish(TINY, access="invited")
    member(world, "anna")
    world.start_agent("anna")

    def account_link() -> str:
        try:
            told = run_here(agent_main, "link", "tiny", "--home", world.root / "anna")
        except AssertionError:
            return ""
        return str(told["text"])

    world.attach("laptop", wait_until("the agent to answer", account_link))
    readings = []
    for name in ("anna", "laptop"):
        [file] = (world.root / name / "keys").glob("*.reading")
        readings.append(read_reading(file.read_bytes()))
    assert readings[0].keys == readings[1].keys
    assert readings[0].reader != readings[1].reader
    run_here(agent_main, "detach", "tiny", "--home", world.root / "laptop")
    assert not list((world.root / "laptop" / "keys").glob("*.reading"))
