"""Volunteers' disks keep a project's shards only encrypted, and only as long as they take part."""

from __future__ import annotations

import asyncio

from tests.integration.agent_home import CLOCK, attached, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.fake_engine import FakeEngine

SHARD = bytes([1]) * 50  # a piece of the fake project's second shard


def clear_text(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if SHARD in path.read_bytes()]


def test_shards_lie_in_the_clear_only_while_their_unit_is_computed(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.1, delta_bytes=200_000)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(2)
            loop = agent.loop(units=2)
            task = asyncio.create_task(loop.run())
            await until(lambda: len(engine.jobs) == 2)
            assert [path.parents[3].name for path in clear_text(tmp_path)] == ["work"]
            await asyncio.wait_for(task, 10)
            assert clear_text(tmp_path) == []
            assert engine.inputs[1]["shard-0.safetensors"] in coordinator.blobs

    asyncio.run(story())


def test_shards_that_a_killed_process_left_in_the_clear_are_deleted(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.1)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 2)
            loop.stop()
            await asyncio.wait_for(task, 10)
            project = tmp_path / "work" / "1"
            (project / "in" / "1" / "shard-0.safetensors").write_bytes(
                SHARD
            )  # as kill -9 leaves it
            agent.loop().stop()
            again = agent.loop()
            again.stop()
            await asyncio.wait_for(again.run(), 30)
            assert clear_text(tmp_path) == []
            assert (project / "out" / "1" / "checkpoint").exists()
            await agent.work(units=1)
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_a_link_in_the_place_of_a_job_deletes_no_other_file(tmp_path):
    async def story():
        async with attached(tmp_path / "home") as (coordinator, agent):
            coordinator.plan(1)
            precious = tmp_path / "precious"
            precious.mkdir()
            (precious / "shard-7.safetensors").write_bytes(b"mine")
            (agent.home / "work" / "1" / "in").mkdir(parents=True)
            (agent.home / "work" / "1" / "in" / "1").symlink_to(precious)
            await agent.work(units=1)
            assert (precious / "shard-7.safetensors").read_bytes() == b"mine"
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_leaving_a_project_takes_its_shards_and_leaves_the_others(tmp_path):
    async def story():
        async with attached(tmp_path) as (first, agent):
            second = FakeCoordinator(CLOCK)
            async with serving(second) as url:
                row = await agent.attach(second.link(url))
                first.plan(2)
                second.plan(2)
                await agent.work(units=4)
                encrypted = {path.suffix for path in agent.cache.folder.rglob("*.*")}
                assert len(encrypted) == 2
                loop = agent.loop()
                task = asyncio.create_task(loop.run())
                agent.journal.mark_detaching(row.id)
                await loop.leave(row.id)
                await until(lambda: len(agent.journal.projects()) == 1)
                left = {path.suffix for path in agent.cache.folder.rglob("*.*")}
                assert len(left) == 1
                assert left < encrypted
                loop.stop()
                await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_a_coordinator_learns_only_of_its_own_projects_blobs(tmp_path):
    async def story():
        async with attached(tmp_path) as (first, agent):
            second = FakeCoordinator(CLOCK)
            second.blobs.clear()
            second.metadata = second.first_metadata()
            other = second.add_blob(b"another version zero" * 9)
            model = second.metadata.model
            second.publish(model=type(model)(**{**_fields(model), "initial": other}))
            async with serving(second) as url:
                await agent.attach(second.link(url))
                first.plan(3)
                second.plan(3)
                await agent.work(units=6)
                theirs = {digest for request in second.requests for digest in request.holds}
                assert other.digest in theirs
                assert first.metadata.model.initial.digest not in theirs
                ours = {digest for request in first.requests for digest in request.holds}
                assert first.metadata.model.initial.digest in ours
                assert other.digest not in ours

    asyncio.run(story())


def _fields(struct):
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
