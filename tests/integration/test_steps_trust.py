"""Audits, bans, calibration: what makes a host believed, and what ends it."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from pleb_coordinator.core.records import Fleet, ProjectState, RestoreCause
from pleb_coordinator.core.reputation import audit_drawn, rate_out_of_turn, standing_of
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps.tell import why_banned
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


def proven(world, name, *, record=5, **behaviour):
    host = world.volunteer(name, **behaviour)
    with world.store.write() as tx:
        project = tx.projects.find("tiny")
        row = tx.hosts.find(project.id, host.key.fingerprint)
        standing = replace(standing_of(row), record=record, proven=True, units_valid=record)
        tx.hosts.set_standing(row.id, standing)
    return host


def drawn(world, unit, *hosts):
    """The one of the hosts whose lot it is to compute the unit too, with its manifest."""
    asked = [(host, manifest) for host in hosts for manifest in world.ask(host)[0]]
    [found] = [(host, manifest) for host, manifest in asked if manifest.unit == unit]
    return found


def test_proven_hosts_are_checked_as_the_draw_says_and_count_meanwhile(tmp_path):
    world = World(tmp_path, units=40, quorum=40, audit_rate=0.2, audit_record=1)
    host = proven(world, "host", record=50)
    proven(world, "other")
    for _ in range(40):
        [manifest], _ = world.ask(host)
        world.answer(host, manifest)
        world.pass_time(5)
    first_tries = [row for row in units(world) if row.counting and not row.version]
    assert len(first_tries) == 40
    checked = {row.id for row in first_tries if row.counting == "checked"}
    assert world.project.version == 1, "they counted before anybody had checked them"
    with world.store.read() as tx:
        copies = [copy for row in first_tries for copy in tx.assignments.of_unit(row.id)]
    drawn_units = {copy.unit for copy in copies if copy.purpose == "check"}
    tries = {copy.unit: copy for copy in copies if copy.purpose == "primary"}
    rates = {unit: rate_out_of_turn(0.2) if own.out_of_turn else 0.2 for unit, own in tries.items()}
    assert checked == {
        unit for unit, own in tries.items() if audit_drawn(b"s" * 32, own.id, rates[unit])
    }
    assert drawn_units
    assert drawn_units <= checked
    assert 2 < len(checked) < 20


@pytest.mark.parametrize("closed", [False, True])
def test_a_lie_that_a_check_finds_is_dropped_exactly_or_costs_the_host(tmp_path, closed):
    quorum = 1 if closed else 2
    world = World(tmp_path, units=2, quorum=quorum, audit_rate=0.2, grace_seconds=0)
    world.deps = dataclasses.replace(world.deps, secret=always_drawn())
    sleeper = proven(world, "sleeper", record=100, lies=True)
    other = proven(world, "other")
    [lie], _ = world.ask(sleeper)
    world.answer(sleeper, lie)
    world.run()
    assert world.project.version == int(closed)
    assert world.row(sleeper).credit > 0, "a host with a long record is believed at first"
    [check], _ = world.ask(other)
    assert check.unit == lie.unit
    world.answer(other, check)
    world.run()
    assert world.row(sleeper).refused == world.row(other).refused == 0, "one against one"
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    world.pass_time(31)
    [decider], _ = world.ask(trusted)
    assert decider.unit == lie.unit
    world.answer(trusted, decider)
    world.run()
    [unit] = [u for u in units(world) if u.seed == lie.unit.seed]
    row = world.row(sleeper)
    assert (row.refused, row.record, row.proven, row.credit) == (1, 0, False, 0.0)
    if closed:
        assert unit.state == UnitState.DISPROVED
        assert lie.assignment in inputs(world, 1), "the delta stays"
        with world.store.read() as tx:
            restored = tx.versions.get(unit.project, unit.epoch, 2)
        cause = RestoreCause.WRONG_RESULTS
        assert (restored.restores, restored.restored_for) == (0, cause), "it was all wrong"
        return
    assert unit.state == UnitState.VALID
    assert unit.canonical == check.assignment
    world.work(other)
    assert world.project.version == 0, "for a while more is checked: others may lie with it"
    world.pass_time(31)
    world.work(trusted)
    assert world.project.version == 1
    assert check.assignment in inputs(world, 1)
    assert lie.assignment not in inputs(world, 1)


def always_drawn():
    """A secret with which the first assignments of a project are all drawn for a check."""
    return next(
        secret
        for secret in (bytes([n % 256, n // 256]) * 16 for n in range(100_000))
        if all(audit_drawn(secret, number, 0.2) for number in (1, 2))
    )


def test_without_a_trusted_host_two_more_proven_voices_convict_a_liar(tmp_path):
    world = World(tmp_path, units=1, quorum=1, audit_rate=1.0, grace_seconds=1000)
    framer = proven(world, "framer", lies=True)
    honest = proven(world, "honest")
    [first], _ = world.ask(honest)
    world.answer(honest, first)
    world.run()
    [check], _ = world.ask(framer)
    assert check.unit == first.unit
    world.answer(framer, check)
    world.run()
    voices = [proven(world, name) for name in ("c", "d")]
    for _ in voices:
        assert (world.row(honest).refused, world.row(framer).refused) == (0, 0)
        world.pass_time(31)
        host, decider = drawn(world, first.unit, *voices)
        world.answer(host, decider)
        world.run()
    assert (world.row(honest).refused, world.row(framer).refused) == (0, 1)


def test_a_proven_host_is_suspended_until_a_trusted_one_has_looked(tmp_path):
    world = World(tmp_path, units=1, quorum=1, audit_rate=1.0, grace_seconds=1000)
    honest = proven(world, "honest")
    [first], _ = world.ask(honest)
    liars = [proven(world, name, lies=True) for name in ("x", "y", "z")]
    world.answer(honest, first)
    world.run()
    for _ in liars[:2]:
        host, check = drawn(world, first.unit, *liars)
        world.answer(host, check)
        world.run()
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    host, check = drawn(world, first.unit, *liars)
    world.answer(host, check)
    world.run()
    row = world.row(honest)
    assert (row.proven, row.refused) == (False, 0), "suspended, not convicted"
    assert row.suspended_by is not None
    record, credit = row.record, row.credit
    [appeal], _ = world.ask(trusted)
    assert appeal.unit == first.unit
    world.answer(trusted, appeal)
    world.run()
    assert world.ask(trusted)[0], "three against a trusted host: computed a second time"
    world.answer(trusted, trusted.held[0])
    world.run()
    row = world.row(honest)
    assert (row.proven, row.suspended_by, row.refused) == (True, None, 0)
    assert row.record == record + 1
    assert row.credit > credit
    assert [world.row(liar).refused for liar in liars] == [1, 1, 1]


def test_a_trusted_host_takes_back_what_volunteers_did_to_an_honest_one(tmp_path):
    world = World(tmp_path, units=1, quorum=1, audit_rate=1.0, grace_seconds=1e6)
    honest = proven(world, "honest")
    [first], _ = world.ask(honest)
    liars = [proven(world, name, lies=True) for name in ("x", "y", "z")]
    world.answer(honest, first)
    world.run()
    for _ in liars:
        host, check = drawn(world, first.unit, *liars)
        world.answer(host, check)
        world.run()
    row = world.row(honest)
    assert (row.refused, row.record, row.proven) == (1, 0, False), "no trusted host is around"
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    for _ in range(2):
        [check], _ = world.ask(trusted)
        assert check.unit == first.unit
        world.answer(trusted, check)
        world.run()
    row = world.row(honest)
    assert (row.refused, row.record, row.proven) == (0, 5, True)
    assert row.credit > 0
    assert [world.row(liar).refused for liar in liars] == [1, 1, 1]
    _, _, _, verdicts = world.exchange(honest, 0, [], [])
    assert verdicts[-1].verdict == "valid"


def test_a_refused_host_is_told_the_distance_the_tolerance_and_the_units_number(tmp_path):
    world = World(tmp_path, units=2, quorum=2, new_host_units=2)
    liar = world.volunteer("liar", lies=True)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    assert world.work(liar) == 1
    world.pass_time(61)
    world.work(trusted, rounds=2)
    told = world.exchange(liar, 0, [], [])[3][-1]
    with world.store.read() as tx:
        assert told.unit == tx.assignments.get(told.assignment).unit
    assert told.verdict == "invalid"
    assert told.evidence is not None
    assert told.evidence.distance > told.evidence.tolerance > 0


def test_three_proven_lies_keep_a_host_out_for_a_day_then_two(tmp_path):
    world = World(tmp_path, units=2, quorum=2, versions=1000, new_host_units=2)
    liar = world.volunteer("liar", lies=True)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    for expected in (86_400.0, 2 * 86_400.0):
        for _ in range(3):
            assert world.row(liar).banned_until <= world.clock.now
            assert world.work(liar) == 1
            world.pass_time(61)
            world.work(trusted, rounds=2)
        assert world.row(liar).banned_until - world.clock.now <= expected
        assert world.row(liar).banned_until - world.clock.now > expected - 600
        row = world.row(liar)
        metadata = replace(world.project.metadata, contact="Ada <ada@example.org>")
        project = replace(world.project, metadata=metadata)
        with world.store.read() as tx:
            told = why_banned(tx, project, row)
        assert "3 of its results were proven wrong, the last one of unit " in told
        assert told.endswith("Ask the project's operator: Ada <ada@example.org>")
        assert "A trusted host's result differs. It is " in told
        world.clock.now = world.row(liar).banned_until + 1
        world.ask(trusted, 0)  # it is still around


def test_a_host_that_does_not_deliver_is_new_again_and_late_results_clear_its_mark(
    tmp_path, tmp_path_factory
):
    world = World(tmp_path, units=8, quorum=8, new_host_units=2)
    host = proven(world, "host")
    held, _ = world.ask(host, 6)
    assert len(held) == 6
    world.pass_time(601)
    assert not world.row(host).proven, "more than 4 of 20"
    world = World(tmp_path_factory.mktemp("again"), units=8, quorum=8, new_host_units=2)
    host = proven(world, "host")
    held, _ = world.ask(host, 4)
    world.pass_time(601)
    assert world.row(host).proven
    assert world.row(host).recent.bit_count() == 4
    for manifest in held:
        world.answer(host, manifest)
    assert world.row(host).recent.bit_count() == 0


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
    world = World(tmp_path, units=1, quorum=1, codec="fp32", audit_rate=1.0)
    a = world.volunteer("a", drift=0.0)
    b = world.volunteer("b", drift=5e-4)
    world.work(a, b, rounds=2)
    assert world.project.version == 1
    assert world.row(a).refused == world.row(b).refused == 0


def test_a_class_that_nobody_can_compare_gets_no_work_until_it_is_vouched_for(tmp_path):
    world = World(tmp_path, codec="fp32", units=2, quorum=2, audit_rate=1.0)
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
    trusted = world.volunteer("trusted", drift=0.5, role=Role.TRUSTED)
    [manifest], _ = world.ask(far)
    world.answer(far, manifest)
    world.run()
    near = world.volunteer("near")
    assert all(m.unit.seed != manifest.unit.seed for m in world.ask(near, 8)[0])
    checks = {m.unit.seed for host in (twin, trusted) for m in world.ask(host, 8)[0]}
    assert manifest.unit.seed in checks


def test_a_decided_exam_proves_who_comes_later_until_its_version_is_made(tmp_path):
    world = World(tmp_path, units=2, quorum=2, new_host_units=3, grace_seconds=0)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    first, late, liar = (world.volunteer(name, lies=name == "liar") for name in ("a", "b", "liar"))
    [exam], _ = world.ask(first)
    world.answer(first, exam)
    [check], _ = world.ask(trusted)
    assert check.unit == exam.unit
    world.answer(trusted, check)
    world.run()
    assert world.row(first).record == 1, "a trusted host's word decides"
    [other], _ = world.ask(trusted)
    assert other.unit != exam.unit

    [again], _ = world.ask(late)
    [lie], _ = world.ask(liar)
    assert again.unit == lie.unit == exam.unit
    world.answer(late, again)
    world.answer(liar, lie)
    world.run()
    assert (world.row(late).record, world.row(liar).refused) == (1, 1)

    world.answer(trusted, other)
    world.run()
    assert world.project.version == 1
    newest = world.volunteer("c")
    [next_exam], _ = world.ask(newest)
    assert next_exam.unit.version == 1


def test_a_host_holds_one_lease_until_it_is_proven(tmp_path):
    world = World(tmp_path, units=8, quorum=8, new_host_units=2)
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
        tx.projects.set_fleet(1, Fleet(10, 2, 0, 0.0))
    assert len(world.ask(greedy, 8)[0]) == 4
    manifests, no_work = world.ask(twin, 8)
    assert manifests == []
    assert no_work is not None
    assert no_work.reason.code == "account_share_used"
    world.clock.now += 60
    assert len(world.ask(twin, 8)[0]) == 8


def test_what_nobody_can_confirm_counts_neither_for_nor_against(tmp_path):
    world = World(tmp_path, units=2, quorum=1, grace_seconds=0, audit_rate=1.0)
    lonely = world.volunteer("lonely")
    [manifest], _ = world.ask(lonely)
    world.answer(lonely, manifest)
    world.run()
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
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
        assert {a.state for a in tx.assignments.of_unit(unit.id)} <= {"late", "cancelled"}


def test_a_suspicious_result_waits_for_a_check_whatever_the_record(tmp_path):
    world = World(tmp_path, units=20, quorum=20, codec="fp32")
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    other = proven(world, "other", record=1000)
    world.work(trusted, rounds=10)
    [manifest], _ = world.ask(other)
    huge = {name: array * 1000 for name, array in honest_delta(manifest.unit.seed, 0.0).items()}
    data = DeltaFormat(world.model, "fp32", 16).encode(huge)
    world.answer(other, manifest, data=data)
    world.run()
    [unit] = [u for u in units(world) if u.seed == manifest.unit.seed]
    assert (unit.state, unit.counting) == (UnitState.OPEN, "held")
    assert world.row(other).refused == 0, "long is not yet wrong"
    [check], _ = world.ask(trusted)
    assert check.unit == manifest.unit
    world.answer(trusted, check)
    world.run()
    assert world.row(other).refused == 1


def test_a_paused_project_gives_no_work_and_says_so(tmp_path):
    world = World(tmp_path)
    host = world.volunteer("host")
    with world.store.write() as tx:
        why = because(ReasonCode.PROJECT_PAUSED)
        assert tx.projects.set_state(1, ProjectState.ACTIVE, ProjectState.PAUSED, why)
    manifests, no_work = world.ask(host)
    assert manifests == []
    assert no_work is not None
    assert no_work.reason.code == "project_paused"
