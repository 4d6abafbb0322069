"""A project goes on at another coordinator, unless what is brought contradicts itself."""

from __future__ import annotations

import msgspec
import pytest

from pleb_coordinator.core.records import Kept, ProjectState
from pleb_coordinator.steps.publish import hand_in, leads_away, publish
from pleb_coordinator.steps.published import Findings, examine, open_metadata, open_publication
from pleb_coordinator.steps.version_history import all_versions
from pleb_coordinator.steps.version_log import log_of
from pleb_shared.errors import PlebError, Refusal, RefusalCode
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.messages import PayloadType, Role
from pleb_shared.protocol.reasons import ReasonCode
from pleb_shared.protocol.signing import SigningKey, sign_payload
from tests.integration.moving_world import (
    ADDRESS,
    THERE,
    brought,
    move,
    moved_to,
    new_coordinator,
    old_world,
)
from tests.integration.steps_world import World


@pytest.fixture
def world(tmp_path):
    return old_world(tmp_path)


@pytest.fixture
def there(tmp_path, world):
    return new_coordinator(tmp_path, world)


def test_training_goes_on_from_the_newest_version(world, there):
    before = world.project
    move(there, moved_to(there, world), *brought(world))
    found = there.project
    assert (found.epoch, found.version) == (before.epoch, before.version)
    assert found.restored_at == int(there.clock.now), "agents may have seen a later version"
    with there.store.read() as tx:
        rows = list(all_versions(tx, found))
        assert log_of(tx, found) == brought(world)[1]
        assert tx.projects.envelope(found.id, 1) == brought(world)[2][0]
    assert [row.kept for row in rows] == [Kept.EXACT, Kept.LISTED, Kept.LISTED, Kept.READABLE]
    assert rows[-1].norms
    trusted = there.volunteer("umpire", role=Role.TRUSTED)
    there.work(trusted, rounds=6)
    assert there.project.version > before.version


def with_line(lines, number, **changes):
    decoded = msgspec.json.decode(lines[number]) | changes
    return [*lines[:number], msgspec.json.encode(decoded), *lines[number + 1 :]]


def other_digest(versions, entries, envelopes):
    return with_line(versions, 3, digest="0" * 64), entries, envelopes


def other_digests(versions, entries, envelopes):
    return (
        with_line(versions, 3, digest="0" * 64),
        with_line(entries, 3, digest="0" * 64),
        envelopes,
    )


def other_tensors(versions, entries, envelopes):
    source = msgspec.json.decode(versions[2])["source"]
    return with_line(versions, 3, source=source), entries, envelopes


def relabelled_tensors(versions, entries, envelopes):
    own = msgspec.json.decode(versions[3])["source"]
    source = msgspec.json.decode(versions[2])["source"]
    source |= {"number": own["number"], "digest": own["digest"]}
    return with_line(versions, 3, source=source), entries, envelopes


def no_tensors(versions, entries, envelopes):
    return with_line(versions, 3, source=None), entries, envelopes


def cut_log(versions, entries, envelopes):
    return versions, entries[:-1], envelopes


def broken_chain(versions, entries, envelopes):
    return versions, with_line(entries, 1, previous="0" * 64), envelopes


def swapped(versions, entries, envelopes):
    return [versions[1], versions[0], *versions[2:]], entries, envelopes


def nothing(versions, entries, envelopes):
    return [], [], envelopes


def garbage(versions, entries, envelopes):
    return [b"{"], entries, envelopes


def strangers_metadata(versions, entries, envelopes):
    return versions, entries, [sign_payload(b"{}", PayloadType.METADATA, SigningKey.generate())]


def missing_state(versions, entries, envelopes):
    return with_line(versions, 3, outer_state="1" * 64), entries, envelopes


@pytest.mark.parametrize(
    "forge",
    [
        other_digest,
        other_digests,
        other_tensors,
        relabelled_tensors,
        no_tensors,
        cut_log,
        broken_chain,
        swapped,
        nothing,
        garbage,
        strangers_metadata,
        missing_state,
    ],
)
def test_a_history_that_contradicts_itself_is_refused(world, there, forge):
    with pytest.raises(PlebError):
        move(there, moved_to(there, world), *forge(*brought(world)))
    with there.store.read() as tx:
        assert tx.projects.names() == []


def test_the_metadata_of_a_history_are_the_root_keys(world, there):
    versions, entries, _ = brought(world)
    stranger = SigningKey.generate()
    theirs = msgspec.structs.replace(world.metadata, root_key=stranger.public)
    signed = sign_payload(strict_json.encode(theirs), PayloadType.METADATA, stranger)
    with pytest.raises(Refusal, match="another project"):
        move(there, moved_to(there, world), versions, entries, [signed])


class TestTheOldCoordinator:
    def told(self, world, there, address=ADDRESS, **changes):
        metadata = msgspec.structs.replace(moved_to(there, world, **changes), coordinator=address)
        opened = open_metadata(
            sign_payload(strict_json.encode(metadata), PayloadType.METADATA, there.root)
        )
        with world.store.write() as tx:
            hand_in(tx, world.deps, opened, Findings((), None))
        return opened

    def test_sends_hosts_there_and_still_tells_them_verdicts(self, world, there):
        host = world.volunteer("anna")
        manifests, _ = world.ask(host, 1)
        opened = self.told(world, there)
        assert world.project.state is ProjectState.MOVED
        assert leads_away(world.deps, opened.metadata)
        for manifest in manifests:
            world.answer(host, manifest)
        manifests, no_work = world.ask(host, 1)
        assert manifests == []
        assert (no_work.reason.code, no_work.reason.values["text"]) == (ReasonCode.MOVED, THERE)
        assert world.project.metadata_number == 1, "what is signed here counts by these"
        project = world.project
        with world.store.read() as tx:
            assert tx.projects.newest_envelope(project.id) == (2, opened.envelope)

    def test_listens_to_the_root_key_only(self, world, there):
        there.root = SigningKey.generate()
        with pytest.raises(Refusal) as caught:
            self.told(world, there, root_key=there.root.public)
        assert caught.value.code is RefusalCode.BAD_SIGNATURE
        assert world.project.state is ProjectState.ACTIVE

    def test_does_not_follow_a_key_that_is_not_its_own_without_an_address(self, world, there):
        with pytest.raises(Refusal, match="does not have the online key"):
            self.told(world, there, address=None)
        assert world.project.state is ProjectState.ACTIVE

    def test_takes_no_renewal_any_more(self, world, there):
        self.told(world, there)
        renewed = msgspec.structs.replace(world.metadata, number=3)
        opened = open_publication(world.envelope(renewed, invite=None, key=world.root))
        findings = examine(world.deps, opened)
        with world.store.write() as tx, pytest.raises(Refusal, match="has moved"):
            publish(tx, world.deps, opened, findings, THERE)

    def test_finishes_its_round_first(self, world):
        trusted = world.volunteer("second", role=Role.TRUSTED)
        finishing = msgspec.structs.replace(world.metadata, number=2, activity="finishing")
        World.publish(world, finishing, invite=False)
        last = world.project.version + 1
        world.work(trusted, rounds=8)
        assert world.project.version == last
        assert world.project.state is ProjectState.ACTIVE
        again = msgspec.structs.replace(world.metadata, number=3, activity="active")
        World.publish(world, again, invite=False)
        world.run()
        world.work(trusted, rounds=8)
        assert world.project.version > last
