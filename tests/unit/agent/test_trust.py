"""Whom the agent obeys: each rule of docs/protocol.md 3 and 5 broken once."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from pleb_agent.core.trust import (
    Memory,
    OlderMetadataError,
    StaleMetadataError,
    TrustedProject,
    clock_sentence,
    moved_link,
)
from pleb_shared.errors import TrustError
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.codec import packed_most
from pleb_shared.protocol.ids import digest_of, parse_attach_link
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import (
    EnrolReply,
    PayloadType,
    Receipt,
    ReceiptOutcome,
    Role,
    WorkReply,
)
from pleb_shared.protocol.project import CoordinatorAddress, Delegation
from pleb_shared.protocol.roots import RootChange, change_root
from pleb_shared.protocol.signing import SigningKey, sign_payload
from pleb_shared.protocol.unit import Blob, ShardRange, UnitKind
from tests.integration.fake_coordinator import PROJECT, FakeCoordinator

NOW = 1_800_000_000.0
HOST = digest_of(b"host")


@pytest.fixture
def coordinator():
    return FakeCoordinator(lambda: NOW)


@pytest.fixture
def trusted(coordinator):
    project = TrustedProject(PROJECT, coordinator.root.fingerprint, HOST, Memory())
    project.update_metadata(coordinator.metadata_envelope, NOW)
    return project


def reply(coordinator, *, unit=None, version=None, manifest=None, **changes) -> bytes:
    """The signed answer to request 7 with one unit in it, changed at will."""
    coordinator.plan(1)
    given = coordinator.give(coordinator.units.popleft(), HOST)
    changed = msgspec.structs.replace
    given = changed(
        given,
        unit=changed(given.unit, **(unit or {})),
        version=changed(given.version, **(version or {})),
        **(manifest or {}),
    )
    value = WorkReply(
        protocol=1,
        project=PROJECT,
        host=HOST,
        in_reply_to=7,
        issued_at=int(NOW),
        expires_at=int(NOW) + 300,
        metadata_number=coordinator.metadata.number,
        epoch=0,
        latest_version=0,
        manifests=[given],
        receipts=[],
        verdicts=[],
    )
    return sign_payload(
        strict_json.encode(changed(value, **changes)), PayloadType.WORK_REPLY, coordinator.online
    )


def obey(trusted, data, now=NOW, spent=False, reported=()):
    return trusted.work_reply(
        data, now, sequence=7, reported=reported, most_units=1, is_spent=lambda _: spent
    )


def test_an_honest_reply_is_accepted(coordinator, trusted):
    assert len(obey(trusted, reply(coordinator)).manifests) == 1


def test_more_units_than_were_asked_for_are_refused(coordinator, trusted):
    """Each brings its envelope into the journal: a flood of them would fill the disk."""
    (given,) = obey(trusted, reply(coordinator)).manifests
    with pytest.raises(TrustError, match="2 units where at most 1"):
        obey(trusted, reply(coordinator, manifests=[given, given]))


REPLIES = [
    ("addressed to another host", {"host": digest_of(b"other")}),
    ("addressed to another host", {"project": "other"}),
    ("answered request 6", {"in_reply_to": 6}),
    ("clock is", {"issued_at": int(NOW) - 9000, "expires_at": int(NOW) - 8000}),
    ("clock is 2 h behind", {"issued_at": int(NOW) + 7200, "expires_at": int(NOW) + 7500}),
    ("protocol 2", {"protocol": 2}),
    ("epoch 1", {"epoch": 1}),
    ("metadata 0", {"metadata_number": 0}),
    ("receipts for [1]", {"receipts": [Receipt(assignment=1, outcome=ReceiptOutcome.STORED)]}),
    ("another host", {"manifest": {"host": digest_of(b"other")}}),
    ("another host", {"manifest": {"project": "other"}}),
    ("metadata 9", {"manifest": {"metadata_number": 9}}),
    ("6 steps, where 1 to 5", {"unit": {"local_steps": 6}}),
    ("0 steps", {"unit": {"local_steps": 0}}),
    ("2 batches in a step", {"unit": {"batches_per_step": 2}}),
    ("2 shards, where 1", {"unit": {"shards": ShardRange(first=0, count=2)}}),
    ("epoch 3", {"unit": {"epoch": 3}}),
    ("epoch 0", {"version": {"epoch": 3}}),
    ("asks for version 1", {"unit": {"version": 1}}),
    ("has no chunk 'half'", {"unit": {"chunk": "half"}}),
    ("not the calibration unit", {"unit": {"kind": UnitKind.CALIBRATE}}),
    ("not the one that the researcher signed", {"version": {"digest": digest_of(b"x")}}),
    ("do not lead", {"version": {"snapshot_number": 3}}),
    (
        "evaluates with training steps",
        {"unit": {"kind": UnitKind.EVALUATE, "local_steps": 9}},
    ),
]


@pytest.mark.parametrize(("sentence", "changes"), REPLIES)
def test_a_reply_that_breaks_a_rule_is_refused(coordinator, trusted, sentence, changes):
    with pytest.raises(TrustError) as caught:
        obey(trusted, reply(coordinator, **changes))
    assert sentence in str(caught.value)


def test_only_the_delegated_key_is_accepted(coordinator, trusted):
    coordinator.online = SigningKey.generate()
    with pytest.raises(TrustError, match="signature"):
        obey(trusted, reply(coordinator))


def test_a_spent_nonce_is_refused(coordinator, trusted):
    with pytest.raises(TrustError, match="repeats one already reported"):
        obey(trusted, reply(coordinator), spent=True)


DIFFERENCE_BYTES = 2 * 40 + 10_000 // 2
"""Of the fake coordinator's model, 100 x 100 numbers in int4, blocks of 256."""


def _later(version, *, latest, **changes):
    difference = Blob(digest=digest_of(b"d"), size=changes.pop("size", DIFFERENCE_BYTES))
    snapshot = Blob(digest=digest_of(b"s"), size=changes.pop("snapshot_size", 100))
    return {
        "unit": {"version": version},
        "version": {
            "number": version,
            "snapshot": snapshot,
            "snapshot_number": version - 1,
            "differences": [difference],
        }
        | changes,
        "latest_version": latest,
    }


@pytest.mark.parametrize(("version", "latest"), [(5, 5), (5, 13), (1, 1)])
def test_versions_within_the_lag_are_accepted(coordinator, trusted, version, latest):
    assert obey(trusted, reply(coordinator, **_later(version, latest=latest)))
    assert trusted.memory.latest_version == latest


@pytest.mark.parametrize(
    ("sentence", "changes"),
    [
        ("newer than the latest", _later(6, latest=5)),
        ("more than 8 behind", _later(5, latest=14)),
        ("at least one difference", _later(5, latest=5, snapshot_number=5, differences=[])),
        ("a difference has more than", _later(5, latest=5, size=10**6)),
        ("a difference has more than", _later(5, latest=5, size=packed_most(DIFFERENCE_BYTES) + 1)),
        ("larger than the model", _later(5, latest=5, snapshot_size=10**6)),
    ],
)
def test_versions_from_nowhere_are_refused(coordinator, trusted, sentence, changes):
    with pytest.raises(TrustError, match=sentence):
        obey(trusted, reply(coordinator, **changes))


def test_the_latest_version_never_goes_back_within_an_epoch(coordinator, trusted):
    obey(trusted, reply(coordinator, **_later(5, latest=5)))
    with pytest.raises(TrustError, match="went back from version 5 to 4"):
        obey(trusted, reply(coordinator, **_later(4, latest=4)))
    coordinator.publish(epoch=1)
    trusted.update_metadata(coordinator.metadata_envelope, NOW)
    assert trusted.memory.latest_version == 0


def permit(coordinator, trusted, *, may_restore: bool):
    delegation = msgspec.structs.replace(coordinator.metadata.delegation, may_restore=may_restore)
    coordinator.publish(delegation=delegation)
    trusted.update_metadata(coordinator.metadata_envelope, NOW)


def test_a_restored_coordinator_goes_back_once_with_the_roots_permission(coordinator, trusted):
    permit(coordinator, trusted, may_restore=True)
    obey(trusted, reply(coordinator, latest_version=7))
    with pytest.raises(TrustError, match="went back from version 7 to 4"):
        obey(trusted, reply(coordinator, latest_version=4))
    restored = {"restored_at": int(NOW) - 60}
    assert obey(trusted, reply(coordinator, latest_version=4, **restored))
    assert (trusted.memory.latest_version, trusted.memory.restored_at) == (4, int(NOW) - 60)
    obey(trusted, reply(coordinator, latest_version=6, **restored))
    with pytest.raises(TrustError, match="went back from version 6 to 5"):
        obey(trusted, reply(coordinator, latest_version=5, **restored))


@pytest.mark.parametrize(
    ("sentence", "changes"),
    [
        ("answered as before", {"restored_at": 0}),
        ("answered as before", {"restored_at": int(NOW) - 61}),
        ("clock", {"restored_at": int(NOW) + 601}),
    ],
)
def test_what_a_restored_coordinator_may_not_say(coordinator, trusted, sentence, changes):
    permit(coordinator, trusted, may_restore=True)
    obey(trusted, reply(coordinator, latest_version=4, restored_at=int(NOW) - 60))
    with pytest.raises(TrustError, match=sentence):
        obey(trusted, reply(coordinator, latest_version=7, **changes))
    assert trusted.memory.latest_version == 4


def test_without_permission_a_restored_coordinator_may_only_go_on(coordinator, trusted):
    permit(coordinator, trusted, may_restore=False)
    obey(trusted, reply(coordinator, latest_version=7))
    restored = {"restored_at": int(NOW) - 60}
    with pytest.raises(TrustError, match="has not permitted to go back"):
        obey(trusted, reply(coordinator, latest_version=4, **restored))
    assert obey(trusted, reply(coordinator, latest_version=7, **restored))


def test_a_reply_of_newer_metadata_asks_for_it_first(coordinator, trusted):
    coordinator.publish(title="new")
    data = reply(coordinator)
    with pytest.raises(StaleMetadataError):
        obey(trusted, data)
    trusted.update_metadata(coordinator.metadata_envelope, NOW)
    assert obey(trusted, data)


def test_ten_minutes_of_clock_difference_are_tolerated(coordinator, trusted):
    data = reply(coordinator)
    assert obey(trusted, data, now=NOW + 300 + 600)
    assert obey(trusted, data, now=NOW - 600)
    for now in (NOW + 300 + 601, NOW - 601):
        with pytest.raises(TrustError, match="clock"):
            obey(trusted, data, now=now)


def _metadata_cases():
    day = 24 * 3600
    yield "longer than 30 days", {"expires": 31 * day}, NOW
    yield "ended 2 h ago", {"expires": day}, NOW + day + 7200
    yield "clock is 2 days behind", {"expires": day}, NOW - 2 * day


@pytest.mark.parametrize(("sentence", "changes", "now"), list(_metadata_cases()))
def test_delegations_are_short_and_alive(coordinator, sentence, changes, now):
    coordinator.publish(
        delegation=Delegation(
            online_key=coordinator.online.public, expires_at=int(NOW) + changes["expires"]
        )
    )
    project = TrustedProject(PROJECT, coordinator.root.fingerprint, HOST, Memory())
    with pytest.raises(TrustError, match=sentence):
        project.update_metadata(coordinator.metadata_envelope, now)


def test_an_expired_delegation_ends_all_work(coordinator, trusted):
    with pytest.raises(TrustError, match="has to renew it"):
        obey(trusted, reply(coordinator), now=NOW + LIMITS.delegation_seconds + 700)


def test_metadata_must_be_the_pinned_roots(coordinator, trusted):
    other = FakeCoordinator(lambda: NOW)
    with pytest.raises(TrustError, match="another root key"):
        trusted.update_metadata(other.metadata_envelope, NOW)
    forged = sign_payload(
        strict_json.encode(coordinator.metadata), PayloadType.METADATA, other.root
    )
    with pytest.raises(TrustError, match="signature"):
        trusted.update_metadata(forged, NOW)
    with pytest.raises(TrustError, match="refused"):
        trusted.update_metadata(b"<html>", NOW)


def test_metadata_never_goes_back_and_has_no_twin(coordinator, trusted):
    first = coordinator.metadata_envelope
    coordinator.publish(title="new")
    trusted.update_metadata(coordinator.metadata_envelope, NOW)
    with pytest.raises(OlderMetadataError, match="older than number 2"):
        trusted.update_metadata(first, NOW)
    coordinator.publish(title="twin", number=2)
    with pytest.raises(TrustError, match="two different metadata 2"):
        trusted.update_metadata(coordinator.metadata_envelope, NOW)
    assert trusted.metadata.title == "new"


def test_a_new_root_is_followed_and_the_old_one_refused_from_then_on(coordinator, trusted):
    thief = coordinator.rotate_root()
    accepted = coordinator.metadata_envelope
    trusted.update_metadata(accepted, NOW)
    assert trusted.memory.root == coordinator.root.fingerprint
    # What the old key signs does not count any more, whatever its number: neither as it was ...
    stolen = msgspec.structs.replace(
        coordinator.metadata, number=99, root_key=thief.public, roots=[]
    )
    forged = sign_payload(strict_json.encode(stolen), PayloadType.METADATA, thief)
    with pytest.raises(TrustError, match="was replaced"):
        trusted.update_metadata(forged, NOW)
    # ... nor as the start of another chain,
    coordinator.metadata, coordinator.root = stolen, thief
    coordinator.rotate_root(number=100)
    with pytest.raises(TrustError, match="was replaced"):
        trusted.update_metadata(coordinator.metadata_envelope, NOW)
    # also after a restart, from what the journal remembers.
    again = TrustedProject(PROJECT, thief.fingerprint, HOST, trusted.memory)
    with pytest.raises(TrustError, match="was replaced"):
        again.update_metadata(forged, NOW)
    again.update_metadata(accepted, NOW)


def test_two_rotations_are_followed_at_once_by_an_agent_that_slept(coordinator, trusted):
    roots = [coordinator.rotate_root(), coordinator.rotate_root(), coordinator.root]
    trusted.update_metadata(coordinator.metadata_envelope, NOW)
    assert trusted.memory.root == coordinator.root.fingerprint
    for root in roots:  # and by a first attachment, through a link with any of them
        new = TrustedProject(PROJECT, root.fingerprint, HOST, Memory())
        new.update_metadata(coordinator.metadata_envelope, NOW)


def test_the_old_root_alone_cannot_hand_over(coordinator, trusted):
    """Both keys sign: the old one consents, the new one proves that somebody holds it."""
    old, new = coordinator.root, SigningKey.generate()
    for signers in ((old, old), (new, new)):
        change = RootChange(
            protocol=1,
            project=PROJECT,
            number=1,
            before=old.public,
            after=new.public,
            issued_at=int(NOW),
        )
        coordinator.root = new
        coordinator.publish(root_key=new.public, roots=[change_root(change, *signers)])
        with pytest.raises(TrustError, match="signature"):
            trusted.update_metadata(coordinator.metadata_envelope, NOW)


def test_a_reply_of_the_old_online_key_asks_for_the_newest_metadata(coordinator, trusted):
    before = reply(coordinator)
    old = coordinator.rotate_online()
    # Until the agent has seen the new metadata, the old key is the right one.
    assert obey(trusted, before)
    trusted.update_metadata(coordinator.metadata_envelope, NOW)
    assert obey(trusted, reply(coordinator))
    coordinator.online = old
    with pytest.raises(TrustError, match="signature"):
        obey(trusted, reply(coordinator))


def test_a_revoked_online_key_does_not_come_back(coordinator, trusted):
    old = coordinator.rotate_online()
    coordinator.publish(revoked=[old.fingerprint])
    trusted.update_metadata(coordinator.metadata_envelope, NOW)
    coordinator.online = SigningKey.from_bytes(old.to_bytes())
    delegation = msgspec.structs.replace(coordinator.metadata.delegation, online_key=old.public)
    coordinator.publish(delegation=delegation)
    with pytest.raises(TrustError, match="online key that is revoked"):
        trusted.update_metadata(coordinator.metadata_envelope, NOW)


def test_a_revoked_root_is_still_followed_but_not_attached_to(coordinator, trusted):
    old = coordinator.rotate_root()
    coordinator.publish(revoked=[old.fingerprint])
    trusted.update_metadata(coordinator.metadata_envelope, NOW)  # it was attached before
    new = TrustedProject(PROJECT, old.fingerprint, HOST, Memory())
    with pytest.raises(TrustError, match="revoked the key in this attach link"):
        new.update_metadata(coordinator.metadata_envelope, NOW)
    newest = TrustedProject(PROJECT, coordinator.root.fingerprint, HOST, Memory())
    newest.update_metadata(coordinator.metadata_envelope, NOW)


def test_a_journal_from_before_roots_were_remembered_follows_too(coordinator, trusted):
    memory = replace(trusted.memory, root="")
    old = coordinator.rotate_root()
    coordinator.publish(revoked=[old.fingerprint])
    again = TrustedProject(PROJECT, old.fingerprint, HOST, memory)
    again.update_metadata(coordinator.metadata_envelope, NOW)
    assert again.memory.root == coordinator.root.fingerprint


def test_metadata_of_another_project_is_refused(coordinator):
    project = TrustedProject("other", coordinator.root.fingerprint, HOST, Memory())
    with pytest.raises(TrustError, match="not 'other'"):
        project.update_metadata(coordinator.metadata_envelope, NOW)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, None),
        ({"host": "0" * 64}, "another host"),
        ({"issued_at": int(NOW) - 7200}, "2 h ahead"),
    ],
)
def test_enrolment_is_answered_to_us_now(coordinator, trusted, changes, sentence):
    value = EnrolReply(
        protocol=1,
        project=PROJECT,
        host=HOST,
        account=HOST,
        role=Role.HOST,
        sequence=4,
        issued_at=int(NOW),
    )
    value = msgspec.structs.replace(value, **changes)
    data = sign_payload(strict_json.encode(value), PayloadType.ENROL_REPLY, coordinator.online)
    if sentence is None:
        assert trusted.enrol_reply(data, NOW).sequence == 4
        return
    with pytest.raises(TrustError, match=sentence):
        trusted.enrol_reply(data, NOW)


def test_one_kind_of_statement_never_passes_for_another(coordinator, trusted):
    data = reply(coordinator)
    with pytest.raises(TrustError):
        trusted.enrol_reply(data, NOW)
    with pytest.raises(TrustError):
        trusted.update_metadata(data, NOW)


@pytest.mark.parametrize(
    ("off", "words"),
    [(7200, "2 h ahead"), (-7200, "2 h behind"), (900, "15 min ahead"), (-3 * 86400, "3 days")],
)
def test_the_clock_sentence_says_how_far_and_where(off, words):
    assert words in clock_sentence(NOW, NOW + off)


@pytest.mark.parametrize(
    ("base", "url", "followed"),
    [
        ("https://old.example", "https://new.example/pleb", True),
        ("http://old.example", "https://new.example", True),
        ("http://old.example", "http://new.example", True),
        ("https://old.example", "http://router.local", False),
    ],
)
def test_a_project_moves_only_to_where_its_link_may_lead(coordinator, base, url, followed):
    link = parse_attach_link(f"{base}/join/{PROJECT}#{'1' * 64}+{'2' * 64}")
    place = CoordinatorAddress(url=url, certificate="3" * 64)
    moved = msgspec.structs.replace(coordinator.metadata, coordinator=place)
    assert moved_link(link, coordinator.metadata) == link
    if followed:
        assert str(moved_link(link, moved)) == f"{url}/join/{PROJECT}#{'1' * 64}+{'3' * 64}"
    else:
        with pytest.raises(TrustError, match="no encryption"):
            moved_link(link, moved)
