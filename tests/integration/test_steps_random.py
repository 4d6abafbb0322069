"""Fleets that do anything at any time: whatever happens, the books are right."""

from __future__ import annotations

import collections

import numpy as np
import pytest

from pleb_coordinator.aggregation.recompute import recompute
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps.upload import (
    append_part,
    check_upload,
    find_upload,
    finish_upload,
    refuse_upload,
    upload_format,
)
from pleb_shared.errors import Refusal
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import ReceiptOutcome, Role
from pleb_shared.protocol.report import DeltaResult, FailureResult
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.packing import pack
from tests.integration.steps_world import World, report

pytestmark = pytest.mark.usefixtures("legal_moves")


def act(world, host, generator):
    """One thing that a host may do: compute, upload, forget, give back, wait, send garbage."""
    row = world.row(host)
    if row.banned_until > world.clock.now:
        return
    kind = generator.choice(["ask"] * 3 + ["answer"] * 4 + ["upload", "forget", "fail", "junk"])
    if kind == "ask" or not host.held:
        world.ask(host, int(generator.integers(1, 4)))
    elif kind == "forget":
        host.held.clear()
    else:
        manifest = host.held[int(generator.integers(len(host.held)))]
        if kind == "answer" or (kind == "upload" and manifest.unit.kind == UnitKind.EVALUATE):
            world.answer(host, manifest)
        elif kind == "upload":
            outcomes = ["whole", "whole", "broken", "given up"]
            upload(world, host, manifest, generator.choice(outcomes))
        elif kind == "fail":
            world.answer(host, manifest, FailureResult(reason="no"))
        elif host.lies:
            junk = DeltaResult(digest="0" * 64, size=3, loss_first=0.0, loss_last=0.0)
            world.exchange(host, 0, [report(manifest, junk)], [])
            host.held.remove(manifest)


def upload(world, host, manifest, outcome):
    """Report a delta and send its bytes apart."""
    data = world.train(host, manifest)
    packed = pack(data)
    size = len(packed)
    result = DeltaResult(digest=digest_of(data), size=size, loss_first=2.0, loss_last=1.0)
    receipt = world.answer(host, manifest, result)
    if receipt.outcome != ReceiptOutcome.UPLOAD or outcome == "given up":
        return
    with world.store.read() as tx:
        slot = find_upload(tx, world.deps, receipt.upload)
        encoding = upload_format(tx, slot)
    append_part(world.deps, slot, 0, packed if outcome == "whole" else bytes(size))
    try:
        check_upload(world.deps, slot, encoding)
    except Refusal as refusal:
        with world.store.write() as tx:
            refuse_upload(tx, world.deps, slot, refusal)
    else:
        with world.store.write() as tx:
            finish_upload(tx, world.deps, slot)


def check_books(world):
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        for version in range(project.version + 1):
            row = tx.rounds.get(project.id, 0, version)
            if row is None:
                continue
            units = tx.units.of_round(project.id, 0, version, set(UnitState))
            states = collections.Counter(unit.state for unit in units)
            assert row.open == states[UnitState.OPEN]
            assert row.valid == states[UnitState.VALID]
            assert (row.closed_at is not None) == (version < project.version)
            for unit in units:
                assert (unit.canonical is not None) or unit.state in {
                    UnitState.OPEN,
                    UnitState.LATE,
                    UnitState.CANCELLED,
                }
                check_unit(tx, unit)


def check_unit(tx, unit):
    assignments = tx.assignments.of_unit(unit.id)
    live = {
        AssignmentState.UNSENT,
        AssignmentState.LEASED,
        AssignmentState.UPLOADING,
        AssignmentState.REPORTED,
    }
    if unit.state == UnitState.OPEN:
        waits = unit.look_at is not None or any(a.state in live for a in assignments)
        assert waits, "an open unit is never forgotten"
    if unit.state in {UnitState.VALID, UnitState.APPLIED}:
        [canonical] = [a for a in assignments if a.id == unit.canonical]
        assert canonical.state == AssignmentState.VALID
        assert tx.assignments.delta(canonical.id) is not None
    accounts = [
        a.account
        for a in assignments
        if a.state in {AssignmentState.VALID, AssignmentState.REPORTED, AssignmentState.LEASED}
        and a.host is not None
        and not tx.hosts.get(a.host).trusted
    ]
    # a lease that ran out may be reported after its host was given the unit once more
    assert max(collections.Counter(accounts).values(), default=0) <= 2


def check_versions(world):
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        rows = tx.versions.history(project.id, 0, after=-1, limit=1000)
        stored: dict[int, int] = {}

        def delta(assignment):
            found = tx.assignments.delta(assignment)
            stored[assignment] = stored.get(assignment, 0) + 1
            return world.deps.blobs.delta(found)

        found = list(recompute(rows, lambda _: world.metadata, world.deps.blobs.get, delta))
    assert all(one.matches for one in found)
    assert all(count == 1 for count in stored.values()), "nothing is applied twice"


@pytest.mark.parametrize("seed", range(6))
def test_whatever_a_fleet_does_the_books_are_right(tmp_path, seed):
    generator = np.random.default_rng(seed)
    world = World(
        tmp_path,
        units=4,
        quorum=3,
        versions=200,
        audit_rate=0.4,
        grace_seconds=20,
        new_host_units=int(generator.integers(0, 3)),
        holdout=True,
    )
    fleet = [world.volunteer(f"v{n}", drift=1e-5 * (n % 2)) for n in range(4)]
    fleet += [world.volunteer("liar", lies=True), world.volunteer("twin", account="v0")]
    fleet += [world.volunteer("near", network="203.0.113.0/24")]
    fleet += [world.volunteer("trusted", role=Role.TRUSTED)]
    for step in range(600):
        act(world, fleet[int(generator.integers(len(fleet)))], generator)
        if generator.random() < 0.5:
            world.run()
        if generator.random() < 0.1:
            world.clock.now += float(generator.choice([1, 10, 70, 700]))
        if step % 100 == 99:
            world.run()
            check_books(world)
    assert world.project.version > 2
    check_versions(world)
    honest = [host for host in fleet if not host.lies]
    assert all(world.row(host).refused == world.row(host).bans == 0 for host in honest)
