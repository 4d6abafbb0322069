"""agentd and a project that demands strict numerics: computed so and reported so, or not at all."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from tests.integration.agent_home import attached, delivered, until


def demand_strict(coordinator):
    """Let the project demand strict numerics from its next metadata on."""
    verification = replace(coordinator.metadata.verification, numerics="strict")
    coordinator.publish(verification=verification)


def test_a_strict_project_gets_strict_jobs_and_a_runtime_of_its_own(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            await agent.work(units=1)
            demand_strict(coordinator)
            coordinator.plan(2)
            await agent.work(units=2, seconds=40)
            assert delivered(coordinator) == [1, 2, 3]
            assert [job.numerics for job in agent.engine.jobs] == ["native", "strict", "strict"]
            runtimes = [request.runtime for request in coordinator.requests]
            native, strict = runtimes[0], runtimes[-1]
            assert native == agent.engine.runtime
            assert strict == native.under("strict") != native

    asyncio.run(story())


def test_a_pc_without_avx2_says_so_and_asks_a_strict_project_for_nothing(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            await agent.work(units=1)
            demand_strict(coordinator)
            asked = len(coordinator.requests)
            agent.engine.runtime = replace(agent.engine.runtime, capability="DEFAULT")
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: "a processor with AVX2" in (loop.problems().get(1) or ""), 20)
            assert all(not request.max_units for request in coordinator.requests[asked + 1 :])
            loop.stop()
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]

    asyncio.run(story())
