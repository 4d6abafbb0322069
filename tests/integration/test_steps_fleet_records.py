"""Hosts' credit moves with a project, their records as far as is safe, and no forged statement."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pleb_coordinator.core.reputation import standing_of
from pleb_coordinator.steps.fleet_records import check_root_key, signed_records
from pleb_coordinator.steps.publish import publish
from pleb_coordinator.steps.published import examine, open_publication
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol import fleet_records, strict_json
from pleb_shared.protocol.fleet_records import (
    BroughtRecords,
    FleetHead,
    FleetRecord,
    join_records,
)
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import PayloadType, Role
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.signing import SigningKey, peek_payload, sign_payload
from tests.integration.moving_world import (
    THERE,
    brought,
    move,
    moved_to,
    new_coordinator,
    old_world,
)


@pytest.fixture
def world(tmp_path):
    return old_world(tmp_path, new_host_units=5)


@pytest.fixture
def there(tmp_path, world):
    return new_coordinator(tmp_path, world)


def statement(world, *, key=None, lines=None, **changes):
    """Return head and lines as the coordinator signs them; `changes` are those of a forged one."""
    project = world.project
    with world.store.read() as tx:
        told = tx.views.fleet_records(project.id)
    envelope, _, own = signed_records(world.deps, project, told).partition(b"\n")
    lines = own if lines is None else lines
    head = strict_json.decode(peek_payload(envelope, PayloadType.RECORDS), FleetHead)
    changes = {"digest": digest_of(lines), "lines": len(lines.splitlines())} | changes
    payload = strict_json.encode(msgspec.structs.replace(head, **changes))
    return sign_payload(payload, PayloadType.RECORDS, key or world.online), lines


def carried(there, signed):
    """Return a statement as a researcher brings it."""
    envelope, lines = signed
    there.deps.blobs.put(lines)
    return BroughtRecords(head=envelope.decode(), lines=blob_of(lines))


def bring(there, world, signed):
    """Move the project with what the old coordinator has signed."""
    versions, entries, envelopes = brought(world)
    move(there, moved_to(there, world), versions, entries, envelopes, carried(there, signed))


def renew(there, signed):
    """Publish a renewal with what the old coordinator has signed."""
    before = there.project.metadata
    metadata = msgspec.structs.replace(before, number=before.number + 1)
    opened = open_publication(there.envelope(metadata, invite=None, key=there.root))
    assert opened.request is not None
    request = msgspec.structs.replace(opened.request, records=carried(there, signed))
    opened = replace(opened, request=request)
    findings = examine(there.deps, opened)
    with there.store.write() as tx:
        publish(tx, there.deps, opened, findings, THERE)


def credit_of(world):
    """Return each host's credit and verified units, and the project's credit."""
    project = world.project.id
    with world.store.read() as tx:
        found = tx.hosts.of_project(project, limit=100)
        accounts = tx.fleets.accounts(project, ban_after=3, limit=100)
        totals = tx.views.totals(project, 3)
    hosts = {host.fingerprint: (host.account, host.credit, host.units_valid) for host in found}
    return hosts, sorted(map(str, accounts)), (totals.verified, totals.credit)


def with_standings(world):
    """Add a proven volunteer of a team, a banned one, a suspended one, and one that is gone."""
    hosts = {name: world.volunteer(name) for name in ("proven", "banned", "suspended", "gone")}
    project = world.project.id
    changes: dict[str, dict[str, Any]] = {
        "banned": {
            "bans": 2,
            "refused": 1,
            "banned_until": world.clock.now + 86_400,
            "ban_reason": because(ReasonCode.BANNED_BY_OPERATOR, text="it lied"),
        },
        "suspended": {"suspended_by": 1, "proven": False},
    }
    with world.store.write() as tx:
        for number, (name, host) in enumerate(hosts.items(), start=1):
            row = tx.hosts.find(project, host.key.fingerprint)
            standing = msgspec.structs.replace(
                standing_of(row),
                **{"record": 500, "proven": True, "credit": 1e12 * number}
                | {"units_valid": 500 + number}
                | changes.get(name, {}),
            )
            tx.hosts.set_standing(row.id, standing)
            if name == "proven":
                tx.hosts.set_team(project, row.account, "lab")
            if name == "gone":
                tx.retention.remove_hosts(project, [row.id])
    return hosts


def rows_of(world, hosts):
    project = world.project.id
    with world.store.read() as tx:
        return {name: tx.hosts.find(project, host.key.fingerprint) for name, host in hosts.items()}


def test_credit_comes_along_and_records_but_for_one_exam(world, there):
    hosts = with_standings(world)
    before = credit_of(world)
    bring(there, world, statement(world))
    assert credit_of(there) == before
    hosts.pop("gone")
    found = rows_of(there, hosts)
    needed = there.project.metadata.verification.new_host_units
    assert {name: (host.record, host.proven) for name, host in found.items()} == {
        "proven": (needed - 1, False),
        "banned": (needed - 1, False),
        "suspended": (0, False),
    }
    banned = found["banned"]
    assert (banned.bans, banned.refused) == (2, 1)
    assert banned.banned_until == pytest.approx(world.clock.now + 86_400)
    assert banned.ban_reason == because(ReasonCode.BANNED_BY_OPERATOR, text="it lied")
    assert found["proven"].team == "lab", "of a team all are one voice, here too"


def test_a_host_with_a_record_needs_one_exam_and_a_new_one_all(world, there):
    hosts = with_standings(world)
    bring(there, world, statement(world))
    umpire = there.volunteer("umpire", role=Role.TRUSTED)
    known = there.volunteer("proven", key=hosts["proven"].key)
    new = there.volunteer("new")
    before = rows_of(there, {"known": known})["known"]
    found = {"known": before}
    for _ in range(60):
        there.work(umpire, known, new)
        there.pass_time(60)
        found = rows_of(there, {"known": known, "new": new})
        if found["known"].proven:
            break
    assert found["known"].proven
    assert found["known"].record < 2 * there.project.metadata.verification.new_host_units
    assert found["known"].credit > before.credit, "it earns on top of what it had"
    assert not found["new"].proven


def test_records_may_come_later_and_only_once(world, there):
    """The old coordinator was lost at first: hosts have enrolled anew, and have earned."""
    hosts = with_standings(world)
    move(there, moved_to(there, world), *brought(world))
    umpire = there.volunteer("umpire", role=Role.TRUSTED)
    known = there.volunteer("proven", key=hosts["proven"].key)
    for _ in range(30):
        there.work(umpire, known)
        there.pass_time(60)
    own = rows_of(there, {"proven": known})["proven"]
    assert own.units_valid > 0
    old = rows_of(world, {"proven": known})["proven"]
    renew(there, statement(world))
    after = credit_of(there)
    found = rows_of(there, {"proven": known})["proven"]
    assert found.credit == pytest.approx(own.credit + old.credit)
    assert found.units_valid == own.units_valid + old.units_valid
    assert (found.proven, found.id) == (own.proven, own.id)
    with pytest.raises(Refusal) as refused:
        renew(there, statement(world))
    assert refused.value.code is RefusalCode.STALE_METADATA
    assert credit_of(there) == after, "not twice"


def line(**changes):
    record = FleetRecord(key=None, account="1" * 64, credit=1.0, units_valid=1)
    return strict_json.encode(msgspec.structs.replace(record, **changes))


def stranger(world):
    return statement(world, key=SigningKey.generate())


def other_project(world):
    return statement(world, project="other")


def before_the_version(world):
    return statement(world, version=2)


def from_the_future(world):
    return statement(world, issued_at=int(world.clock.now) + 10**6)


def other_lines(world):
    return statement(world)[0], statement(world, lines=line())[1]


def fewer_lines(world):
    return statement(world, lines=2 * line(), digest=digest_of(line()))


def not_a_number(world):
    return statement(world, lines=line().replace(b"1.0", b"NaN"))


def infinite(world):
    return statement(world, lines=line().replace(b"1.0", b"1e999"))


def too_much(world):
    return statement(world, lines=line(credit=2 * LIMITS.credit))


def negative(world):
    return statement(world, lines=line(credit=-1.0))


def an_account_twice(world):
    return statement(world, lines=line() + b"\n" + line(credit=2.0))


def a_host_twice(world):
    key = SigningKey.generate().public
    return statement(world, lines=line(key=key) + b"\n" + line(key=key, account="2" * 64))


def a_key_that_proves_nothing(world):
    own = SigningKey.generate().public
    return statement(world, lines=line(key=own).replace(own.encode(), b"0" * 64))


def garbage(world):
    return statement(world, lines=b"{")


def no_head(world):
    return sign_payload(b"{}", PayloadType.LOG_HEAD, world.online), line()


@pytest.mark.parametrize(
    ("forge", "code"),
    [
        (stranger, RefusalCode.BAD_SIGNATURE),
        (other_project, RefusalCode.WRONG_AUDIENCE),
        (before_the_version, RefusalCode.STALE_METADATA),
        (from_the_future, RefusalCode.STALE_METADATA),
        (other_lines, RefusalCode.WRONG_DIGEST),
        (fewer_lines, RefusalCode.WRONG_DIGEST),
        (not_a_number, RefusalCode.MALFORMED),
        (infinite, RefusalCode.MALFORMED),
        (too_much, RefusalCode.MALFORMED),
        (negative, RefusalCode.MALFORMED),
        (an_account_twice, RefusalCode.MALFORMED),
        (a_host_twice, RefusalCode.MALFORMED),
        (a_key_that_proves_nothing, RefusalCode.MALFORMED),
        (garbage, RefusalCode.MALFORMED),
        (no_head, RefusalCode.MALFORMED),
    ],
)
def test_a_forged_statement_is_refused_and_nothing_is_published(world, there, forge, code):
    with pytest.raises(Refusal) as refused:
        bring(there, world, forge(world))
    assert refused.value.code is code
    with there.store.read() as tx:
        assert tx.projects.names() == []
    bring(there, world, statement(world))


def test_a_coordinator_cannot_vouch_for_itself_nor_with_a_revoked_key(world, there):
    with pytest.raises(Refusal) as refused:
        bring(there, world, statement(world, key=there.online))
    assert refused.value.code is RefusalCode.BAD_SIGNATURE
    metadata = moved_to(there, world, revoked=[world.online.fingerprint])
    versions, entries, envelopes = brought(world)
    with pytest.raises(Refusal, match="revoked"):
        move(there, metadata, versions, entries, envelopes, carried(there, statement(world)))


def test_a_project_that_was_never_elsewhere_takes_no_records(world):
    with pytest.raises(Refusal) as refused:
        renew(world, statement(world))
    assert refused.value.code is RefusalCode.BAD_SIGNATURE


def test_only_the_root_key_gets_the_records(world):
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        check_root_key(tx, project, world.root.public)
        with pytest.raises(Refusal) as refused:
            check_root_key(tx, project, SigningKey.generate().public)
    assert refused.value.code is RefusalCode.BAD_SIGNATURE


def test_a_statement_is_bounded(monkeypatch):
    monkeypatch.setattr(fleet_records, "LIMITS", replace(LIMITS, fleet_records=3))
    many = [
        FleetRecord(key=None, account=f"{number:064x}", credit=1.0, units_valid=1)
        for number in range(4)
    ]
    assert join_records(many[:3])[1] == 3
    with pytest.raises(Refusal) as refused:
        join_records(many)
    assert refused.value.code is RefusalCode.TOO_LARGE
