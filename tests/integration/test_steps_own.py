"""Units on hosts' own data: one for each member and round, compared with nothing, and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from pleb_coordinator.core.records import Counting, Purpose
from pleb_coordinator.steps.access import blobs_of
from pleb_shared.errors import RefusalCode
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.own_data import OwnData
from pleb_shared.protocol.project import OWN_SHARDS
from pleb_shared.protocol.report import FailureResult
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.format import delta_format
from pleb_shared.tensors.version import read_version
from tests.integration.private_world import PrivateWorld
from tests.integration.steps_world import honest_delta

if TYPE_CHECKING:
    from pleb_shared.protocol.manifest import Manifest

pytestmark = pytest.mark.usefixtures("legal_moves")


class OwnWorld(PrivateWorld):
    """Members' hosts have data; `without` are those that have none."""

    def __init__(self, home, rule="centred_clipping", **options):
        home.mkdir(exist_ok=True)
        self.rule = rule
        self.without: set[str] = set()
        super().__init__(home, codec="int8", **{"units": 4, "quorum": 3} | options)

    def publish(self, metadata=None, *, invite=True):
        if metadata is None:
            replace = msgspec.structs.replace
            self.metadata = replace(
                self.metadata,
                issued_at=0,  # a draft, until it is sealed
                data=replace(self.metadata.data, own=OwnData(reader="npz")),
                outer=replace(self.metadata.outer, combination=self.rule, trim_fraction=0.25),
            )
        return super().publish(metadata, invite=invite)

    def envelope(self, metadata, *, invite, key):
        signed = msgspec.structs.replace(metadata, issued_at=int(self.clock.now))
        return super().envelope(signed, invite=invite, key=key)

    def volunteer(self, name, **options):
        if "role" not in options:
            options["invite"] = self.member_invite()
        return super().volunteer(name, **options)

    def request(self, host, units, reports):
        request = super().request(host, units, reports)
        return msgspec.structs.replace(request, has_own_data=host.name not in self.without)

    def members(self, *names, **options):
        return [self.volunteer(name, **options) for name in names]


def counting(world):
    """What the units of all rounds count by, and by whom their results are, by version."""
    project = world.project.id
    with world.store.read() as tx:
        units = [u for u in tx.units.newest(project, 1000) if u.kind == UnitKind.TRAIN]
        results = {u.id: tx.assignments.answered(u.id) for u in units}
    return units, results


def test_each_member_has_one_result_in_a_version_and_nobody_computes_it_again(tmp_path):
    world = OwnWorld(tmp_path, new_host_units=2)
    world.without.add("trusted")
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    members = world.members("anna", "ben", "cleo")
    for _ in range(5):
        version = world.project.version
        for member in members:
            [manifest], _ = world.ask(member)
            assert manifest.unit.shards == OWN_SHARDS
            assert world.answer(member, manifest).outcome == "stored"
            again, no_work = world.ask(member)  # before the version is made
            assert not again
            assert no_work is not None
            assert no_work.reason.code == "own_part_taken"
        given, _ = world.ask(trusted, 8)
        assert {m.unit.kind for m in given} <= {UnitKind.EVALUATE}
        for manifest in given:
            world.answer(trusted, manifest)
        world.run()
        world.pass_time(60)
        assert world.project.version == version + 1
    units, results = counting(world)
    applied = [unit for unit in units if unit.state == "applied"]
    assert len(applied) == 15
    assert {unit.counting for unit in applied} == {Counting.OWN}
    for unit in applied:
        [result] = results[unit.id]
        assert result.purpose is Purpose.PRIMARY
    assert not any(world.row(member).proven for member in members)
    assert all(world.row(member).credit > 0 for member in members)


def test_a_host_without_data_is_told_to_choose_a_folder(tmp_path):
    world = OwnWorld(tmp_path)
    anna = world.volunteer("anna")
    world.without.add("anna")
    given, no_work = world.ask(anna)
    assert not given
    assert no_work is not None
    assert no_work.reason.code == "no_own_data"
    world.without.clear()
    assert len(world.ask(anna)[0]) == 1


def test_two_pcs_of_one_account_are_one_member(tmp_path):
    world = OwnWorld(tmp_path)
    first = world.volunteer("first", account="lab")
    second = world.volunteer("second", account="lab")
    [manifest], _ = world.ask(first)
    assert world.ask(second)[0] == []
    world.answer(first, manifest, FailureResult(reason="the folder is gone"))
    assert len(world.ask(second)[0]) == 1


def test_a_version_waits_for_three_members(tmp_path):
    world = OwnWorld(tmp_path)
    anna, ben = world.members("anna", "ben")
    for member in (anna, ben):
        world.work(member)
    world.pass_time(10_000)
    assert world.project.version == 0
    world.work(world.volunteer("cleo"))
    world.pass_time(60)
    assert world.project.version == 1


def test_a_late_result_counts_once_and_only_while_nobody_else_has_the_unit(tmp_path):
    world = OwnWorld(tmp_path, units=3)
    anna, ben = world.members("anna", "ben")
    [late], _ = world.ask(anna)
    world.pass_time(700)  # its lease is over
    assert world.answer(anna, late).outcome == "stored"
    world.run()
    [other], _ = world.ask(ben)
    world.pass_time(700)
    cleo = world.volunteer("cleo")
    taken: list[Manifest] = []
    while other.unit not in [m.unit for m in taken]:  # until somebody has ben's unit
        host = cleo if not taken else world.volunteer(f"more-{len(taken)}")
        [manifest], _ = world.ask(host)
        taken.append(manifest)
    receipt = world.answer(ben, other)
    assert receipt.code == RefusalCode.LEASE_EXPIRED


@pytest.mark.parametrize("rule", ["centred_clipping", "trimmed_mean", "median"])
def test_a_member_who_sends_a_thousand_times_too_much_moves_a_version_little(tmp_path, rule):
    moved = {}
    for liar in (False, True):
        world = OwnWorld(tmp_path / f"{liar}", rule, units=4, quorum=4)
        members = world.members("anna", "ben", "cleo", "mallory")
        for member in members:
            [manifest], _ = world.ask(member)
            sent = honest_delta(int.from_bytes(member.name.encode()[:3]), 0.0)
            if liar and member.name == "mallory":
                sent = {
                    name: array * 1000 if array.dtype == np.float32 else array
                    for name, array in sent.items()
                }
            data = delta_format(world.metadata, manifest.unit).encode(sent)
            assert world.answer(member, manifest, data=data).outcome == "stored"
        world.run()
        world.pass_time(60)
        assert world.project.version == 1
        project = world.project.id
        with world.store.read() as tx:
            source = tx.versions.source(project, 0, 1)
        blobs = blobs_of(world.deps, world.project)
        version = read_version(source, world.metadata, blobs.get)
        moved[liar] = float(
            np.sqrt(
                sum(
                    np.square(version[s.name] - world.initial[s.name]).sum()
                    for s in world.model.parameters
                )
            )
        )
    assert moved[True] < 4 * moved[False]
