"""Keys that change while an agent works: nothing accepted is lost, nobody attaches again."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pleb_shared.errors import TrustError
from tests.integration.agent_home import CLOCK, Agent, attached, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.fake_engine import FakeEngine


def online(coordinator):
    coordinator.rotate_online()


def root(coordinator):
    coordinator.rotate_root()


def both(coordinator):
    coordinator.rotate_online()
    coordinator.rotate_root()


def revoked(coordinator):
    old = [coordinator.rotate_online().fingerprint, coordinator.rotate_root().fingerprint]
    coordinator.publish(revoked=old)


def twice(coordinator):
    both(coordinator)
    revoked(coordinator)


CHANGES = [online, root, both, revoked, twice]


@pytest.mark.parametrize("change", CHANGES)
def test_keys_change_while_a_unit_is_computed(tmp_path, change):
    async def story():
        engine = FakeEngine(step_seconds=0.04)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(4)
            task = asyncio.create_task(agent.work(units=4))
            await until(lambda: len(coordinator.given) >= 2)
            change(coordinator)
            await task
            assert delivered(coordinator) == [1, 2, 3, 4]
            assert len(coordinator.given) == 4, "no unit was lost and given again"
            assert len(coordinator.hosts) == 1, "it did not enrol as somebody else"
            memory = agent.journal.projects()[0].memory
            assert memory.root == coordinator.root.fingerprint
            assert memory.metadata_number == coordinator.metadata.number

    asyncio.run(story())


@pytest.mark.parametrize("change", CHANGES)
def test_keys_change_while_the_answer_to_a_report_is_on_its_way(tmp_path, change):
    """The answer is lost and asked for again: it comes with the old key's signature."""

    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(3)
            await agent.work(units=1)
            coordinator.faults.lose_answers = 1
            task = asyncio.create_task(agent.work(units=2))
            await until(lambda: coordinator.faults.lose_answers == 0)
            change(coordinator)
            await task
            assert delivered(coordinator) == [1, 2, 3]
            reported = [r.assignment for request in coordinator.requests for r in request.reports]
            assert set(reported) == {1, 2, 3}

    asyncio.run(story())


@pytest.mark.parametrize("change", CHANGES)
def test_keys_change_between_the_parts_of_an_upload(tmp_path, change):
    async def story():
        engine = FakeEngine(delta_bytes=200_000)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(2)
            coordinator.faults.cut_uploads = 3
            task = asyncio.create_task(agent.work(units=2))
            await until(lambda: any(got for _, got in coordinator.uploads.values()))
            change(coordinator)
            await task
            assert delivered(coordinator) == [1, 2]
            assert len(coordinator.given) == 2

    asyncio.run(story())


@pytest.mark.parametrize("change", CHANGES)
def test_an_agent_that_slept_through_it_goes_on(tmp_path, change):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(2)
            await agent.work(units=1)
            change(coordinator)
            # Another process of the same home, as after a night with the PC off.
            await agent.work(units=1)
            assert delivered(coordinator) == [1, 2]
            assert agent.journal.projects()[0].memory.root == coordinator.root.fingerprint

    asyncio.run(story())


def test_a_host_that_was_forgotten_enrols_again_under_a_new_online_key(tmp_path):
    """Its metadata is the old one, and no answer to a work request will ever say so."""

    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(2)
            await agent.work(units=1)
            coordinator.hosts.clear()
            coordinator.rotate_online()
            await agent.work(units=1)
            assert delivered(coordinator) == [1, 2]

    asyncio.run(story())


def test_a_permission_that_ended_is_waited_for_and_nothing_is_lost(tmp_path):
    """The unit in hand is computed and kept; it is reported once the researcher has renewed."""

    async def story():
        engine = FakeEngine(step_seconds=0.1)
        async with attached(tmp_path, engine) as (coordinator, agent):
            agent.rest_seconds = 0.1
            coordinator.plan(2)
            loop = agent.loop(units=2)
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.jobs)
            now = int(coordinator.clock())
            lasts = msgspec.structs.replace(coordinator.metadata.delegation, expires_at=now - 700)
            coordinator.publish(delegation=lasts, issued_at=now - 30 * 86_400)
            await until(lambda: any(loop.problems().values()), seconds=15)
            (problem,) = loop.problems().values()
            assert "its researcher has to renew it" in problem
            assert "ended" in problem
            renewed = msgspec.structs.replace(lasts, expires_at=now + 86_400)
            coordinator.publish(delegation=renewed, issued_at=now)
            await asyncio.wait_for(task, 60)
            assert delivered(coordinator) == [1, 2]
            assert len(coordinator.given) == 2

    asyncio.run(story())


def test_the_online_key_changes_while_a_host_attaches(tmp_path):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        enrol = coordinator.enrol

        def late(envelope):
            coordinator.enrol = enrol  # type: ignore[method-assign]
            coordinator.rotate_online()  # after the metadata was fetched
            return enrol(envelope)

        coordinator.enrol = late  # type: ignore[method-assign]
        agent = Agent(tmp_path)
        async with serving(coordinator) as url:
            row = await agent.attach(coordinator.link(url))
        assert row.memory.metadata_number == coordinator.metadata.number
        agent.journal.close()

    asyncio.run(story())


def test_the_links_before_and_after_a_rotation_are_the_same_project(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            (first,) = agent.journal.projects()
            old = coordinator.rotate_root()
            new_link = first.link.replace(old.fingerprint, coordinator.root.fingerprint)
            for link in (new_link, first.link):
                row = await agent.attach(link)
                assert (row.id, row.host) == (first.id, first.host), "the same keys"
            fresh = Agent(tmp_path / "fresh")
            await fresh.attach(first.link)
            with pytest.raises(TrustError, match="another root key"):
                await agent.attach(first.link.replace(old.fingerprint, "ab" * 32))
            coordinator.publish(revoked=[old.fingerprint])
            await agent.attach(first.link)
            with pytest.raises(TrustError, match="revoked the key in this attach link"):
                await Agent(tmp_path / "late").attach(first.link)

    asyncio.run(story())


def test_a_thief_of_the_old_keys_is_not_followed_back(tmp_path):
    """He serves, under the coordinator's address, what the old keys signed before and now."""

    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(3)
            await agent.work(units=1)
            replay = coordinator.metadata, coordinator.metadata_envelope
            old_online, old_root = coordinator.online, coordinator.root
            twice(coordinator)
            await agent.work(units=1)
            honest = (
                coordinator.metadata,
                coordinator.metadata_envelope,
                coordinator.online,
                coordinator.root,
            )
            coordinator.online, coordinator.root = old_online, old_root
            for number in (replay[0].number, coordinator.metadata.number + 1):
                coordinator.metadata = msgspec.structs.replace(replay[0], number=number)
                coordinator.publish()
                loop = agent.loop(units=1)
                task = asyncio.create_task(loop.run())
                await until(lambda loop=loop: any(loop.problems().values()))
                loop.stop()
                await task
            assert len(delivered(coordinator)) == 2
            # Back at the honest coordinator the third unit is done, without attaching again.
            (
                coordinator.metadata,
                coordinator.metadata_envelope,
                coordinator.online,
                coordinator.root,
            ) = honest
            await agent.work(units=1)
            assert delivered(coordinator) == [1, 2, 3]

    asyncio.run(story())
