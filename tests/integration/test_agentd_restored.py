"""A coordinator that comes back from a backup: agents follow by themselves, or say why not."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.integration.agent_home import CLOCK, attached, delivered


def permit(coordinator):
    delegation = msgspec.structs.replace(coordinator.metadata.delegation, may_restore=True)
    coordinator.publish(delegation=delegation)


def restore(coordinator, version):
    coordinator.latest_version = version
    coordinator.restored_at = int(CLOCK())


def test_an_agent_follows_a_restored_coordinator_and_keeps_its_journal_in_step(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            permit(coordinator)
            coordinator.latest_version = 7
            coordinator.plan(1)
            await agent.work(units=1)
            restore(coordinator, 4)
            coordinator.plan(2)
            await agent.work(units=2, seconds=30)
            assert delivered(coordinator) == [1, 2, 3]
            memory = agent.journal.projects()[0].memory
            assert memory.latest_version == 4
            assert memory.restored_at == coordinator.restored_at

    asyncio.run(story())


def test_an_agent_brings_back_the_metadata_that_a_restored_coordinator_has_lost(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            permit(coordinator)
            lost = coordinator.metadata, coordinator.metadata_envelope
            coordinator.publish(title="renewed")
            newest = coordinator.metadata_envelope
            coordinator.latest_version = 7
            coordinator.plan(1)
            await agent.work(units=1)
            coordinator.metadata, coordinator.metadata_envelope = lost
            restore(coordinator, 4)
            coordinator.plan(1)
            await agent.work(units=1, seconds=10)
            assert coordinator.handed_in == [newest]
            assert delivered(coordinator) == [1, 2]
            assert agent.journal.projects()[0].memory.metadata_number == 3

    asyncio.run(story())


def test_without_the_researchers_permission_it_refuses_and_says_why(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.latest_version = 7
            coordinator.plan(1)
            await agent.work(units=1)
            restore(coordinator, 4)
            coordinator.plan(1)
            with pytest.raises(TimeoutError):
                await agent.work(units=1, seconds=3)
            assert delivered(coordinator) == [1]
            problems = [str(event.sentence) for event in agent.journal.events(None, 50)]
            assert any("has to publish a new epoch" in problem for problem in problems), problems
            told = [request.refuses for request in coordinator.requests]
            assert told[1] == "", "nothing was wrong yet"
            assert "has to publish a new epoch" in told[-1]
            permit(coordinator)
            await agent.work(units=1, seconds=10)
            assert not coordinator.requests[-1].refuses, "it was told once that all is well again"

    asyncio.run(story())


def test_a_unit_in_hand_does_not_stand_in_the_way(tmp_path):
    """The answer to its report is of the restored coordinator, which knows nothing of the unit."""

    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            permit(coordinator)
            coordinator.latest_version = 7
            coordinator.plan(1)
            coordinator.faults.lose_answers = 1
            await agent.work(units=1)
            restore(coordinator, 4)
            coordinator.plan(1)
            await agent.work(units=1, seconds=10)
            assert 2 in delivered(coordinator)

    asyncio.run(story())
