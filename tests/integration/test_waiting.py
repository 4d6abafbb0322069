"""Why nobody can work, from what hosts and the machine say to `status`."""

from __future__ import annotations

import msgspec
import pytest

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.api.status import read_status
from pleb_coordinator.home.machine import Machine
from pleb_coordinator.steps.serve import Asked, serve
from pleb_shared.protocol import strict_json
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Role
from pleb_shared.protocol.reasons import ReasonCode
from tests.integration.steps_world import World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def status(world, machine=None):
    with world.store.read() as tx:
        project = tx.projects.find("tiny")
        links, numbers = LinkBase("http://x"), world.deps.numbers
        now = world.clock.now
        return read_status(tx, project, links, numbers, now, machine or Machine())


def say(world, host, refuses):
    """The host asks for work, and says why it refused the last answer."""
    request = msgspec.structs.replace(world.request(host, 1, []), refuses=refuses)
    asked = Asked(request, digest_of(strict_json.encode(request)), [], 1, host.network)
    with world.store.write() as tx:
        return serve(tx, world.deps, asked)


def test_hosts_that_refuse_get_no_units_and_the_operator_is_told(world):
    hosts = [world.volunteer("one"), world.volunteer("two", role=Role.TRUSTED)]
    for host in hosts:
        answered = say(world, host, "went back from version 132 to 65")
        assert not answered.manifests
        assert answered.no_work is not None
        assert answered.no_work.reason.code == ReasonCode.ANSWER_REFUSED
    found = status(world)
    assert (found.waiting_for, found.waiting_level) == ("all_refuse", "stuck")
    assert "All 2 PCs refuse" in found.waiting
    assert "from version 132 to 65" in found.waiting
    assert world.ask(hosts[1])[0], "one that accepts again gets units with its next request"
    assert status(world).waiting_for == "computing"


@pytest.mark.parametrize(
    ("machine", "cause"),
    [
        (Machine(free_bytes=1000), "disk_full"),
        (Machine(clock_ahead_seconds=-7200), "clock_off"),
        (Machine(free_bytes=2**40), "no_hosts"),
    ],
)
def test_the_machine_is_looked_at(world, machine, cause):
    assert status(world, machine).waiting_for == cause


def test_an_ended_permission_is_said(world):
    world.volunteer("one")
    world.clock.now += 2 * 86400
    assert status(world).waiting_for == "permission_ended"
