"""What an agent takes from a repository, and all that it refuses."""

from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from pleb_agent.program.installed import Installation, InstallKind
from pleb_agent.updates.errors import NoAddressError, SourceUnreachableError, UntrustedSourceError
from pleb_agent.updates.repository import Source
from tests.unit.agent.updates.served import a_world, agent_facts, runtime_facts

if TYPE_CHECKING:
    from pathlib import Path

PAYLOAD = {"package/data": os.urandom(3 * 2**20)}


@pytest.fixture
def world(tmp_path):
    with a_world(tmp_path) as made:
        yield made


def targets(source):
    return asyncio.run(source.targets())


def fetch(source, progress=None):
    async def work():
        (target,) = await source.targets()
        return await source.download(target, progress or (lambda *_: None))

    return asyncio.run(work())


def test_an_empty_repository_offers_nothing(world):
    assert targets(world.source()) == []


def test_what_is_published_arrives_to_the_bit(world):
    served = world.publish(runtime_facts(), PAYLOAD)
    told = []
    path = fetch(world.source(), lambda *progress: told.append(progress))
    assert path.read_bytes() == served.read_bytes()
    assert told[-1] == (len(served.read_bytes()),) * 2
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_targets_that_only_later_agents_understand_are_passed_over(world):
    world.publish(runtime_facts(), {"a": b"1"})
    world.publish(
        {"what": "agent", "version": "1.0", "platform": "x", "files": "many"}, {"a": b"1"}
    )
    assert [target.facts.kind for target in targets(world.source())] == ["cpu"]


def test_a_changed_file_is_refused_and_thrown_away(world):
    served = world.publish(runtime_facts(), PAYLOAD)
    data = bytearray(served.read_bytes())
    data[len(data) // 2] ^= 1
    served.write_bytes(data)
    source = world.source()
    with pytest.raises(UntrustedSourceError, match="not the file that was signed"):
        fetch(source)
    assert not list((world.folder / "agent" / "downloads").iterdir())


def test_a_longer_file_is_refused_before_it_fills_the_disk(world):
    served = world.publish(runtime_facts(), PAYLOAD)
    served.write_bytes(served.read_bytes() + b"more")
    with pytest.raises(UntrustedSourceError, match="longer"):
        fetch(world.source())


def test_a_download_that_breaks_off_goes_on_from_there(world):
    served = world.publish(runtime_facts(), PAYLOAD)
    world.server.break_after = [2**20, 2**20]
    assert fetch(world.source()).read_bytes() == served.read_bytes()
    size = len(served.read_bytes())
    assert world.server.sent == size
    ranges = [asked for path, asked in world.server.asked if "/targets/" in path]
    assert ranges == ["", f"bytes={2**20}-", f"bytes={2 * 2**20}-"]


def test_a_later_agent_process_goes_on_too(world, monkeypatch):
    monkeypatch.setattr("pleb_agent.updates.download._PAUSE_SECONDS", 0)
    served = world.publish(runtime_facts(), PAYLOAD)
    world.server.break_after = [1000, 0, 0, 0, 0]
    with pytest.raises(SourceUnreachableError, match="what has arrived is kept"):
        fetch(world.source())
    assert fetch(world.source()).read_bytes() == served.read_bytes()
    assert world.server.sent == len(served.read_bytes())


def test_a_server_without_ranges_sends_it_all_again(world):
    served = world.publish(runtime_facts(), PAYLOAD)
    world.server.break_after = [2**20]
    world.server.ignores_range = True
    assert fetch(world.source()).read_bytes() == served.read_bytes()


def test_a_wrong_beginning_is_begun_anew(world):
    served = world.publish(runtime_facts(), PAYLOAD)
    source = world.source()
    (target,) = targets(source)
    downloads = world.folder / "agent" / "downloads"
    downloads.mkdir()
    (downloads / target.sha256).write_bytes(b"something else")
    assert fetch(source).read_bytes() == served.read_bytes()


def test_the_beginning_of_what_is_offered_no_more_is_removed(world, monkeypatch):
    monkeypatch.setattr("pleb_agent.updates.download._PAUSE_SECONDS", 0)
    world.publish(runtime_facts(), PAYLOAD, name="cpu-a")
    world.server.break_after = [1000, 0, 0, 0, 0]
    with pytest.raises(SourceUnreachableError):
        fetch(world.source())
    downloads = world.folder / "agent" / "downloads"
    assert len(list(downloads.iterdir())) == 1
    world.publisher().remove("runtime/cpu-a.tar.gz")
    assert targets(world.source()) == []
    assert list(downloads.iterdir()) == []


def test_an_expired_timestamp_is_refused(world):
    world.publish(runtime_facts(), {"a": b"1"}, days_ago=8)
    with pytest.raises(UntrustedSourceError, match="out of date"):
        targets(world.source())


def test_renewing_the_timestamp_heals_that(world):
    world.publish(runtime_facts(), {"a": b"1"}, days_ago=8)
    world.publisher().renew()
    assert len(targets(world.source())) == 1


def test_an_expired_root_is_refused_until_its_keys_sign_again(tmp_path):
    with a_world(tmp_path, days_ago=366) as world:
        world.publisher().renew_targets()
        with pytest.raises(UntrustedSourceError, match="out of date"):
            targets(world.source())
        world.publisher().renew_root()
        assert targets(world.source()) == []


def test_an_older_repository_is_refused_after_a_newer_one(world):
    world.publish(agent_facts("0.2.0"), {"a": b"1"})
    old = shutil.copytree(world.repository, world.folder / "old")
    world.publish(agent_facts("0.3.0"), {"a": b"1"})
    assert len(targets(world.source())) == 2
    shutil.rmtree(world.repository)
    old.rename(world.repository)
    with pytest.raises(UntrustedSourceError, match="not signed as it must be"):
        targets(world.source())


def test_another_publishers_files_are_refused(world):
    world.publish(runtime_facts(), {"a": b"1"})
    shutil.rmtree(world.repository)
    world.publisher(keys="foreign").init()
    with pytest.raises(UntrustedSourceError):
        targets(world.source())


@pytest.mark.parametrize("name", ["root-1", "root-3", "targets", "snapshot", "timestamp"])
def test_replaced_keys_are_followed_from_the_first_root(world, name):
    world.publish(runtime_facts(), {"a": b"1"})
    world.publisher().rotate(name)
    world.publish(agent_facts("0.2.0"), {"a": b"1"})
    assert len(targets(world.source())) == 2


@pytest.mark.parametrize("name", ["root-2", "targets", "timestamp"])
def test_a_lost_key_is_replaced_by_two_root_keys(world, name):
    world.publish(runtime_facts(), {"a": b"1"})
    (world.folder / "keys" / f"{name}.pem").unlink()
    world.publisher().rotate(name)
    world.publish(agent_facts("0.2.0"), {"a": b"1"})
    assert len(targets(world.source())) == 2


def test_a_chain_of_replaced_keys_is_followed(world):
    for name in ("root-1", "root-2", "root-3", "timestamp"):
        world.publisher().rotate(name)
    world.publish(runtime_facts(), {"a": b"1"})
    assert len(targets(world.source())) == 1


def test_a_root_that_the_old_keys_did_not_sign_is_refused(world):
    """Whoever holds one root key of three cannot make a root."""
    world.publish(runtime_facts(), {"a": b"1"})
    thief = world.folder / "thief"
    thief.mkdir()
    other = world.folder / "other-repository"
    type(world.publisher())(other, thief, world.publisher().now).init()
    forged = (
        (other / "metadata" / "1.root.json").read_bytes().replace(b'"version": 1', b'"version": 2')
    )
    (world.repository / "metadata" / "2.root.json").write_bytes(forged)
    with pytest.raises(UntrustedSourceError):
        targets(world.source())


def test_a_build_with_a_damaged_root_trusts_nobody(world):
    installation = Installation(InstallKind.DEB, "0.1.0", None, world.server.url, b'{"signed": {}}')
    with pytest.raises(UntrustedSourceError):
        targets(Source(installation, world.folder / "agent"))


def test_a_server_that_is_away_is_named(world):
    world.publish(runtime_facts(), {"a": b"1"})
    source = world.source()
    world.server.__exit__()
    with pytest.raises(SourceUnreachableError, match=world.server.url):
        targets(source)


def test_a_build_without_an_address_says_so(tmp_path: Path):
    with pytest.raises(NoAddressError, match="without an update address"):
        targets(Source(Installation(InstallKind.DEB, "0.1.0"), tmp_path))
