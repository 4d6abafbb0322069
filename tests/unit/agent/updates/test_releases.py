"""Everybody is told of a newer release; who updates itself can install it."""

from __future__ import annotations

import asyncio

import pytest

from pleb_agent.program.installed import Installation, InstallKind
from pleb_agent.updates.errors import NoAddressError, NotOfferedError, UntrustedSourceError
from pleb_agent.updates.handover import AppFolder
from pleb_agent.updates.releases import Releases
from pleb_agent.updates.repository import Source
from tests.unit.agent.updates.served import a_world, agent_facts

FILES = {"pleb-agent": b"#!/bin/sh\n", "_internal/data": b"1" * 2**20}


@pytest.fixture
def world(tmp_path):
    with a_world(tmp_path) as made:
        yield made


def archive_releases(world) -> Releases:
    folder = world.folder / "app" / "versions" / "0.1.0"
    folder.mkdir(parents=True, exist_ok=True)
    return Releases(world.installation(InstallKind.ARCHIVE, "0.1.0", folder), world.source())


@pytest.mark.parametrize(
    ("kind", "can_install", "words"),
    [
        (InstallKind.DEB, False, "apt upgrade"),
        (InstallKind.RPM, False, "dnf upgrade"),
        (InstallKind.ARCH, False, "pacman"),
        (InstallKind.MACOS, False, "new package"),
        (InstallKind.SOURCE, False, "the way you installed it"),
        (InstallKind.ARCHIVE, True, "one click"),
        (InstallKind.WINDOWS, True, "one click"),
    ],
)
def test_the_sentence_says_who_updates(world, kind, can_install, words):
    world.publish(agent_facts("0.2.0"), FILES)
    folder = world.folder / "app" / "versions" / "0.1.0"
    releases = Releases(world.installation(kind, "0.1.0", folder), world.source())
    release = asyncio.run(releases.check())
    assert release is not None
    assert (release.version, release.can_install) == ("0.2.0", can_install)
    assert words in release.sentence


def test_the_newest_says_nothing(world):
    world.publish(agent_facts("0.1.0"), FILES)
    assert asyncio.run(archive_releases(world).check()) is None
    with pytest.raises(NotOfferedError, match="newest"):
        asyncio.run(archive_releases(world).install())


def test_a_release_is_unpacked_beside_and_changes_nothing_yet(world):
    world.publish(agent_facts("0.2.0"), FILES)
    releases = archive_releases(world)
    app = AppFolder(world.folder / "app")
    app.make_current("0.1.0")
    assert asyncio.run(releases.install()) == "0.2.0"
    assert app.program("0.2.0").stat().st_mode & 0o777 == 0o755
    assert app.current_version() == "0.1.0"
    sent = world.server.sent
    assert asyncio.run(releases.install()) == "0.2.0"
    assert world.server.sent == sent


def test_what_did_not_start_is_not_offered_again(world):
    world.publish(agent_facts("0.2.0"), FILES)
    releases = archive_releases(world)
    asyncio.run(releases.install())
    AppFolder(world.folder / "app").mark_bad("0.2.0")
    assert asyncio.run(releases.check()) is None
    world.publish(agent_facts("0.3.0"), FILES)
    newer = asyncio.run(releases.check())
    assert newer is not None
    assert newer.version == "0.3.0"


def test_a_tampered_release_is_not_installed(world):
    served = world.publish(agent_facts("0.2.0"), FILES)
    served.write_bytes(served.read_bytes()[:-1] + b"!")
    with pytest.raises(UntrustedSourceError):
        asyncio.run(archive_releases(world).install())
    assert not AppFolder(world.folder / "app").is_complete("0.2.0")


def test_packages_of_a_package_manager_are_not_changed(world):
    world.publish(agent_facts("0.2.0"), FILES)
    releases = Releases(world.installation(), world.source())
    with pytest.raises(NotOfferedError, match="apt upgrade"):
        asyncio.run(releases.install())


def test_without_an_address_nobody_is_asked(world):
    installation = Installation(InstallKind.ARCHIVE, "0.1.0")
    releases = Releases(installation, Source(installation, world.folder))
    with pytest.raises(NoAddressError):
        asyncio.run(releases.check())
