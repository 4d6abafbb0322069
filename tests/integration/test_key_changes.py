"""Changing keys as races: kills at every step, restored coordinators, agents that look meanwhile.

The researcher's `Publisher` signs for the steps of a real coordinator, and an agent's
`TrustedProject` looks at what is served whenever something may have changed.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import msgspec
import pytest

import pleb_coordinator.home.keys as online_keys
from pleb_agent.core.trust import Memory, TrustedProject
from pleb_coordinator.home.keys import OnlineKeys, rotate_online_key
from pleb_coordinator.home.layout import Home as CoordinatorHome
from pleb_coordinator.steps.publish import publish
from pleb_coordinator.steps.published import examine, open_publication
from pleb_coordinator.store.transaction import Store
from pleb_project.keys.key_file import create_key, read_key
from pleb_project.publish import root_keys, rules
from pleb_project.publish.publisher import Publisher
from pleb_project.server.client import Address
from pleb_project.server.records import Home
from pleb_shared.errors import InputError, Refusal, TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.messages import CoordinatorInfo, PayloadType
from pleb_shared.protocol.signing import SigningKey, sign_payload
from tests.integration.steps_world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("legal_moves")

URL = "http://127.0.0.1:7532"


class KilledError(Exception):
    """The process ends here."""


class Kills:
    """Ends the process before or after the durable steps that it wraps; `at`: which of these."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.passed = 0

    def point(self) -> None:
        if self.passed == self.at:
            self.at = None
            raise KilledError
        self.passed += 1

    def around(self, step: Callable[..., object]) -> Callable[..., object]:
        def stepped(*arguments: object, **options: object) -> object:
            self.point()
            value = step(*arguments, **options)
            self.point()
            return value

        return stepped


class Office:
    """A researcher's home, the coordinator of `steps_world`, and an agent that looks."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "coordinator").mkdir()
        self.world = World(folder / "coordinator")
        self.home = Home(folder / "researcher")
        self.coordinator_home = CoordinatorHome(folder / "coordinator")
        self.address = Address(URL)
        self.first_link = f"{URL}/join/tiny#{self.world.root.fingerprint}"
        self.before_publish: Callable[[], object] = lambda: None
        self.publish: Callable[[bytes], bytes] = self._publish
        create_key(self.home.root_key_file("tiny"), self.world.root, None)
        self.publisher().renew("tiny")
        self.agent = TrustedProject("tiny", self.world.root.fingerprint, "h" * 64, Memory())
        self.look()

    # What `Publisher` calls

    def info(self) -> CoordinatorInfo:
        newest = self.world.deps.online_keys.newest().public
        return CoordinatorInfo(software="", protocols=[1], online_key=newest, projects=["tiny"])

    def metadata(self, project: str) -> bytes:
        with self.world.store.read() as tx:
            found = tx.projects.find(project)
            return tx.projects.envelope(found.id, found.metadata_number)

    def _publish(self, envelope: bytes) -> bytes:
        self.before_publish()
        deps = self.world.deps
        publication = open_publication(envelope)
        findings = examine(deps, publication)
        with self.world.store.write() as tx:
            reply = publish(tx, deps, publication, findings, URL)
        key = deps.online_keys.of(publication.metadata.delegation.online_key)
        return sign_payload(strict_json.encode(reply), PayloadType.PUBLISH_REPLY, key)

    # What tests do

    def publisher(self) -> Publisher:
        """A new process of the researcher's."""
        return Publisher(self, self.home, self.world.clock, lambda _: None)  # type: ignore[arg-type]

    def look(self) -> None:
        """The agent takes what is served; it never refuses what an honest coordinator serves."""
        now = self.world.clock.now
        self.agent.update_metadata(self.metadata("tiny"), now)
        root = self.world.root.fingerprint
        again = TrustedProject("tiny", root, "h" * 64, self.agent.memory)  # after a restart
        again.update_metadata(self.metadata("tiny"), now)

    def root(self) -> SigningKey:
        return read_key(self.home.root_key_file("tiny")).unlock("")

    @property
    def served(self):
        return self.world.project.metadata

    def back_up(self) -> Path:
        copy = self.coordinator_home.path / f"backup-{self.served.number}.sqlite"
        with (
            contextlib.closing(sqlite3.connect(self.coordinator_home.store_file)) as live,
            contextlib.closing(sqlite3.connect(copy)) as target,
        ):
            live.backup(target)
        return copy

    def restore(self, copy: Path) -> None:
        self.world.store.close()
        self.world.store = Store(copy)

    def is_settled(self) -> bool:
        """One root everywhere, and no rotation half done."""
        key = self.root().public
        return self.served.root_key == key and not self.home.next_root_key_file("tiny").exists()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    yield (made := Office(tmp_path / "office"))
    made.world.store.close()


def with_kills(patch: pytest.MonkeyPatch, office: Office, at: int | None) -> Kills:
    kills = Kills(at)
    for name in ("create_key", "rename_durably"):
        patch.setattr(root_keys, name, kills.around(getattr(root_keys, name)))
    patch.setattr(Home, "remember", kills.around(Home.remember))
    patch.setattr(office, "publish", kills.around(office.publish))
    return kills


def killed_at(office: Office, at: int | None, act: Callable[[Publisher], object]) -> int:
    """Run until the kill; return how many points there were before it."""
    with pytest.MonkeyPatch.context() as patch:
        kills = with_kills(patch, office, at)
        with contextlib.suppress(KilledError):
            act(office.publisher())
    return kills.passed


def points_of(tmp_path: Path, act: Callable[[Publisher], object]) -> int:
    office = Office(tmp_path / "counted")
    try:
        return killed_at(office, None, act)
    finally:
        office.world.store.close()


NEXT_COMMANDS = {
    "renew": lambda publisher: publisher.renew("tiny"),
    "rotate": lambda publisher: publisher.rotate("tiny"),
    "revoke": lambda publisher: publisher.revoke("tiny", "ab" * 32),
}


@pytest.mark.parametrize("then", NEXT_COMMANDS)
def test_a_rotation_killed_anywhere_is_finished_or_undone_by_the_next_command(tmp_path, then):
    points = points_of(tmp_path, NEXT_COMMANDS["rotate"])
    assert points >= 10  # key, record, publish, record, rename: before and after each
    for at in range(points):
        office = Office(tmp_path / f"at-{at}")
        killed_at(office, at, NEXT_COMMANDS["rotate"])
        office.look()
        number = office.served.number
        NEXT_COMMANDS[then](office.publisher())
        office.look()
        assert office.served.number > number or then == "rotate"
        assert office.is_settled()
        if then == "rotate":  # once, although it was asked for twice
            assert len(office.served.roots) == 1 or at == points - 1
        office.world.store.close()


@pytest.mark.parametrize("then", NEXT_COMMANDS)
def test_a_rotation_killed_anywhere_meets_a_coordinator_from_before_it(tmp_path, then):
    """The agent has seen what the kill left; the backup has not."""
    for at in range(points_of(tmp_path, NEXT_COMMANDS["rotate"])):
        office = Office(tmp_path / f"at-{at}")
        backup = office.back_up()
        killed_at(office, at, NEXT_COMMANDS["rotate"])
        office.look()
        office.restore(backup)
        NEXT_COMMANDS[then](office.publisher())
        office.look()
        assert office.is_settled()
        office.world.store.close()


def test_every_link_that_was_given_out_leads_to_the_project(office):
    roots = [office.world.root.fingerprint]
    for _ in range(3):
        link = office.publisher().rotate("tiny").link
        roots.append(link.root)
        office.look()
    assert len(set(roots)) == 4
    for root in roots:
        new = TrustedProject("tiny", root, "n" * 64, Memory())
        new.update_metadata(office.metadata("tiny"), office.world.clock.now)
        assert new.memory.root == roots[-1]


def test_two_rotations_while_an_agent_sleeps(office):
    asleep = TrustedProject("tiny", office.world.root.fingerprint, "s" * 64, office.agent.memory)
    seen = [office.metadata("tiny")]
    for _ in range(2):
        office.publisher().rotate("tiny", revoke=True)
        rotate_online_key(office.coordinator_home)
        office.publisher().renew("tiny")
        seen.append(office.metadata("tiny"))
    asleep.update_metadata(seen[-1], office.world.clock.now)
    # Nothing that was true once is true again.
    for old in seen[:-1]:
        with pytest.raises(TrustError):
            asleep.update_metadata(old, office.world.clock.now)


def test_a_coordinator_restored_to_before_two_rotations_gets_the_whole_chain(office):
    backup = office.back_up()
    for _ in range(2):
        office.publisher().rotate("tiny")
        office.look()
    seen = office.agent.memory
    office.restore(backup)
    with pytest.raises(TrustError):
        office.look()
    office.publisher().renew("tiny")
    office.look()
    assert office.agent.memory.root == seen.root
    assert office.served.number > seen.metadata_number
    assert len(office.served.roots) == 2


def test_a_restored_coordinator_does_not_bring_a_revoked_online_key_back(office):
    backup, old_keys = office.back_up(), office.coordinator_home.online_key_file.read_bytes()
    old = office.served.delegation.online_key
    rotate_online_key(office.coordinator_home)
    office.publisher().renew("tiny")
    office.publisher().revoke("tiny", office.world.online.fingerprint[:12])
    office.look()
    # All of the home is restored, the keys too.
    office.restore(backup)
    office.coordinator_home.online_key_file.write_bytes(old_keys)
    assert office.served.delegation.online_key == old
    with pytest.raises(InputError, match="key rotate"):
        office.publisher().renew("tiny")
    rotate_online_key(office.coordinator_home)
    office.publisher().renew("tiny")
    office.look()
    assert office.served.revoked == [office.world.online.fingerprint]


def test_the_home_remembers_the_highest_epoch(office):
    backup = office.back_up()
    office.publisher().signer.put(  # as `publish --new-epoch` does, without a model to export
        *signed_for_next_epoch(office), [], office.publisher().signer.no_blobs("tiny"), None
    )
    office.look()
    assert office.agent.memory.epoch == 1
    office.restore(backup)
    for refused in ("renew", "rotate"):
        with pytest.raises(InputError, match="restored from an older backup"):
            NEXT_COMMANDS[refused](office.publisher())
    office.publisher().signer.put(
        *signed_for_next_epoch(office), [], office.publisher().signer.no_blobs("tiny"), None
    )
    assert office.served.epoch == 2
    office.look()


def signed_for_next_epoch(office: Office):
    publisher = office.publisher()
    before = publisher.signer.before("tiny", new_epoch=True)
    assert before is not None
    root = publisher.signer.keys.root("tiny", before)
    given = publisher.signer.publication(root, before, new_epoch=True)
    return rules.next_metadata(before, before, given), root


def test_a_hostile_coordinator_cannot_have_older_metadata_signed_again(office):
    """A renewal signs what this PC saw confirmed last, not what the coordinator shows it."""
    backup = office.back_up()
    root = office.root()
    changed = msgspec.structs.replace(
        office.served, number=office.served.number + 1, title="What the researcher wrote last"
    )
    office.publisher().signer.put(
        changed, root, [], office.publisher().signer.no_blobs("tiny"), None
    )
    office.look()
    office.restore(backup)
    office.publisher().renew("tiny")
    assert office.served.title == "What the researcher wrote last"
    office.look()


def test_the_online_key_changes_between_the_look_and_the_publication(office):
    """The coordinator refuses what delegates to the earlier key, and the renewal is repeated."""

    def rotated() -> None:
        office.before_publish = lambda: None
        rotate_online_key(office.coordinator_home)

    office.before_publish = rotated
    office.publisher().renew("tiny")
    office.look()
    newest = OnlineKeys(office.coordinator_home).newest().public
    assert office.served.delegation.online_key == newest


def test_somebody_else_publishes_between_the_look_and_the_publication(office):
    def other() -> None:
        office.before_publish = lambda: None
        title = msgspec.structs.replace(
            office.served, number=office.served.number + 1, title="From another PC"
        )
        signed = office.world.envelope(title, invite=None, key=office.root())
        office._publish(signed)

    office.before_publish = other
    office.publisher().renew("tiny")
    office.look()
    assert office.served.title == "From another PC"


def test_a_rotation_with_the_stolen_old_root_comes_too_late(office):
    thief = office.root()
    office.publisher().rotate("tiny")
    stolen_home = Home(office.home.path.with_name("thief"))
    create_key(stolen_home.root_key_file("tiny"), thief, None)
    theirs = Publisher(office, stolen_home, office.world.clock, print)
    for act in (theirs.renew, theirs.rotate):
        with pytest.raises(TrustError, match="another root key"):
            act("tiny")
    # Nor does it help to send it past the command.
    metadata = msgspec.structs.replace(office.served, number=99, root_key=thief.public, roots=[])
    with pytest.raises(Refusal):
        office._publish(office.world.envelope(metadata, invite=None, key=thief))
    office.look()


def test_what_cannot_be_revoked(office):
    for key, said in (
        ("zz", "not the beginning of one key"),
        ("", "not the beginning of one key"),
        (office.root().fingerprint[:10], "key rotate tiny --revoke"),
        (office.world.online.fingerprint[:10], "pleb-coordinator key rotate"),
    ):
        with pytest.raises(InputError, match=said):
            office.publisher().revoke("tiny", key)


@pytest.mark.parametrize("at", range(4))
def test_an_online_key_rotation_killed_anywhere_keeps_the_key_in_use(office, monkeypatch, at):
    home, old = office.coordinator_home, office.world.online.public
    with monkeypatch.context() as patch:
        kills = Kills(at)
        for name in ("make_secret_file", "write_durably"):
            patch.setattr(online_keys, name, kills.around(getattr(online_keys, name)))
        with pytest.raises(KilledError):
            rotate_online_key(home)
    assert OnlineKeys(home).of(old).public == old
    office.publisher().renew("tiny")
    office.look()
    after = rotate_online_key(home)
    assert OnlineKeys(home).of(old).public == old
    office.publisher().renew("tiny")
    office.look()
    assert office.served.delegation.online_key == after.public
