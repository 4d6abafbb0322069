"""Results that come after their lease, some of them of versions that lie far back."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from pleb_coordinator.home.config import Retention
from pleb_coordinator.steps.anchor import TRUSTED_SEEN_SECONDS
from pleb_shared.protocol.messages import Role
from tests.integration.steps_world import World

pytestmark = pytest.mark.usefixtures("legal_moves")

FAR = 10
"""Versions: agents refuse units that lie so far back."""


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, units=2, quorum=2, new_host_units=1)


def late(world, host, others, versions=FAR):
    """Let the host sleep on a unit until others have done it, and made so many versions."""
    [manifest], _ = world.ask(host)
    world.clock.now += manifest.lease_seconds + 1
    world.run()
    train(world, others, versions)
    return manifest


def train(world, hosts, versions):
    """Let hosts make versions; what waits long is free to all."""
    for _ in range(20 * versions):
        if world.project.version >= versions:
            return
        if not world.work(*hosts):
            world.pass_time(61)
    raise AssertionError("no version is made")


def proven_hosts(world):
    """Return two volunteers with records; the trusted host that has checked them is gone."""
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    hosts = [world.volunteer("one"), world.volunteer("two")]
    while not all(world.row(host).proven for host in hosts):
        world.work(trusted, *hosts)
        world.clock.now += 61
    world.pass_time(TRUSTED_SEEN_SECONDS + 61)
    return hosts


def verdicts(world, host):
    world.run()
    *_, told = world.exchange(host, 0, [], [])
    return [(verdict.verdict, verdict.credit > 0) for verdict in told]


def unit_of(world, manifest):
    with world.store.read() as tx:
        assignment = tx.assignments.get(manifest.assignment)
        unit = tx.units.get(assignment.unit)
        stored = tx.assignments.delta(assignment.id)
        return unit, assignment, stored


def undecided(world):
    with world.store.read() as tx:
        return tx.views.totals(tx.projects.find("tiny").id, 1).undecided


@pytest.mark.parametrize("versions", [1, FAR])
def test_a_result_that_is_equal_to_the_one_that_counts_has_its_credit(world, versions):
    trusted, host = world.volunteer("trusted", role=Role.TRUSTED), world.volunteer("host")
    manifest = late(world, host, [trusted], versions)
    assert world.answer(host, manifest).outcome == "unneeded"
    assert verdicts(world, host) == [("valid", True)]


@pytest.mark.parametrize("versions", [1, FAR])
def test_so_has_one_that_differs_as_those_of_honest_hosts_do(world, versions):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    host = world.volunteer("host", drift=1e-5)
    manifest = late(world, host, [trusted], versions)
    before, *_ = unit_of(world, manifest)
    assert world.answer(host, manifest).outcome == "stored"
    assert verdicts(world, host) == [("valid", True)]
    unit, _, stored = unit_of(world, manifest)
    assert (unit.state, unit.canonical) == (before.state, before.canonical)
    assert (stored is None) == (versions == FAR), "what nobody needs any more is not kept"
    assert world.row(host).record == 1


def test_one_is_compared_with_what_is_kept_and_not_with_what_is_gone(world):
    hosts = proven_hosts(world)
    host, other = world.volunteer("host", drift=2e-5), world.volunteer("other", drift=1e-5)
    manifest = late(world, host, [other, *hosts], world.project.version + FAR)
    unit, *_ = unit_of(world, manifest)
    with world.store.read() as tx:
        results = tx.assignments.answered(unit.id)
        assert len({result.digest for result in results}) > 1, "of one exam"
        assert sum(tx.assignments.delta(result.id) is not None for result in results) == 1
    world.answer(host, manifest)
    assert verdicts(world, host) == [("valid", True)]


def test_one_that_a_trusted_host_contradicts_convicts_its_host(world):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    host = world.volunteer("host", lies=True)
    manifest = late(world, host, [trusted])
    world.answer(host, manifest)
    assert verdicts(world, host) == [("invalid", False)]
    assert world.row(host).record == 0
    assert unit_of(world, manifest)[2] is None


def test_one_that_only_a_trusted_host_could_decide_about_counts_for_nothing(world):
    hosts = proven_hosts(world)
    host = world.volunteer("host", lies=True)
    manifest = late(world, host, hosts, world.project.version + FAR)
    before, *_ = unit_of(world, manifest)
    world.answer(host, manifest)
    assert verdicts(world, host) == [("late", False)]
    unit, *_, stored = unit_of(world, manifest)
    assert (unit.state, unit.canonical, unit.disputed) == (before.state, before.canonical, False)
    assert stored is None
    assert undecided(world) == 0


def test_of_a_version_whose_results_are_gone_none_can_be_compared(world):
    world.deps = dataclasses.replace(world.deps, retention=Retention(versions=1))
    trusted, host = world.volunteer("trusted", role=Role.TRUSTED), world.volunteer("host")
    manifest = late(world, host, [trusted], 2 * FAR)
    world.run()
    receipt = world.answer(host, manifest)
    assert (receipt.outcome, receipt.code) == ("refused", "lease_expired")


def test_where_the_other_host_is_gone_nothing_is_held_against_anybody(world):
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    host = world.volunteer("host", lies=True)
    manifest = late(world, host, [trusted])
    with world.store.write() as tx:
        row = tx.hosts.find_of("tiny", trusted.key.fingerprint)
        tx.retention.remove_hosts(row.project, [row.id])
    world.answer(host, manifest)
    assert verdicts(world, host) == [("late", False)]
    assert undecided(world) == 0


def test_a_dispute_that_nobody_decides_ends_when_its_version_lies_far_back(world):
    one, two = proven_hosts(world)
    liar = world.volunteer("liar", lies=True)
    manifest = late(world, liar, [one, two], world.project.version + 1)
    world.volunteer("busy", role=Role.TRUSTED)
    world.answer(liar, manifest)
    world.run()
    assert undecided(world) == 1
    assert unit_of(world, manifest)[0].disputed
    train(world, [one], world.project.version + FAR)
    assert undecided(world) == 0
    assert not unit_of(world, manifest)[0].disputed
    assert verdicts(world, liar) == [("late", False)]


def test_what_is_undecided_when_an_epoch_ends_waits_for_nothing_any_more(world):
    hosts = proven_hosts(world)
    liar = world.volunteer("liar", lies=True)
    manifest = late(world, liar, hosts, world.project.version + 1)
    world.volunteer("busy", role=Role.TRUSTED)
    world.answer(liar, manifest)
    world.run()
    assert undecided(world) == 1
    world.metadata = msgspec.structs.replace(world.metadata, number=2, epoch=1)
    world.publish()
    world.run()
    assert undecided(world) == 0
    assert not unit_of(world, manifest)[0].disputed
    assert not unit_of(world, manifest)[0].due
