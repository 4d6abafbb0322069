"""The last units of a round are shortened to end with it, and no round waits for a straggler."""

from __future__ import annotations

import msgspec
import pytest

from pleb_coordinator.core.planning import YOUNG_VERSIONS
from pleb_coordinator.core.records import NewAssignment, Purpose
from pleb_coordinator.core.reputation import standing_of
from pleb_coordinator.steps import fit
from pleb_shared.protocol.reasons import ReasonCode
from tests.integration.steps_world import World

pytestmark = pytest.mark.usefixtures("legal_moves")

STEPS = 64


def fleet(tmp_path, speeds, *, units, quorum, shortest_unit=0.25):
    """Return a world and proven hosts that take so many seconds for a whole unit."""
    world = World(
        tmp_path,
        units=units,
        quorum=quorum,
        local_steps=STEPS,
        shortest_unit=shortest_unit,
        grace_seconds=300,
    )
    hosts = [world.volunteer(f"host-{n}") for n in range(len(speeds))]
    with world.store.write() as tx:
        for host, seconds in zip(hosts, speeds, strict=True):
            row = tx.hosts.find(tx.projects.find("tiny").id, host.key.fingerprint)
            proven = msgspec.structs.replace(standing_of(row), proven=True, record=99)
            tx.hosts.set_standing(row.id, proven)
            tx.hosts.set_speed(row.id, seconds / STEPS)
    world.run()
    return world, hosts


def test_the_unit_of_a_slow_host_is_shortened_to_end_with_the_round(tmp_path):
    world, (fast, slow) = fleet(tmp_path, (64, 256), units=4, quorum=2)
    assert [m.unit.local_steps for m in world.ask(fast)[0]] == [STEPS]
    (manifest,) = world.ask(slow)[0]
    assert manifest.unit.local_steps == 24, "what it does while the other two are finished"
    with world.store.read() as tx:
        assert tx.units.get(tx.assignments.get(manifest.assignment).unit).local_steps == 24
    assert world.answer(slow, manifest).outcome == "stored"


def test_units_are_shortened_too_where_only_a_sample_is_read(tmp_path, monkeypatch):
    """Of very many units in hand, here eight of which four are read."""
    monkeypatch.setattr(fit, "_MOST_IN_HAND", 4)
    world, (*fast, slow) = fleet(tmp_path, [64] * 6 + [256], units=8, quorum=6)
    for host in fast:
        assert [m.unit.local_steps for m in world.ask(host)[0]] == [STEPS]
    (manifest,) = world.ask(slow)[0]
    assert manifest.unit.local_steps < STEPS
    with world.store.read() as tx:
        every = tx.units.first_tries_in_hand(1, 0, 0)
        sample = tx.units.first_tries_in_hand(1, 0, 0, every=2)
    assert len(every) == 7
    assert 3 <= len(sample) <= 4
    assert set(sample) < set(every)


def test_a_host_that_cannot_finish_in_time_is_told_so(tmp_path):
    world, (fast, slow) = fleet(tmp_path, (64, 640), units=4, quorum=2)
    world.ask(fast)
    manifests, no_work = world.ask(slow)
    assert manifests == []
    assert no_work.reason.code == ReasonCode.ROUND_ENDS
    assert no_work.reason.values == {"version": 1}


def test_a_round_after_a_quick_one_waits_for_nobody(tmp_path):
    """These hosts answered at once, so their round said that all the others are fast."""
    world, hosts = fleet(tmp_path, (64,) * 3, units=4, quorum=3)
    given = [(host, world.ask(host)[0][0]) for host in hosts]
    world.pass_time(2)
    for host, manifest in given:
        world.answer(host, manifest)
    world.run()
    assert world.project.version == 1
    with world.store.write() as tx:  # as if it had been over in two seconds
        tx._db.execute("UPDATE rounds SET opened_at = closed_at - 2 WHERE version = 0")
        for host in hosts:
            row = tx.hosts.find_of("tiny", host.key.fingerprint)
            tx.hosts.set_speed(row.id, 1.0)
    assert world.ask(hosts[0])[1].reason.code == ReasonCode.ROUND_ENDS
    world.pass_time(3)
    assert [m.unit.local_steps for m in world.ask(hosts[0])[0]] == [STEPS]


def test_units_are_alike_where_the_project_does_not_shorten_them(tmp_path):
    world, (fast, slow) = fleet(tmp_path, (64, 640), units=4, quorum=2, shortest_unit=1.0)
    found = [*world.ask(fast)[0], *world.ask(slow)[0]]
    assert [m.unit.local_steps for m in found] == [STEPS, STEPS]


def test_the_last_unit_is_doubled_onto_a_fast_host_and_the_slow_one_has_its_credit(tmp_path):
    world, (slow, fast) = fleet(tmp_path, (256, 64), units=2, quorum=2)
    (late,), (first,) = world.ask(slow)[0], world.ask(fast)[0]
    world.pass_time(64)
    world.answer(fast, first)
    world.run()
    (second,) = world.ask(fast)[0]
    assert second.unit == late.unit
    assert world.ask(fast)[0] == [], "it is doubled once"
    world.pass_time(64)
    world.answer(fast, second)
    world.run()
    assert world.project.version == 1
    assert world.answer(slow, late).outcome in {"stored", "unneeded"}
    world.run()
    *_, verdicts = world.exchange(slow, 0, [], [])
    assert [(v.verdict, v.credit > 0) for v in verdicts if v.assignment == late.assignment] == [
        ("valid", True)
    ]


@pytest.mark.parametrize(("shortest_unit", "version"), [(0.25, 1), (1.0, 0)])
def test_a_round_with_its_quorum_waits_only_for_units_in_hand(tmp_path, shortest_unit, version):
    world, hosts = fleet(tmp_path, (64, 64), units=4, quorum=2, shortest_unit=shortest_unit)
    given = [(host, world.ask(host)[0][0]) for host in hosts]
    world.pass_time(64)
    for host, manifest in given:
        world.answer(host, manifest)
    world.run()
    assert world.project.version == version


def test_a_host_that_must_be_done_gets_whole_units_only_if_they_fit(tmp_path):
    world, (host, other) = fleet(tmp_path, (64, 64), units=4, quorum=4, shortest_unit=1.0)
    host.free_seconds = 75.0
    manifests, no_work = world.ask(host)
    assert manifests == []
    assert no_work.reason.code == ReasonCode.WINDOW_ENDS
    assert no_work.reason.values == {"seconds": 75}
    host.free_seconds = 85.0
    assert [m.unit.local_steps for m in world.ask(host)[0]] == [STEPS]
    assert [m.unit.local_steps for m in world.ask(other)[0]] == [STEPS]


def test_a_unit_is_shortened_to_the_time_that_its_host_has(tmp_path):
    world, (host,) = fleet(tmp_path, (64,), units=4, quorum=4)
    host.free_seconds = 140.0
    assert [m.unit.local_steps for m in world.ask(host)[0]] == [STEPS]
    # 140 s less the 64 s of what it has in hand, of which four fifths are planned with
    assert [m.unit.local_steps for m in world.ask(host)[0]] == [60]
    assert world.ask(host)[1].reason.code == ReasonCode.WINDOW_ENDS


def test_a_unit_is_shortened_to_the_time_that_its_host_is_usually_free(tmp_path):
    world, (host, other) = fleet(tmp_path, (64, 64), units=4, quorum=4)
    host.usually_free_seconds = 100.0
    assert [m.unit.local_steps for m in world.ask(host)[0]] == [STEPS]
    # 100 s less the 64 s of what it has in hand
    assert [m.unit.local_steps for m in world.ask(host)[0]] == [36]
    other.usually_free_seconds = 5.0
    # a guess refuses no work: the shortest unit is given even where it does not fit
    assert [m.unit.local_steps for m in world.ask(other)[0]] == [16]


def test_a_check_that_does_not_fit_waits_for_its_host_or_is_drawn_again(tmp_path):
    world, (host, author) = fleet(tmp_path, (64, 64), units=4, quorum=4)
    (manifest,) = world.ask(author)[0]
    with world.store.write() as tx:
        row = tx.hosts.find(tx.projects.find("tiny").id, host.key.fingerprint)
        new = NewAssignment(
            unit=tx.assignments.get(manifest.assignment).unit,
            purpose=Purpose.CHECK,
            created_at=world.clock.now,
            for_host=row.id,
            fetch_by=world.clock.now + 500,
        )
        drawn = tx.assignments.add(new)
    host.free_seconds = 30.0
    assert [m.unit.local_steps for m in world.ask(host)[0]] == [24], "a first try that fits"
    host.free_seconds = None
    assert [m.assignment for m in world.ask(host)[0]] == [drawn]


def test_a_lease_ends_when_nobody_can_judge_its_result_any_more(tmp_path):
    """Agents refuse units of versions that lie further back than eight."""
    world, hosts = fleet(tmp_path, (64, 64), units=2, quorum=2, shortest_unit=1.0)
    assert lease_of(world, hosts[0]) == 600.0, "no round is usual yet"
    while world.project.version < YOUNG_VERSIONS + 5:
        given = [(host, manifest) for host in hosts for manifest in world.ask(host)[0]]
        world.pass_time(64)
        for host, manifest in given:
            world.answer(host, manifest)
        world.run()
    assert lease_of(world, hosts[0], usual=30) == 8 * 30.0
    assert lease_of(world, hosts[1], usual=3) == 2 * 64.0, "time for the unit is always left"


def lease_of(world, host, usual=None):
    """Return the length of a lease for a unit of 64 seconds, after rounds of `usual` ones."""
    with world.store.write() as tx:
        tx.hosts.set_speed(tx.hosts.find_of("tiny", host.key.fingerprint).id, 1.0)
        if usual:
            taken = "UPDATE rounds SET opened_at = closed_at - :usual WHERE closed_at IS NOT NULL"
            tx._db.execute(taken, usual=usual)
    (manifest,) = world.ask(host)[0]
    return manifest.lease_seconds
