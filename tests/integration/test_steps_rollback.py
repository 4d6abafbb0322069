"""Going back to a good version: as a new one, with its outer state, and in the log."""

from __future__ import annotations

import json
from typing import get_args

import msgspec
import numpy as np
import pytest

from pleb_agent.core.trust import _source_fault
from pleb_coordinator.aggregation.outer_step import OuterState
from pleb_coordinator.aggregation.recompute import recompute
from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.api.status import read_status
from pleb_coordinator.cli import main as coordinator_main
from pleb_coordinator.cli.setup import make_home
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.records import FileKind, ProjectState, RestoreCause
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.home.layout import Home
from pleb_coordinator.jobs.loop import PROJECT_JOBS, Jobs
from pleb_coordinator.steps import advance, rollback
from pleb_shared.errors import InputError
from pleb_shared.protocol.messages import Role, Verdict
from pleb_shared.protocol.project import CombinationRule, OuterStep
from pleb_shared.protocol.report import EvaluationResult
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.version import read_version
from tests.e2e import recompute as auditor
from tests.integration.steps_world import World

pytestmark = pytest.mark.usefixtures("legal_moves")

ALL = {UnitState.OPEN, UnitState.VALID, UnitState.APPLIED, UnitState.LATE, UnitState.CANCELLED}


def trained(tmp_path, versions=3, **options):
    """Return a world whose trusted host has made `versions` versions."""
    world = World(tmp_path, **options)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < versions:
        world.work(trusted)
    return world, trusted


def version(world, number):
    project = world.project
    with world.store.read() as tx:
        return tx.versions.get(project.id, project.epoch, number)


def tensors_of(world, row):
    return read_version(row.source, world.metadata, world.deps.blobs.get)


def roll_back(world, number, cause=RestoreCause.OPERATOR):
    with world.store.read() as tx:
        work = rollback.plan_restoration(tx, tx.projects.find("tiny"), number, cause)
    row = rollback.compute(world.deps, work)
    with world.store.write() as tx:
        assert rollback.commit(tx, world.deps, work, row)
    return row


def assert_recomputes(world):
    """Our own command's way, and an auditor's who shares no code with it."""
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        history = tx.versions.history(project.id, project.epoch, after=-1, limit=1000)
        kept = {found.restores for found in tx.versions.restores(project.id, project.epoch)}

        def metadata_at(number):
            return tx.projects.metadata_at(project.id, number)

        def delta(assignment):
            return world.deps.blobs.delta(tx.assignments.delta(assignment))

        blob = world.deps.blobs.get
        found = list(recompute(history, metadata_at, blob, delta, restored=kept))
    assert [one.number for one in found] == list(range(project.version + 1))
    assert all(one.matches for one in found)
    assert auditor.recompute(world.home, "tiny") == (len(found), [])


def test_the_restored_version_is_the_old_one_under_the_next_number(tmp_path):
    world, trusted = trained(tmp_path, versions=5)
    good, last = version(world, 2), version(world, 5)
    row = roll_back(world, 2)
    assert world.project.version == row.number == last.number + 1
    assert (row.digest, row.outer_state) == (good.digest, good.outer_state)
    assert (row.restores, row.restored_for, row.inputs) == (2, RestoreCause.OPERATOR, ())
    assert not _source_fault(row.source, world.metadata), "agents of the field follow it"
    for name, array in tensors_of(world, row).items():
        np.testing.assert_array_equal(array, tensors_of(world, good)[name])
    assert row.source.differences[-1].digest == good.difference, "momentum starts as it did then"
    before = version(world, 3)
    while world.project.version < 8:
        world.work(trusted)
    following = version(world, 7)
    assert following.source.snapshot_number == 6
    assert following.digest != before.digest, "other units: numbers and seeds go on"
    assert_recomputes(world)


def test_no_version_is_made_of_the_base(tmp_path):
    """Neither advance, rollback nor an audit reads it, which may be far larger than a version."""
    world, trusted = trained(tmp_path, versions=1)
    assert world.model.base is not None
    world.deps.blobs.delete(world.model.base.blob.digest)
    while world.project.version < 3:
        world.work(trusted)
    roll_back(world, 2)
    while world.project.version < 5:
        world.work(trusted)
    assert_recomputes(world)


def test_training_goes_on_with_the_momentum_of_the_restored_version(tmp_path):
    world, _ = trained(tmp_path, versions=4)
    momentum = OuterState.from_bytes(world.deps.blobs.get(version(world, 2).outer_state)).momentum
    row = roll_back(world, 2)
    restored = OuterState.from_bytes(world.deps.blobs.get(row.outer_state))
    for name, array in restored.momentum.items():
        assert np.abs(array).max() > 0
        np.testing.assert_array_equal(array, momentum[name])


@pytest.mark.parametrize("codec", ["int4", "2bit", "fp32"])
def test_version_0_can_be_restored_too(tmp_path, codec):
    world, trusted = trained(tmp_path, versions=2, codec=codec)
    row = roll_back(world, 0)
    assert not _source_fault(row.source, world.metadata)
    for name, array in tensors_of(world, row).items():
        np.testing.assert_array_equal(array, world.initial[name])
    while world.project.version < 5:
        world.work(trusted)
    if codec != "2bit":  # the auditor's script does not encode it
        assert_recomputes(world)


def test_a_version_whose_outer_state_was_swept_is_recomputed_from_the_log(tmp_path):
    world, _ = trained(tmp_path, versions=13)
    swept = version(world, 3)
    assert not swept.outer_state
    row = roll_back(world, 3)
    assert row.digest == swept.digest
    state = OuterState.from_bytes(world.deps.blobs.get(row.outer_state))
    assert state.masters.keys() == state.momentum.keys()
    assert_recomputes(world)


def test_restoring_a_restored_version_and_going_on_recomputes(tmp_path):
    world, trusted = trained(tmp_path, versions=3)
    roll_back(world, 1)
    while world.project.version < 6:
        world.work(trusted)
    roll_back(world, 4)
    while world.project.version < 9:
        world.work(trusted)
    assert_recomputes(world)


def test_the_log_recomputes_with_the_rule_that_was_in_force(tmp_path):
    world, trusted = trained(tmp_path, versions=1)
    for rule in get_args(CombinationRule):
        outer = OuterStep(combination=rule)
        number = world.metadata.number + 1
        world.metadata = msgspec.structs.replace(world.metadata, number=number, outer=outer)
        world.publish(world.metadata, invite=False)
        before = world.project.version
        while world.project.version < before + 2:
            world.work(trusted)
    roll_back(world, 3)
    world.work(trusted, rounds=6)
    assert_recomputes(world)


def test_the_open_round_ends_and_its_hosts_are_not_blamed(tmp_path):
    world, _ = trained(tmp_path, versions=2, audit_rate=1.0)
    busy, done = world.volunteer("busy", network="a"), world.volunteer("done", network="b")
    (held,), _ = world.ask(busy)
    (reported,), _ = world.ask(done)
    world.answer(done, reported)
    world.run()
    before = world.row(busy), world.row(done)
    roll_back(world, 1)
    with world.store.read() as tx:
        units = tx.units.of_round(tx.projects.find("tiny").id, 0, 2, ALL)
        assert {unit.state for unit in units} == {UnitState.CANCELLED}
        assert tx.assignments.get(held.assignment).state == AssignmentState.CANCELLED
        set_aside = tx.assignments.get(reported.assignment)
        assert set_aside.verdict == Verdict.LATE
        assert set_aside.reason is not None
        assert set_aside.reason.code == "rolled_back"
    receipt = world.answer(busy, held)
    assert (receipt.outcome, receipt.code) == ("refused", "lease_expired")
    world.clock.now += 10_000
    world.run()
    for host, old in zip((busy, done), before, strict=True):
        now = world.row(host)
        assert (now.refused, now.bans, now.ban_reason) == (old.refused, old.bans, old.ban_reason)
        assert (now.credit, now.units_valid) == (old.credit, old.units_valid)
    (manifest,), _ = world.ask(busy)
    assert manifest.unit.version == world.project.version == 3


def evaluate(world, host, losses):
    """Make versions; version n is evaluated with the n-th of `losses`."""
    evaluated = {}
    while world.project.version < len(losses) and world.project.state == ProjectState.ACTIVE:
        for manifest in world.ask(host)[0]:
            result = None
            if manifest.unit.kind == UnitKind.EVALUATE:
                loss = losses[manifest.unit.version]
                result = EvaluationResult(metrics={"loss": loss}, examples=8)
                evaluated[manifest.unit.version] = loss
            world.answer(host, manifest, result)
        world.run()
        if world.events("rolled_back"):
            break
    return evaluated


FALLING = [2.3, 1.6, 1.2, 0.9, 0.7, 0.62, 0.58, 0.55, 0.53]


def test_a_regression_on_the_holdout_is_taken_back_by_itself_and_said(tmp_path):
    world = World(tmp_path, holdout=True, versions=40)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    evaluate(world, trusted, [*FALLING, 2.4, 2.6, 2.9, 3.0, 3.0, 3.0, 3.0])
    (event,) = world.events("rolled_back")
    assert event["restores"] == 8
    assert event["cause"] == "holdout"
    row = version(world, world.project.version)
    assert (row.restores, row.digest) == (8, version(world, 8).digest)
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        link = LinkBase("http://127.0.0.1")
        status = read_status(tx, project, link, world.deps.numbers, world.clock.now)
    (step_back,) = status.restores
    assert (step_back.version, step_back.restores, step_back.cause) == (row.number, 8, "holdout")
    for _ in range(12):  # evaluations that were under way when it happened are no new evidence
        for manifest in world.ask(trusted)[0]:
            result = EvaluationResult(metrics={"loss": 3.0}, examples=8)
            old = manifest.unit.version < row.number
            world.answer(
                trusted, manifest, result if old and manifest.unit.kind == "evaluate" else None
            )
        world.run()
    assert len(world.events("rolled_back")) == 1
    assert world.project.version > row.number, "training goes on"
    assert_recomputes(world)


def test_noise_on_the_holdout_takes_nothing_back(tmp_path):
    world = World(tmp_path, holdout=True, versions=40)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    evaluate(world, trusted, [*FALLING, 2.4, 0.6, 2.9, 0.5, 2.3, 2.2, 0.5])
    assert not world.events("rolled_back")


def test_a_version_made_meanwhile_wins_over_a_restoration_and_the_other_way_round(tmp_path):
    world, trusted = trained(tmp_path, versions=3)
    with world.store.read() as tx:
        work = rollback.plan_restoration(tx, tx.projects.find("tiny"), 1, RestoreCause.OPERATOR)
    row = rollback.compute(world.deps, work)
    while world.project.version < 4:
        world.work(trusted)
    with world.store.write() as tx:
        assert not rollback.commit(tx, world.deps, work, row)
    assert world.project.version == 4
    # and now an advance that was computed before the step back
    for manifest in [m for _ in range(4) for m in world.ask(trusted)[0]]:
        world.answer(trusted, manifest)
    jobs = [job for job in PROJECT_JOBS if getattr(job, "name", "") != "advance"]
    Jobs(world.store, world.deps, project_jobs=jobs).run_due()
    with world.store.read() as tx:
        found = advance.find(tx, world.deps, tx.projects.find("tiny"), ())
    assert found is not None
    made = advance.compute(world.deps, found)
    row = roll_back(world, 2)
    with world.store.write() as tx:
        assert not advance.commit(tx, world.deps, found, made)
    assert world.project.version == row.number == 5
    assert_recomputes(world)


def test_the_last_version_can_be_taken_back_and_the_project_stays_finished(tmp_path):
    world = World(tmp_path, versions=3)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.state == ProjectState.ACTIVE:
        world.work(trusted)
    row = roll_back(world, 2)
    world.run()
    assert (world.project.version, world.project.state) == (4, ProjectState.FINISHED)
    assert not world.ask(trusted)[0]
    assert tensors_of(world, row)


@pytest.mark.parametrize("number", [-1, 3, 99])
def test_only_an_earlier_version_can_be_restored(tmp_path, number):
    world, _ = trained(tmp_path, versions=3)
    project = world.project
    with world.store.read() as tx, pytest.raises(InputError, match="earlier"):
        rollback.plan_restoration(tx, project, number, RestoreCause.OPERATOR)


def test_the_files_of_a_restored_version_are_kept(tmp_path):
    world, trusted = trained(tmp_path, versions=3)
    row = roll_back(world, 2)
    while world.project.version < 15:
        world.work(trusted)
        world.clock.now += 2000
    kept = version(world, row.number)
    assert kept.outer_state
    assert world.deps.blobs.exists(kept.outer_state)
    assert world.deps.blobs.exists(kept.snapshot)
    assert tensors_of(world, kept)
    with world.store.read() as tx:
        due = tx.tombstones.due(world.clock.now + 1e9, 1000)
    assert (FileKind.BLOB, kept.outer_state) not in {(one.kind, one.name) for one in due}
    assert_recomputes(world)


def command(world, capsys, *arguments):
    make_home(Home(world.home))
    code = coordinator_main([*arguments, "--home", str(world.home), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_command_restores_the_last_good_version_and_the_log_still_verifies(tmp_path, capsys):
    world = World(tmp_path, holdout=True, versions=40)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    evaluate(world, trusted, [*FALLING, 2.4, 2.6])
    newest = world.project.version
    code, value = command(world, capsys, "model", "rollback", "tiny")
    assert code == 0
    assert (value["version"], value["restores"]) == (newest + 1, 8)
    assert command(world, capsys, "model", "rollback", "tiny", "--to", "3")[1]["restores"] == 3
    code, value = command(world, capsys, "model", "verify", "tiny")
    assert (code, value["verified"], value["versions"]) == (0, True, newest + 3)
    listed = command(world, capsys, "model", "list", "tiny")[1]
    assert [row["restores"] for row in listed][-3:] == [None, 8, 3]
    shown = command(world, capsys, "status")[1]
    assert [found["version"] for found in shown["projects"][0]["restores"]] == [
        newest + 2,
        newest + 1,
    ]


def test_without_evaluations_the_command_asks_for_a_version(tmp_path, capsys):
    world, _ = trained(tmp_path, versions=3)
    code, value = command(world, capsys, "model", "rollback", "tiny")
    assert code != 0
    assert "--to" in json.dumps(value)
    assert world.project.version == 3
