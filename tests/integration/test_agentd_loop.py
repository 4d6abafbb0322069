"""The agent's loop against an in-memory coordinator over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import itertools
import time

import msgspec
import pytest

from pleb_agent.core.agent_state import Activity, AssignmentState
from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.core.readings import Readings
from pleb_agent.worker.errors import BrokenInput, NotFinite, WorkerDied
from pleb_shared.errors import RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import RefusalBody
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.report import FailureResult
from pleb_shared.protocol.signing import SigningKey
from pleb_shared.protocol.unit import UnitKind
from tests.integration.agent_home import CLOCK, Agent, attached, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.fake_engine import FakeEngine


def test_a_unit_costs_one_request_in_the_steady_state(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(20)
            began = time.monotonic()
            loop = await agent.work(units=20)
            seconds = time.monotonic() - began
            assert loop.status.units_finished == 20
            assert delivered(coordinator) == list(range(1, 21))
            # The first asks, each of the others reports one unit and asks for the next.
            assert len(coordinator.requests) == 21
            assert [len(request.reports) for request in coordinator.requests] == [0] + 20 * [1]
            assert coordinator.requests[-1].max_units == 0
            return seconds

    seconds = asyncio.run(story())
    assert seconds / 20 < 0.15


def test_inputs_are_what_the_manifest_names_and_are_fetched_once(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(6)
            await agent.work(units=6)
            metadata = coordinator.metadata
            seen = agent.engine.inputs[0]
            assert seen["graph.json"] == metadata.training_graph.digest
            assert seen["base.safetensors"] == metadata.model.base.blob.digest
            assert seen["snapshot.safetensors"] == metadata.model.initial.digest
            assert len(coordinator.blob_requests) == len(set(coordinator.blob_requests)) == 7
            assert not any(path.is_file() for path in (tmp_path / "work").rglob("*"))

    asyncio.run(story())


def test_large_deltas_are_uploaded_in_parts_beside_the_work(tmp_path):
    async def story():
        engine = FakeEngine(delta_bytes=200_000)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(3)
            coordinator.faults.cut_uploads = 2
            await agent.work(units=3)
            assert delivered(coordinator) == [1, 2, 3]

    asyncio.run(story())


def test_evaluation_and_calibration_units_are_reported(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.units.append(coordinator.calibration())
            coordinator.plan(1, kind=UnitKind.EVALUATE, local_steps=0)
            await agent.work(units=2)
            kinds = [type(report.result).__name__ for report in coordinator.results()]
            assert kinds == ["DeltaResult", "EvaluationResult"]
            assert agent.engine.inputs[1]["graph.json"] == (
                coordinator.metadata.evaluation_graph.digest
            )

    asyncio.run(story())


@pytest.mark.parametrize(
    ("fault", "count"),
    [
        ("lose_answers", 2),
        ("garbage_answers", 2),
        ("wrong_blobs", 2),
        ("cut_blobs", 2),
    ],
)
def test_a_faulty_network_loses_nothing(tmp_path, fault, count):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(3)
            setattr(coordinator.faults, fault, count)
            await agent.work(units=3)
            assert delivered(coordinator) == [1, 2, 3]
            assert len(coordinator.given) == 3
            reported = [r.assignment for request in coordinator.requests for r in request.reports]
            assert reported == [1, 2, 3]

    asyncio.run(story())


def test_a_busy_coordinator_gets_the_same_bytes_when_it_asked_for_them(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            coordinator.faults.refuse.append(
                RefusalBody(
                    code=RefusalCode.RATE_LIMITED, message="Too fast.", retry_after_seconds=1.5
                )
            )
            began = time.monotonic()
            await agent.work(units=1)
            assert time.monotonic() - began >= 1.5
            assert [request.sequence for request in coordinator.requests] == [1, 2]

    asyncio.run(story())


def test_a_host_that_was_forgotten_enrols_again(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(2)
            await agent.work(units=1)
            coordinator.hosts.clear()
            await agent.work(units=1)
            assert delivered(coordinator) == [1, 2]

    asyncio.run(story())


def test_a_worker_that_dies_once_gets_the_unit_again(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.engine.failures.extend([WorkerDied("killed")])
            await agent.work(units=1)
            assert delivered(coordinator) == [1]
            assert len(agent.engine.jobs) == 2

    asyncio.run(story())


@pytest.mark.parametrize("further", [True, False])
def test_a_worker_that_dies_again_gets_the_unit_as_long_as_it_gets_further(tmp_path, further):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.engine.dies_at.extend([1, 3, 4] if further else [3])
            if not further:
                agent.engine.failures.extend([None, WorkerDied("killed at the same step")])
            await agent.work(units=1)
            assert delivered(coordinator) == ([1] if further else [2])
            assert not agent.engine.dies_at

    asyncio.run(story())


@pytest.mark.parametrize(
    ("failures", "runs"),
    [
        ([WorkerDied("killed"), WorkerDied("killed again")], 2),
        ([NotFinite("the loss is NaN")], 1),
        ([BrokenInput("cut"), BrokenInput("cut again")], 2),
    ],
)
def test_a_unit_that_cannot_be_computed_is_given_back(tmp_path, failures, runs):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.engine.failures.extend(failures)
            await agent.work(units=1)  # the unit comes again, and goes well
            results = [report.result for report in coordinator.results()]
            assert isinstance(results[0], FailureResult)
            assert results[0].reason == str(failures[-1])
            assert delivered(coordinator) == [2]
            assert len(agent.engine.jobs) == runs + 1
            assert agent.journal.counters(1)["units_given_back"] == 1

    asyncio.run(story())


def test_damaged_inputs_are_fetched_again(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.engine.failures.append(BrokenInput("the shard is cut"))
            await agent.work(units=1)
            assert delivered(coordinator) == [1]
            counts = [len(list(g)) for _, g in itertools.groupby(sorted(coordinator.blob_requests))]
            # The shard list was not the unit's own, and the base is as it was.
            assert sorted(counts) == [1, 1, 2, 2, 2]

    asyncio.run(story())


def test_a_unit_whose_lease_ends_is_dropped(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.4)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.lease_seconds = 1.0
            coordinator.plan(1)
            task = asyncio.create_task(agent.work(units=1))
            await until(lambda: agent.journal.counters(1).get("units_late"))
            assert engine.steps_computed < engine.steps
            assert not coordinator.results()
            coordinator.lease_seconds = 60.0
            coordinator.plan(1)
            coordinator.arrived.set()
            await task
            assert delivered(coordinator) == [2]

    asyncio.run(story())


def test_a_paused_engine_computes_nothing_until_it_is_resumed(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.1)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 2)
            agent.readings = Readings(now=0, override=Override(OverrideKind.PAUSE))
            loop.changed()
            await asyncio.sleep(0.3)
            assert engine.steps_computed <= 3
            assert not task.done()
            agent.readings = Readings(now=0)
            loop.changed()
            await asyncio.wait_for(task, 10)
            assert engine.steps_computed == engine.steps
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_a_paused_agent_asks_for_nothing(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.readings = Readings(now=0, override=Override(OverrideKind.PAUSE))
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await asyncio.sleep(0.3)
            assert loop.status.state.activity is Activity.PAUSED
            assert coordinator.requests == []
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_a_stopped_agent_resumes_from_its_checkpoint(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.1)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 3)
            loop.stop()
            await asyncio.wait_for(task, 10)
            assert not coordinator.results()
            await agent.work(units=1)
            assert delivered(coordinator) == [1]
            assert engine.steps_computed <= engine.steps + 1
            assert len(coordinator.given) == 1

    asyncio.run(story())


def test_stopping_with_finish_reports_the_unit_in_hand(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.1, delta_bytes=100_000)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(5)
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 2)
            loop.stop(finish=True)
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]
            assert len(coordinator.given) == 1

    asyncio.run(story())


def test_leaving_a_project_gives_its_unit_back(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.2)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 1)
            agent.journal.mark_detaching(1)
            await loop.leave(1)
            await until(lambda: not agent.journal.projects())
            assert isinstance(coordinator.results()[0].result, FailureResult)
            assert not any((tmp_path / "keys").iterdir())
            assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_newer_metadata_is_fetched_before_the_reply_is_accepted(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            graph = b'{"graph": "new"}'
            coordinator.blobs[digest_of(graph)] = graph
            blob = msgspec.structs.replace(
                coordinator.metadata.training_graph, digest=digest_of(graph), size=len(graph)
            )
            coordinator.publish(training_graph=blob)
            coordinator.plan(1)
            await agent.work(units=1)
            assert agent.engine.inputs[0]["graph.json"] == digest_of(graph)
            assert agent.journal.project(1).memory.metadata_number == 2

    asyncio.run(story())


def test_a_new_epoch_ends_what_is_in_hand_and_work_continues(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.05)) as (coordinator, agent):
            coordinator.latest_version = 7
            coordinator.plan(2)
            task = asyncio.create_task(agent.loop(units=3).run())
            await until(lambda: len(agent.engine.jobs) == 2)
            model = coordinator.metadata.model
            old, start = model.initial.digest, b"another version 0"
            coordinator.blobs[digest_of(start)] = start
            initial = blob_of(start)
            coordinator.latest_version = 0
            coordinator.publish(epoch=1, model=msgspec.structs.replace(model, initial=initial))
            coordinator.units.append(coordinator.calibration())
            coordinator.plan(1)
            await asyncio.wait_for(task, 15)

            # The new version 0 is obeyed although 7 was the latest: that was another epoch.
            memory = agent.journal.project(1).memory
            assert (memory.epoch, memory.latest_version) == (1, 0)
            assert delivered(coordinator) == [1, 3, 4]
            assert [m["snapshot.safetensors"] for m in agent.engine.inputs[-2:]] == 2 * [
                initial.digest
            ]
            # The result that came too late does not count as refused, and nothing old is kept.
            ended = {row.assignment: row.state for row in agent.journal.history(10)}
            assert ended[2] is AssignmentState.LATE
            assert old not in agent.cache.recent(100)
            # The base goes on: it was fetched once.
            base = model.base.blob.digest
            assert {m["base.safetensors"] for m in agent.engine.inputs} == {base}
            assert coordinator.blob_requests.count(base) == 1

    asyncio.run(story())


def _too_many_steps(reply):
    manifests = [
        msgspec.structs.replace(m, unit=msgspec.structs.replace(m.unit, local_steps=50))
        for m in reply.manifests
    ]
    return msgspec.structs.replace(reply, manifests=manifests)


def _other_host(reply):
    return msgspec.structs.replace(reply, host="0" * 64)


def _backwards(reply):
    return msgspec.structs.replace(reply, metadata_number=0)


def _old(reply):
    return msgspec.structs.replace(reply, issued_at=1, expires_at=300)


@pytest.mark.parametrize("change", [_too_many_steps, _other_host, _backwards, _old, None])
def test_a_hostile_answer_is_refused_and_not_asked_for_in_a_loop(tmp_path, change):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            coordinator.faults.change_reply = change
            if change is None:
                coordinator.faults.sign_with = SigningKey.generate()
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: loop.problems().get(1))
            await asyncio.sleep(1.2)
            await until(lambda: loop.status.state.activity is Activity.PROBLEM)
            assert agent.engine.jobs == []
            assert len(coordinator.requests) <= 3
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_an_unreachable_coordinator_is_tried_again(tmp_path):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        agent = Agent(tmp_path)
        async with serving(coordinator) as url:
            await agent.attach(coordinator.link(url))
        loop = agent.loop()
        task = asyncio.create_task(loop.run())
        await until(lambda: loop.status.state.activity is Activity.OFFLINE)
        assert "tries again" in str(loop.status.state.sentence)
        loop.stop()
        await asyncio.wait_for(task, 10)
        agent.journal.close()

    asyncio.run(story())


def test_the_next_unit_is_fetched_while_one_is_trained(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.05)
        engine.claimed_seconds = 10.0
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(3)
            await agent.work(units=3)
            assert delivered(coordinator) == [1, 2, 3]
            asked = [
                (request.max_units, list(request.in_hand), len(request.reports))
                for request in coordinator.requests
            ]
            assert asked == [
                (1, [], 0),
                (1, [1], 0),  # ahead, while unit 1 is trained
                (0, [2], 1),
                (1, [2], 0),
                (0, [3], 1),
                (0, [], 1),
            ]

    asyncio.run(story())


def test_projects_take_turns(tmp_path):
    async def story():
        async with attached(tmp_path) as (first, agent):
            second = FakeCoordinator(CLOCK)
            async with serving(second) as url:
                await agent.attach(second.link(url))
                first.plan(10)
                second.plan(10)
                await agent.work(units=6)
                assert len(delivered(first)) == len(delivered(second)) == 3

    asyncio.run(story())


def test_a_failing_project_does_not_stop_the_others(tmp_path):
    async def story():
        async with attached(tmp_path) as (first, agent):
            second = FakeCoordinator(CLOCK)
            async with serving(second) as url:
                await agent.attach(second.link(url))
                first.faults.garbage_answers = 10**6
                second.plan(4)
                loop = await agent.work(units=4)
                assert delivered(second) == [1, 2, 3, 4]
                assert "not" in loop.problems()[1]
                assert loop.problems()[2] == ""

    asyncio.run(story())


def test_an_engine_that_does_not_start_is_a_problem_and_tried_again(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.engine.start_failures = 1
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: loop.state().activity is Activity.PROBLEM)
            assert str(loop.state().sentence) == "torch is broken"
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_a_runtime_that_is_still_downloading_is_no_problem(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            agent.engine.lacks_runtime = True
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: "not here yet" in str(loop.state().sentence))
            assert loop.state().activity is Activity.IDLE
            assert not [one for one in agent.journal.events(None, 9) if one.kind == "problem"]
            agent.engine.lacks_runtime = False
            loop.changed()
            await asyncio.wait_for(task, 20)
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_a_project_without_its_key_is_a_problem_and_can_be_detached(tmp_path):
    async def story():
        async with attached(tmp_path) as (_, agent):
            for key in (tmp_path / "keys").iterdir():
                key.unlink()
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: loop.state().activity is Activity.PROBLEM)
            assert "key file" in loop.problems()[1]
            agent.journal.mark_detaching(1)
            await loop.leave(1)
            await until(lambda: not agent.journal.projects())
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_an_engine_without_work_frees_its_memory_and_starts_again(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            agent.rest_seconds = 0.3
            coordinator.plan(1)
            loop = agent.loop(units=2)
            task = asyncio.create_task(loop.run())
            await until(lambda: delivered(coordinator) == [1])
            assert agent.engine.is_warm
            await until(lambda: not agent.engine.is_warm)
            coordinator.plan(1)
            coordinator.arrived.set()
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1, 2]

    asyncio.run(story())
