"""The life of a unit through the coordinator's steps, without HTTP and without torch."""

from __future__ import annotations

import pytest

from pleb_coordinator.aggregation.recompute import recompute
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps import plan
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.report import FailureResult
from pleb_shared.tensors.version import read_version
from tests.integration.steps_world import World

pytestmark = pytest.mark.usefixtures("legal_moves")


def bytes_of_delta(world, assignment):
    with world.store.read() as tx:
        stored = tx.assignments.delta(assignment)
    return world.deps.blobs.delta(stored)


def version(world, number):
    with world.store.read() as tx:
        return tx.versions.get(tx.projects.find("tiny").id, 0, number)


def recomputed(world):
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        rows = tx.versions.history(project.id, project.epoch, after=-1, limit=1000)
        metadata = {
            n: tx.projects.metadata_at(project.id, n) for n in (r.metadata_number for r in rows)
        }
    found = recompute(
        rows,
        metadata.__getitem__,
        world.deps.blobs.get,
        lambda assignment: bytes_of_delta(world, assignment),
    )
    return list(found)


@pytest.mark.usefixtures("each_engine")
def test_two_volunteers_make_versions_and_the_log_recomputes_each(tmp_path):
    world = World(tmp_path, versions=10, codec="fp32")
    a, b = world.volunteer("a"), world.volunteer("b")
    for _ in range(200):
        if world.project.state == ProjectState.FINISHED:
            break
        world.work(a, b)
    assert world.project.version == 10
    assert world.project.state == ProjectState.FINISHED
    found = recomputed(world)
    assert [one.number for one in found] == list(range(11))
    assert all(one.matches for one in found)
    row = version(world, 9)
    source = row.source
    assert (source.snapshot_number, len(source.differences)) == (8, 1)
    tensors = read_version(source, world.metadata, world.deps.blobs.get)
    assert int(tensors["count"]) == 45, "integer buffers move by the rounded mean of increments"


def test_old_rounds_keep_only_what_recomputing_needs(tmp_path):
    world = World(tmp_path, units=1, quorum=1, versions=20, codec="fp32", audit_rate=1.0)
    a, b = world.volunteer("a"), world.volunteer("b", drift=1e-4)
    while world.project.version < 20:
        assert world.work(a, b) or world.work(a, b), "each unit is held for a check by the other"
    with world.store.read() as tx:
        rows = tx.versions.history(1, 0, after=-1, limit=99)
        kept = []
        for number in range(20):
            [unit] = tx.units.of_round(1, 0, number, set(UnitState))
            results = [r for r in tx.assignments.of_unit(unit.id) if r.state == "valid"]
            assert len(results) == 2
            kept.append(sum(tx.assignments.delta(r.id) is not None for r in results))
    assert kept == [1] * 12 + [2] * 8
    with_state = [row.number for row in rows if row.outer_state]
    assert with_state == [8, *range(12, 21)]
    assert all(world.deps.blobs.exists(row.outer_state) for row in rows if row.outer_state)
    assert all(one.matches for one in recomputed(world))


def test_a_lonely_new_volunteer_makes_progress_with_a_trusted_host(tmp_path):
    world = World(tmp_path, units=2, quorum=2, new_host_units=2)
    lonely = world.volunteer("lonely")
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    [manifest], _ = world.ask(lonely)
    world.answer(lonely, manifest)
    world.run()
    assert world.row(lonely).record == 0
    [check], _ = world.ask(trusted)
    assert check.unit == manifest.unit, "a check comes before ordinary work"
    assert world.answer(trusted, check).outcome == "unneeded"
    world.run()
    row = world.row(lonely)
    assert (row.record, row.proven) == (1, False)
    assert row.credit > 0
    _, no_work = world.ask(lonely)
    assert no_work is not None
    assert no_work.reason.code == "paced", "one exam per usual unit time"
    world.pass_time(2)
    world.work(lonely, trusted)
    assert world.row(lonely).proven
    assert world.project.version == 1


def test_new_hosts_without_an_anchor_need_most_of_the_fleet(tmp_path):
    world = World(tmp_path, units=1, quorum=1, new_host_units=2)
    lonely = world.volunteer("lonely")
    assert world.work(lonely, rounds=3) == 1
    _, no_work = world.ask(lonely)
    assert no_work is not None
    assert no_work.reason == because(ReasonCode.EXAMS_FULL)
    assert world.project.version == 0, "one voice proves nothing"
    other = world.volunteer("other")
    assert world.work(other) == 1
    world.pass_time(10)
    assert world.project.version == 1
    assert world.row(lonely).record == world.row(other).record == 1


def test_in_a_dispute_of_proven_hosts_a_lead_of_two_decides(tmp_path):
    world = World(tmp_path, units=1, quorum=1, audit_rate=1.0)
    liar = world.volunteer("liar", lies=True)
    [lie], _ = world.ask(liar)
    honest = [world.volunteer(name) for name in ("b", "c", "d")]
    world.answer(liar, lie)
    world.run()
    for number in range(3):
        assert world.project.version == 0, "one against one decides nothing"
        assert all(world.row(host).refused == 0 for host in [liar, *honest])
        asked = [m for host in honest for m in world.ask(host)[0]]
        assert [m.unit for m in asked] == [lie.unit], number
        [drawn] = [host for host in honest if host.held]
        world.answer(drawn, drawn.held[0])
        world.run()
    assert world.project.version == 1
    assert world.row(liar).refused == 1
    assert [world.row(host).record for host in honest] == [1, 1, 1]
    _, _, _, verdicts = world.exchange(liar, 0, [], [])
    assert [v.verdict for v in verdicts] == ["invalid"]
    assert world.exchange(liar, 0, [], [])[3] == [], "each verdict is sent once"


def test_a_trusted_host_alone_convicts(tmp_path):
    world = World(tmp_path, units=1, quorum=1, new_host_units=2)
    liar = world.volunteer("liar", lies=True)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    world.work(liar, trusted)
    assert world.project.version == 1
    assert world.row(liar).refused == 1
    assert all(one.matches for one in recomputed(world))


def test_a_warm_start_is_one_large_batch_unit_for_trusted_hosts_alone(tmp_path):
    world = World(tmp_path, units=3, quorum=3, warm_start=2)
    volunteer = world.volunteer("v")
    trusted = world.volunteer("t", role=Role.TRUSTED)
    manifests, no_work = world.ask(volunteer)
    assert manifests == []
    assert no_work is not None
    assert no_work.reason.code == "warm_start"
    with world.store.read() as tx:
        [row] = tx.units.of_round(1, 0, 0, {UnitState.OPEN})
    assert (row.batches_per_step, row.local_steps) == (16, 16 * 5)
    world.work(trusted, rounds=2)
    assert world.project.version == 2
    assert world.work(volunteer) == 1
    with world.store.read() as tx:
        rows = tx.versions.history(1, 0, after=0, limit=9)
    assert [[entry.batches_per_step for entry in row.inputs] for row in rows] == [[16], [16]]
    assert all(one.matches for one in recomputed(world))


def test_where_no_trusted_host_comes_the_others_begin(tmp_path):
    world = World(tmp_path, units=3, quorum=3, warm_start=2)
    volunteer = world.volunteer("v")
    world.clock.now += 59
    world.run()
    assert world.work(volunteer) == 0
    world.clock.now += 2
    world.run()
    while world.project.version < 2:
        assert world.work(volunteer)
        world.run()
    assert [found["units"] for found in world.events("planned")][:3] == [1, 3, 3]
    assert all(one.matches for one in recomputed(world))


def test_a_trusted_host_that_is_too_slow_for_a_warm_start_is_not_waited_for(tmp_path):
    world = World(tmp_path, units=3, quorum=3, warm_start=2)
    trusted = world.volunteer("t", role=Role.TRUSTED)
    with world.store.write() as tx:
        tx.hosts.set_speed(world.row(trusted).id, 100.0)
    world.run()
    assert world.work(trusted) == 1
    world.run()
    with world.store.read() as tx:
        states = [unit.state for unit in tx.units.of_round(1, 0, 0, {*UnitState})]
    assert states[0] == "cancelled"
    assert sorted(states[1:]) == ["open", "open", "valid"]


@pytest.mark.parametrize(("units", "seconds"), [(0, 600), (1, 660)])
def test_a_trusted_host_that_does_not_take_the_warm_start_holds_nobody_up(tmp_path, units, seconds):
    world = World(tmp_path, units=3, quorum=3, warm_start=2)
    trusted, volunteer = world.volunteer("t", role=Role.TRUSTED), world.volunteer("v")
    while seconds > 0:
        world.clock.now += 60
        for manifest in world.ask(trusted, units)[0]:  # it is paused, or cannot do the unit
            world.answer(trusted, manifest, FailureResult(reason="no memory"))
        world.run()
        if (seconds := seconds - 60) > 0:
            assert world.ask(volunteer)[0] == []
    assert world.work(volunteer) == 1


def test_a_warm_start_that_is_under_way_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_AROUND_SECONDS", 10.0)
    world = World(tmp_path, units=3, quorum=3, warm_start=2)
    trusted, volunteer = world.volunteer("t", role=Role.TRUSTED), world.volunteer("v")
    [manifest], _ = world.ask(trusted)
    world.clock.now += 65  # it was not seen for long, but its lease has not ended
    world.run()
    assert world.work(volunteer) == 0
    receipt = world.answer(trusted, manifest)
    assert receipt.outcome == "stored", receipt
    world.run()
    assert world.project.version == 1


def test_every_version_is_evaluated_by_trusted_hosts_only(tmp_path):
    world = World(tmp_path, units=1, quorum=1, holdout=True)
    volunteer = world.volunteer("v")
    trusted = world.volunteer("t", role=Role.TRUSTED)
    assert [m.unit.kind for m in world.ask(volunteer, 8)[0]] == ["train"]
    manifests, _ = world.ask(trusted, 8)
    assert [m.unit.kind for m in manifests] == ["evaluate"]
    assert world.answer(trusted, manifests[0]).outcome == "stored"
    with world.store.read() as tx:
        [evaluation] = tx.projects.evaluations(tx.projects.find("tiny").id, 0)
    assert (evaluation.version, evaluation.metrics) == (0, {"loss": 1.0})


def test_the_lease_of_an_evaluation_outlasts_the_unit_in_hand(tmp_path):
    world = World(tmp_path, units=2, quorum=1, holdout=True, grace_seconds=0.0)
    slow, fast = (world.volunteer(name, role=Role.TRUSTED) for name in ("slow", "fast"))
    with world.store.write() as tx:
        tx.hosts.set_speed(tx.hosts.find_of("tiny", slow.key.fingerprint).id, 5.0)
    assert [m.unit.kind for m in world.ask(fast)[0]] == ["evaluate"]
    (unit,) = world.ask(slow)[0]
    world.work(fast)
    assert world.project.version == 1
    (evaluation,) = world.ask(slow)[0]
    assert (unit.unit.kind, evaluation.unit.kind) == ("train", "evaluate")
    assert evaluation.lease_seconds >= 20 * 5.0 * unit.unit.local_steps


def test_what_a_host_gets_in_one_answer_is_taken_from_its_time_once(tmp_path):
    world = World(tmp_path, units=2, quorum=1, holdout=True)
    trusted = world.volunteer("t", role=Role.TRUSTED)
    with world.store.write() as tx:
        tx.hosts.set_speed(tx.hosts.find_of("tiny", trusted.key.fingerprint).id, 5.0)
        examples = tx.projects.find("tiny").facts.holdout_examples
    evaluation, training = 5.0 * -(-examples // 4), 5.0 * 5
    trusted.free_seconds = 1.5 * evaluation + 1.25 * training
    assert [m.unit.kind for m in world.ask(trusted, 2)[0]] == ["evaluate", "train"]


@pytest.mark.parametrize(("network", "progress"), [("", True), ("203.0.113.0/24", False)])
def test_a_public_network_is_one_voice(tmp_path, network, progress):
    world = World(tmp_path, units=1, quorum=1, audit_rate=1.0)
    a = world.volunteer("a", network=network)
    b = world.volunteer("b", network=network)
    world.work(a, b, rounds=4)
    assert (world.project.version > 0) is progress


def test_a_round_closes_after_its_grace_and_late_results_only_earn_credit(tmp_path):
    world = World(tmp_path, units=2, quorum=1, new_host_units=0, grace_seconds=30)
    quick, slow = world.volunteer("quick"), world.volunteer("slow")
    [late], _ = world.ask(slow)
    world.work(quick)
    assert world.project.version == 0
    world.clock.now += 29
    world.run()
    assert world.project.version == 0
    world.clock.now += 1
    world.run()
    assert world.project.version == 1
    assert world.answer(slow, late).outcome == "stored"
    world.run()
    _, _, _, [verdict] = world.exchange(slow, 0, [], [])
    assert verdict.verdict == "late"
    assert verdict.credit > 0
    assert all(one.matches for one in recomputed(world))
    row = version(world, 1)
    assert late.assignment not in {entry.assignment for entry in row.inputs}
