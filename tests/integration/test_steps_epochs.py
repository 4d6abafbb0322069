"""A new epoch: version 0 of a changed model, with the old epoch kept as history."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pleb_coordinator.aggregation.recompute import recompute
from pleb_coordinator.blobs.parts import stored
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.records import ProjectState
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps import advance, calibrate, verify
from pleb_coordinator.steps.publish import admit
from pleb_coordinator.steps.published import open_publication
from pleb_coordinator.steps.upload import append_part, find_upload, upload_format
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role, Verdict
from pleb_shared.protocol.project import Calibration, Codec, Target
from pleb_shared.protocol.report import DeltaResult
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.layout import save_tensors, version_digest
from pleb_shared.tensors.packing import pack
from tests.integration.steps_world import World, report

pytestmark = pytest.mark.usefixtures("legal_moves")


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, holdout=True)


def next_epoch(world, **changes):
    """Publish another start, codec, training and calibration as the next epoch."""
    world.initial = {**world.initial, "b": np.full(20, 0.5, np.float32)}
    start = save_tensors(world.initial)
    world.model = msgspec.structs.replace(
        world.model,
        initial=stored(world.deps.blobs, start),
        initial_digest=version_digest(world.initial, world.model),
    )
    before = world.metadata
    world.metadata = msgspec.structs.replace(
        before,
        number=before.number + 1,
        epoch=before.epoch + 1,
        model=world.model,
        codec=Codec(up="int8", down="fp32", block=32),
        training=msgspec.structs.replace(before.training, local_steps=7),
        calibration=Calibration(steps=2, seed=9),
        **changes,
    )
    world.publish(world.metadata, invite=False)


def unit_of(world, manifest):
    with world.store.read() as tx:
        return tx.units.get(tx.assignments.get(manifest.assignment).unit)


def state_of(world, manifest):
    with world.store.read() as tx:
        return tx.assignments.get(manifest.assignment).state


def committed(world, host, manifest):
    """Report a delta that is too large to attach; return its bytes and its slot."""
    data = world.train(host, manifest)
    size = len(pack(data))
    result = DeltaResult(digest=digest_of(data), size=size, loss_first=2.0, loss_last=1.0)
    receipts, *_ = world.exchange(host, 0, [report(manifest, result)], [])
    with world.store.read() as tx:
        return data, find_upload(tx, world.deps, receipts[0].upload)


def test_training_starts_again_from_the_new_version_0(world):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 3:
        world.work(trusted)
    credit = world.row(trusted).credit
    trusted.held.clear()
    next_epoch(world)
    world.run()
    assert (world.project.epoch, world.project.version) == (1, 0)

    # The model is another one, so the host is measured again before it trains.
    [calibration], _ = world.ask(trusted)
    unit = calibration.unit
    assert (unit.kind, unit.epoch, unit.local_steps, unit.seed) == (UnitKind.CALIBRATE, 1, 2, 9)
    assert world.answer(trusted, calibration).outcome == "stored"
    world.run()
    [manifest, *_], _ = world.ask(trusted, 1)
    assert (manifest.unit.epoch, manifest.unit.version) == (1, 0)
    assert manifest.version.digest == world.model.initial_digest
    if manifest.unit.kind == UnitKind.TRAIN:
        assert manifest.unit.local_steps == 7
    trusted.held.clear()
    while world.project.version < 2:
        world.work(trusted)
    assert world.row(trusted).credit > credit > 0, "credit stays with the host"


def test_the_old_epoch_stays_readable_and_both_can_be_recomputed(world):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 2:
        world.work(trusted)
    next_epoch(world)
    trusted.held.clear()
    world.run()
    world.calibrate(trusted)
    while world.project.version < 2:
        world.work(trusted)
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        assert [found.version for found in tx.projects.evaluations(project.id, 0)] == [0, 1]
        for epoch in (0, 1):
            history = tx.versions.history(project.id, epoch, after=-1, limit=100)
            made = list(
                recompute(
                    history,
                    lambda number: tx.projects.metadata_at(project.id, number),
                    world.deps.blobs.get,
                    lambda name: tx.assignments.delta(name).data,
                )
            )
            assert [version.number for version in made] == [0, 1, 2]
            assert all(version.matches for version in made)


def test_late_reports_of_the_old_epoch_get_a_typed_refusal(world):
    hosts = [world.volunteer(name) for name in ("one", "two", "three")]
    leases = [world.ask(host)[0][0] for host in hosts]
    assert world.answer(hosts[0], leases[0]).outcome == "stored"
    data, upload = committed(world, hosts[1], leases[1])
    late = world.train(hosts[2], leases[2])
    next_epoch(world)

    # Reported and never confirmed: it counts neither for nor against the host.
    assert state_of(world, leases[0]) == AssignmentState.LATE
    _, _, _, verdicts = world.exchange(hosts[0], 0, [], [])
    assert [(v.assignment, v.verdict) for v in verdicts] == [(leases[0].assignment, Verdict.LATE)]

    # On its way or in work: cancelled, and refused when it comes.
    with world.store.read() as tx, pytest.raises(Refusal):
        find_upload(tx, world.deps, upload.token)
    append_part(world.deps, upload, 0, pack(data))  # its last part was being stored at that moment
    with world.store.read() as tx, pytest.raises(Refusal) as caught:
        upload_format(tx, upload)
    assert caught.value.code == RefusalCode.EPOCH_ENDED
    receipt = world.answer(hosts[2], leases[2], data=late)
    assert (receipt.outcome, receipt.code) == ("refused", RefusalCode.EPOCH_ENDED)
    for lease in leases:
        assert unit_of(world, lease).state == UnitState.CANCELLED
    assert all(world.row(host).refused == 0 for host in hosts)


def test_nothing_of_the_old_epoch_is_given_out_or_swept_up_again(world):
    hosts = [world.volunteer(name) for name in ("one", "two")]
    old = [manifest for host in hosts for manifest in world.ask(host)[0]]
    next_epoch(world)
    world.clock.now += 10_000
    world.run()
    for host in hosts:
        host.held.clear()
        world.calibrate(host)
        for manifest in world.ask(host)[0]:
            assert manifest.unit.epoch == 1
    units = [unit_of(world, manifest) for manifest in old]
    with world.store.read() as tx:
        assert tx.rounds.get(1, 0, 0).closed_at is not None
        for unit in units:
            assert [found.state for found in tx.assignments.of_unit(unit.id)] == ["cancelled"]


@pytest.mark.parametrize("step", ["verify", "measure", "advance"])
def test_what_was_being_computed_when_the_epoch_ended_is_dropped(tmp_path, step):
    world = World(tmp_path, units=1, quorum=1)
    trusted = world.volunteer("trusted", role=Role.TRUSTED, calibrated=step != "measure")
    [manifest], _ = world.ask(trusted)
    assert world.answer(trusted, manifest).outcome == "stored"
    project = world.project
    if step == "measure":
        # Another class, so that there is a distance to measure.
        world.run()
        other = world.volunteer("other", drift=1e-5, calibrated=False)
        [manifest], _ = world.ask(other)
        world.answer(other, manifest)
        with world.store.write() as tx:
            reports = calibrate.find_reports(tx, world.deps, project)
            assert reports is not None
            calibrate.record_reports(tx, world.deps, reports)
            measurement = calibrate.find(tx, world.deps, project, set())
        assert measurement is not None
        found = calibrate.compute(world.deps, measurement)
        next_epoch(world)
        with world.store.write() as tx:
            calibrate.commit(tx, world.deps, measurement, found)
            assert tx.calibrations.distances(project.id) == {}
        return
    with world.store.read() as tx:
        case = verify.find(tx, world.deps, project, set())
    assert case is not None
    findings = verify.compute(world.deps, case)
    if step == "verify":
        next_epoch(world)
        with world.store.write() as tx:
            assert not verify.commit(tx, world.deps, case, findings)
        return
    with world.store.write() as tx:
        assert verify.commit(tx, world.deps, case, findings)
        work = advance.find(tx, world.deps, project, set())
    assert work is not None
    row = advance.compute(world.deps, work)
    next_epoch(world)
    with world.store.write() as tx:
        assert not advance.commit(tx, world.deps, work, row)
        assert tx.projects.find("tiny").version == 0


def test_a_finished_project_is_active_again(tmp_path):
    world = World(tmp_path, versions=1)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    while world.project.version < 1:
        world.work(trusted)
    finished = world.project.state
    next_epoch(world)
    assert (finished, world.project.state) == (ProjectState.FINISHED, ProjectState.ACTIVE)
    world.run()
    world.calibrate(trusted)
    assert world.ask(trusted)[0]


CHANGES = {
    "model": lambda m: msgspec.structs.replace(m.model, initial_digest="0" * 64),
    "training_graph": lambda m: m.data.shards,
    "evaluation_graph": lambda m: m.data.shards,
    "data": lambda m: msgspec.structs.replace(m.data, kind="windows"),
    "training": lambda m: msgspec.structs.replace(m.training, learning_rate=0.2),
    "codec": lambda m: msgspec.structs.replace(m.codec, up="int8"),
    "calibration": lambda m: Calibration(steps=2),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_results_depend_on_cannot_change_within_an_epoch(world, name):
    change = {name: CHANGES[name](world.metadata)}
    metadata = msgspec.structs.replace(world.metadata, number=2, **change)
    opened = open_publication(world.envelope(metadata, invite=None, key=world.root))
    with world.store.read() as tx, pytest.raises(Refusal, match="--new-epoch") as caught:
        admit(tx, world.deps, opened)
    assert caught.value.code == RefusalCode.MALFORMED
    assert name in str(caught.value)


def test_what_results_do_not_depend_on_can_change(world):
    before = world.metadata
    metadata = msgspec.structs.replace(
        before,
        number=2,
        title="Another title",
        outer=msgspec.structs.replace(before.outer, learning_rate=0.5),
        round=msgspec.structs.replace(before.round, units=8),
        verification=msgspec.structs.replace(before.verification, audit_rate=0.5),
        limits=msgspec.structs.replace(before.limits, lease_seconds=60),
        target=Target(metric="loss", value=0.1, direction="at_most"),
    )
    world.publish(metadata, invite=False)
    assert (world.project.metadata_number, world.project.epoch) == (2, 0)
    assert world.project.metadata == metadata
