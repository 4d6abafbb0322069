"""Honest PCs of different kinds drift apart while a model learns; none of them is found wrong."""

from __future__ import annotations

import msgspec
import pytest

from pleb_shared.protocol.messages import Role
from tests.integration.steps_world import Volunteer, World


def work(world: World, *hosts: Volunteer, rounds: int) -> None:
    for _ in range(rounds):
        world.work(*hosts)
        world.pass_time(30)


@pytest.mark.parametrize("apart", [0.002, 0.05, 0.2, 0.9])
def test_hosts_of_another_kind_that_drift_from_the_trusted_one_are_not_found_wrong(tmp_path, apart):
    world = World(tmp_path, units=4, quorum=4, codec="fp32", new_host_units=2)
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    others = [world.volunteer(name, drift=2e-4, threads=2) for name in ("a", "b", "c")]
    work(world, trusted, *others, rounds=10)
    for host in others:
        host.drift = apart  # the calibration was made at version 0
    before = world.project.version
    work(world, trusted, *others, rounds=30)
    assert world.project.version > before + 2, "the trusted host's results go on"
    for row in map(world.row, others):
        assert (row.refused, row.bans) == (0, 0)


def test_where_the_check_failed_nobody_is_found_wrong(tmp_path):
    world = World(tmp_path, units=4, quorum=4, codec="fp32", new_host_units=2)
    rules = msgspec.structs.replace(world.metadata.verification, comparable=False)
    world.publish(
        msgspec.structs.replace(world.metadata, number=2, verification=rules), invite=False
    )
    trusted = world.volunteer("trusted", role=Role.TRUSTED)
    others = [world.volunteer(name) for name in ("a", "b", "c")]
    for host in others:
        host.drift = 1.2  # of the trusted host's own kind
    work(world, trusted, *others, rounds=30)
    assert world.project.version > 2
    for row in map(world.row, others):
        assert (row.refused, row.bans) == (0, 0)
