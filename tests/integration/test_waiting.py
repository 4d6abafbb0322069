"""Why nobody can work, and which of the hosts that wait are woken when there is work."""

from __future__ import annotations

import asyncio
from contextlib import closing

import msgspec
import pytest

from pleb_coordinator.api.links import LinkBase
from pleb_coordinator.api.status import read_status
from pleb_coordinator.api.waiting import Changes, Offers, Waiters
from pleb_coordinator.core.records import NewAssignment, Purpose
from pleb_coordinator.home.machine import Machine
from pleb_coordinator.steps.serve import Asked, serve
from pleb_coordinator.store.transaction import Store
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


@pytest.mark.parametrize(
    ("offers", "new", "proven", "trusted"),
    [
        (Offers(), False, False, False),
        (Offers(for_all=True, for_trusted=True), True, True, True),
        (Offers(for_trusted=True), False, False, True),
        (Offers(for_trusted=True, exams=True), True, False, True),
    ],
)
def test_a_host_tries_only_if_there_is_something_for_its_kind(world, offers, new, proven, trusted):
    host = world.row(world.volunteer("one"))
    anchor = world.row(world.volunteer("two", role=Role.TRUSTED))
    assert offers.may_suit(msgspec.structs.replace(host, proven=False)) is new
    assert offers.may_suit(msgspec.structs.replace(host, proven=True)) is proven
    assert offers.may_suit(anchor) is trusted


def test_a_host_that_waits_is_woken_at_once_by_what_is_kept_for_it_alone(world):
    world.run()
    one, other = (world.row(world.volunteer(name)) for name in ("one", "other"))

    def keep_for(host):
        with world.store.write() as tx:
            unit = tx.units.newest(host.project, 1)[0]
            tx.assignments.add(NewAssignment(unit.id, Purpose.CHECK, 0.0, for_host=host.id))

    async def story():
        with closing(Store(world.place)) as store:
            closing_down = asyncio.Event()
            waiters = Waiters(store, Changes(store, most_waiters=9), closing_down)
            assert await waiters.chance("tiny", one, 9, patient=False), "units are there for all"
            waiting = asyncio.create_task(waiters.chance("tiny", one, 60, patient=True))
            keep_for(other)
            _, pending = await asyncio.wait([waiting], timeout=0.3)
            assert pending, "neither those units nor what is kept for another host"
            keep_for(one)
            async with asyncio.timeout(20):
                assert await waiting

    asyncio.run(story())


def test_hosts_that_wait_are_let_go_when_the_process_stops(world):
    host = world.row(world.volunteer("one"))

    async def story():
        with closing(Store(world.place)) as store:
            closing_down, changes = asyncio.Event(), Changes(store, most_waiters=9)
            waiters = Waiters(store, changes, closing_down)
            waiting = asyncio.create_task(waiters.chance("tiny", host, 60, patient=True))
            await asyncio.sleep(0.1)
            closing_down.set()
            changes.wake_all()
            async with asyncio.timeout(20):
                assert not await waiting

    asyncio.run(story())
