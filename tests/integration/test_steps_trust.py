"""Audits, bans, calibration: what makes a host believed, and what ends it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.core.reputation import audit_drawn, standing_of
from pleb_coordinator.core.unit_state import UnitState
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import DeltaFormat
from tests.integration.steps_world import World, honest_delta

pytestmark = pytest.mark.usefixtures("legal_moves")


def units(world):
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        found = []
        for version in range(project.version + 1):
            found += tx.units.of_round(project.id, 0, version, set(UnitState))
    return found


def inputs(world, version):
    with world.store.read() as tx:
        row = tx.versions.get(tx.projects.find("tiny").id, 0, version)
    return {entry.assignment for entry in row.inputs}


def proven(world, name, **behaviour):
    host = world.volunteer(name, **behaviour)
    with world.store.write() as tx:
        project = tx.projects.find("tiny")
        row = tx.hosts.find(project.id, host.key.fingerprint)
        standing = replace(standing_of(row), consecutive_valid=5, units_valid=5)
        tx.hosts.set_standing(row.id, standing)
    return host


def test_proven_hosts_are_audited_as_the_draw_says(tmp_path):
    world = World(tmp_path, units=40, quorum=40, audit_rate=0.3)
    host, other = proven(world, "host"), world.volunteer("other")
    while world.work(host):
        pass
    world.clock.now += 61
    while world.work(host):
        pass
    expected = {u.id for u in units(world) if audit_drawn(b"s" * 32, u.id, 0.3) and not u.version}
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        assignments = [a for u in units_of(tx, project) for a in tx.assignments.of_unit(u.id)]
    audits = {a.unit for a in assignments if a.purpose == "audit" and a.version == 0}
    assert audits == expected
    assert 4 < len(audits) < 25
    [manifest], _ = world.ask(other)
    assert manifest.unit.seed in {u.seed for u in units(world) if u.id in audits}


def units_of(tx, project):
    return tx.units.of_round(project.id, 0, 0, set(UnitState))


@pytest.mark.parametrize("closed", [False, True])
def test_a_bad_audit_drops_the_result_exactly_or_costs_the_host(tmp_path, closed):
    quorum = 1 if closed else 2
    world = World(tmp_path, units=2, quorum=quorum, audit_rate=1.0, grace_seconds=0)
    sleeper = proven(world, "sleeper", lies=True)
    other = proven(world, "other")
    world.volunteer("bystander")
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    [lie], _ = world.ask(sleeper)
    world.answer(sleeper, lie)
    world.run()
    assert world.project.version == int(closed)
    assert world.row(sleeper).credit > 0, "a proven host is believed at first"
    [audit], _ = world.ask(trusted)
    assert audit.unit == lie.unit
    world.answer(trusted, audit)
    world.run()
    [unit] = [u for u in units(world) if u.seed == lie.unit.seed]
    row = world.row(sleeper)
    assert (row.refused, row.consecutive_valid, row.credit) == (1, 0, 0.0)
    if closed:
        assert unit.state == UnitState.DISPROVED
        assert lie.assignment in inputs(world, 1), "the delta stays"
        return
    assert unit.state == UnitState.VALID
    assert unit.canonical == audit.assignment
    world.work(other)
    assert world.project.version == 1
    assert audit.assignment in inputs(world, 1)
    assert lie.assignment not in inputs(world, 1)


def test_one_bad_auditor_cannot_convict_an_honest_host(tmp_path):
    world = World(tmp_path, units=1, quorum=1, audit_rate=1.0, grace_seconds=1000)
    honest = proven(world, "honest")
    world.work(honest)
    framer = world.volunteer("framer", lies=True)
    third = world.volunteer("third")
    with world.store.write() as tx:
        tx.projects.set_active_accounts(1, 3)
    [audit], _ = world.ask(framer)
    world.answer(framer, audit)
    world.run()
    assert (world.row(honest).refused, world.row(framer).refused) == (0, 0)
    [decider], _ = world.ask(third)
    assert decider.unit == audit.unit
    world.answer(third, decider)
    world.run()
    assert (world.row(honest).refused, world.row(framer).refused) == (0, 1)


def test_three_proven_lies_keep_a_host_out_for_a_day_then_two(tmp_path):
    world = World(tmp_path, units=2, quorum=2, versions=1000)
    liar = world.volunteer("liar", lies=True)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    for expected in (86_400.0, 2 * 86_400.0):
        for _ in range(3):
            assert world.row(liar).banned_until <= world.clock.now
            assert world.work(liar) == 1
            world.clock.now += 61
            world.work(trusted, rounds=2)
        assert world.row(liar).banned_until - world.clock.now <= expected
        assert world.row(liar).banned_until - world.clock.now > expected - 600
        assert world.row(liar).ban_reason == because(ReasonCode.RESULTS_PROVEN_WRONG, count=3)
        world.clock.now = world.row(liar).banned_until + 1


def test_unanswered_leases_cost_the_record(tmp_path):
    world = World(tmp_path)
    host = proven(world, "host")
    manifests, _ = world.ask(host, 3)
    assert len(manifests) == 3
    world.clock.now += 601
    world.run()
    assert world.row(host).consecutive_valid == 2


def test_a_new_runtime_is_calibrated_first_and_a_known_one_is_remembered(tmp_path):
    world = World(tmp_path)
    host = world.volunteer("host")
    first = world.row(host).determinism_class
    host.threads = 2
    host.drift = 1e-5
    world.calibrate(host)
    assert world.row(host).determinism_class not in {"", first}
    host.threads = 1
    assert [m.unit.kind for m in world.ask(host)[0]] == [UnitKind.TRAIN]
    assert world.row(host).determinism_class == first


def test_calibration_raises_the_tolerance_for_classes_of_trusted_hosts(tmp_path):
    world = World(tmp_path, codec="fp32")
    world.volunteer("a1", drift=0.0, role=Role.TRUSTED)
    for name in ("b1", "b2", "b3"):
        world.volunteer(name, drift=4e-3)
        assert world.project.effective_tolerance == pytest.approx(1e-3), "names cost nothing"
    world.volunteer("trusted b", drift=4e-3, role=Role.TRUSTED)
    raised = world.project.effective_tolerance
    assert 3e-3 < raised < 9e-3
    world.volunteer("far", drift=0.5, role=Role.TRUSTED)
    assert world.project.effective_tolerance == raised, "never above the ceiling"


def test_honest_hosts_of_two_classes_agree_within_the_tolerance(tmp_path):
    world = World(tmp_path, units=1, quorum=1, codec="fp32")
    a = world.volunteer("a", drift=0.0)
    b = world.volunteer("b", drift=5e-4)
    world.work(a, b, rounds=2)
    assert world.project.version == 1
    assert world.row(a).refused == world.row(b).refused == 0


def test_a_class_that_nobody_can_compare_gets_no_work_until_it_is_vouched_for(tmp_path):
    world = World(tmp_path, codec="fp32", units=2, quorum=2)
    world.volunteer("a1")
    world.volunteer("a2")
    world.clock.now += 1
    far = world.volunteer("far", drift=0.5)
    manifests, no_work = world.ask(far)
    assert manifests == []
    assert no_work is not None
    assert no_work.reason.code == "not_comparable"
    twin = world.volunteer("twin", drift=0.5)
    assert world.ask(twin)[0] == world.ask(far)[0] == [], "two accounts may be one liar's"
    world.volunteer("trusted", drift=0.5, role=Role.TRUSTED)
    [manifest], _ = world.ask(far)
    world.answer(far, manifest)
    world.run()
    near = world.volunteer("near")
    assert all(m.unit.seed != manifest.unit.seed for m in world.ask(near, 8)[0])
    assert manifest.unit.seed in {m.unit.seed for m in world.ask(twin)[0]}


def test_a_host_holds_one_lease_until_it_is_proven(tmp_path):
    world = World(tmp_path, units=8, quorum=8)
    new, old = world.volunteer("new"), proven(world, "old")
    assert len(world.ask(new, 8)[0]) == 1
    manifests, no_work = world.ask(new, 8)
    assert manifests == []
    assert no_work is not None
    assert no_work.reason.code == "new_host_limit"
    assert len(world.ask(old, 3)[0]) == 3


def test_an_account_gets_its_part_of_a_round_and_more_only_of_what_nobody_takes(tmp_path):
    world = World(tmp_path, units=20, quorum=20)
    greedy = proven(world, "greedy")
    twin = proven(world, "twin", account="greedy")
    with world.store.write() as tx:
        tx.projects.set_active_accounts(1, 10)
    assert len(world.ask(greedy, 8)[0]) == 4
    manifests, no_work = world.ask(twin, 8)
    assert manifests == []
    assert no_work is not None
    assert no_work.reason.code == "account_share_used"
    world.clock.now += 60
    assert len(world.ask(twin, 8)[0]) == 8


def test_what_nobody_can_confirm_counts_neither_for_nor_against(tmp_path):
    world = World(tmp_path, units=2, quorum=1, grace_seconds=0)
    lonely = world.volunteer("lonely")
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    [manifest], _ = world.ask(lonely)
    world.answer(lonely, manifest)
    while world.project.version < 9:
        world.work(trusted)
    world.clock.now += 31
    world.run()
    _, _, _, verdicts = world.exchange(lonely, 0, [], [])
    assert [(v.assignment, v.verdict, v.credit) for v in verdicts] == [
        (manifest.assignment, "late", 0.0)
    ]
    assert world.row(lonely).refused == 0
    [unit] = [u for u in units(world) if u.seed == manifest.unit.seed]
    assert unit.state == UnitState.CANCELLED
    with world.store.read() as tx:
        assert {a.state for a in tx.assignments.of_unit(unit.id)} == {"late", "cancelled"}


def test_a_proven_host_whose_delta_is_out_of_the_band_needs_a_second(tmp_path):
    world = World(tmp_path, units=5, quorum=5, codec="fp32")
    host, other = proven(world, "host"), proven(world, "other")
    for manifest in world.ask(host, 3)[0]:
        world.answer(host, manifest)
    world.run()
    [manifest], _ = world.ask(other)
    huge = {name: array * 1000 for name, array in honest_delta(manifest.unit.seed, 0.0).items()}
    data = DeltaFormat(world.model, "fp32", 16).encode(huge)
    world.answer(other, manifest, data=data)
    world.run()
    [unit] = [u for u in units(world) if u.seed == manifest.unit.seed]
    assert unit.state == UnitState.OPEN
    assert world.row(other).refused == 0, "long is not yet wrong"
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    world.clock.now += 61
    world.work(trusted, rounds=3)
    assert world.row(other).refused == 1


def test_a_paused_project_gives_no_work_and_says_so(tmp_path):
    world = World(tmp_path)
    host = world.volunteer("host")
    with world.store.write() as tx:
        assert tx.projects.set_state(1, ProjectState.ACTIVE, ProjectState.PAUSED)
    manifests, no_work = world.ask(host)
    assert manifests == []
    assert no_work is not None
    assert no_work.reason.code == "project_paused"
