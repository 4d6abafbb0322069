"""Several devices of one PC: each is a host with an engine, a unit and a turn of its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from pleb_agent.app.home import Home
from pleb_agent.core.agent_state import Activity, AssignmentState
from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readiness import HELD_BACK, PolicyReason
from pleb_agent.core.readings import Gpu
from pleb_agent.loop.attach import leave_host
from pleb_agent.worker.errors import DeviceRefused, WorkerDied
from pleb_shared.errors import RefusalCode
from pleb_shared.protocol.messages import RefusalBody
from tests.integration.agent_home import CLOCK, Agent, attached, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.fake_engine import RUNTIME, FakeEngine
from tests.integration.test_agentd_numerics import demand_strict

CARDS = ["cuda-0", "cuda-1"]
WITH_CARDS = Preferences(use_gpu=True)


def card_engine(step_seconds: float = 0.01) -> FakeEngine:
    engine = FakeEngine(step_seconds=step_seconds)
    engine.runtime = msgspec.structs.replace(RUNTIME, device="cuda", capability="sm_90x132")
    return engine


def by_device(coordinator, agent) -> dict[str, list[int]]:
    """Return which assignments each device of the PC has delivered."""
    devices = {row.host: row.device for row in agent.journal.hosts()}
    found: dict[str, list[int]] = {device: [] for device in devices.values()}
    for number in delivered(coordinator):
        found[devices[coordinator.given[number].manifest.host]].append(number)
    return found


ENERGY = """SELECT sum(value) AS value FROM counters
    WHERE project = ? AND name = 'energy_kwh'"""


async def with_a_unit_in_hand(agent, device: str) -> None:
    """Run a device until it computes a unit, and stop."""
    loop = agent.side_by_side({device: card_engine(0.05)})
    task = asyncio.create_task(loop.run())
    await until(lambda: any(unit.device == device for unit in loop.status.units), 10)
    loop.stop()
    await ended(task)


async def ended(task: asyncio.Task[None], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        await task


def test_one_project_uses_all_devices_each_as_a_host_of_its_own(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            engines = {name: card_engine() for name in CARDS}
            coordinator.plan(30)
            loop = agent.side_by_side(engines, units=30)
            most_units = 0
            task = asyncio.create_task(loop.run())
            while not task.done():
                most_units = max(most_units, len(loop.status.units))
                await asyncio.sleep(0.005)
            await ended(task)
            assert loop.status.units_finished == 30
            assert most_units == 3
            done = by_device(coordinator, agent)
            assert set(done) == {"cpu", *CARDS}
            assert all(len(numbers) >= 5 for numbers in done.values())
            runtimes = {request.host: request.runtime.device for request in coordinator.requests}
            assert runtimes == {
                row.host: "cpu" if row.device == "cpu" else "cuda" for row in agent.journal.hosts()
            }
            accounts = {coordinator.accounts[row.host] for row in agent.journal.hosts()}
            assert len(accounts) == 1
            # to the faces it is one project, with the sums of all devices
            assert [row.device for row in agent.journal.projects()] == ["cpu"]
            assert agent.journal.counters(1)["units_done"] == loop.status.units_finished
            energy = {
                row.device: agent.journal.rows(ENERGY, (row.id,)) for row in agent.journal.hosts()
            }
            assert energy["cuda-0"][0]["value"] > energy["cpu"][0]["value"] > 0
            # a file that all need is fetched once
            public = [coordinator.metadata.training_graph.digest]
            assert [coordinator.blob_requests.count(digest) for digest in public] == [1]

    asyncio.run(story())


def test_a_project_in_strict_numerics_is_left_to_the_processor(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            await agent.work(units=1)
            demand_strict(coordinator)
            coordinator.plan(4)
            await agent.work(units=1, seconds=40)  # learns of it
            agent.preferences = WITH_CARDS
            engines = {"cuda-0": card_engine()}
            await ended(asyncio.create_task(agent.side_by_side(engines, units=3).run()))
            assert [row.device for row in agent.journal.hosts()] == ["cpu"]
            assert not engines["cuda-0"].jobs
            assert not list((tmp_path / "keys").glob("cuda-0*"))
            assert delivered(coordinator) == [1, 2, 3, 4, 5]

    asyncio.run(story())


def test_a_card_that_is_off_is_never_started_nor_enrolled(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            engines = {name: card_engine() for name in CARDS}
            agent.preferences = msgspec.structs.replace(WITH_CARDS, devices_off=["cuda-1"])
            coordinator.plan(6)
            await ended(asyncio.create_task(agent.side_by_side(engines, units=6).run()))
            assert not engines["cuda-1"].jobs
            assert not engines["cuda-1"].is_warm
            assert {row.device for row in agent.journal.hosts()} <= {"cpu", "cuda-0"}

    asyncio.run(story())


def test_the_processor_may_stay_free_while_a_card_works(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            agent.preferences = msgspec.structs.replace(WITH_CARDS, devices_off=["cpu"])
            engines = {"cuda-0": card_engine()}
            coordinator.plan(4)
            loop = agent.side_by_side(engines, units=4)
            task = asyncio.create_task(loop.run())
            await until(lambda: loop.status.unit is not None)
            assert loop.status.unit.device == "cuda-0"
            assert loop.state().activity is Activity.WORKING
            await ended(task)
            assert not agent.engine.jobs
            assert len(by_device(coordinator, agent)["cuda-0"]) == 4

    asyncio.run(story())


def test_a_pause_of_one_device_leaves_the_others_at_work(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            engines = {name: card_engine() for name in CARDS}
            coordinator.plan(200)
            loop = agent.side_by_side(engines)
            task = asyncio.create_task(loop.run())
            await until(lambda: len(loop.status.units) == 3, 10)
            pause = (("cuda-0", Override(OverrideKind.PAUSE)),)
            agent.readings = replace(agent.readings, device_pauses=pause)
            loop.look_again()
            await until(lambda: not engines["cuda-0"].free.is_set())
            steps = {name: engine.steps_computed for name, engine in engines.items()}
            cpu_steps = agent.engine.steps_computed
            await until(lambda: engines["cuda-1"].steps_computed > steps["cuda-1"] + 20)
            await until(lambda: agent.engine.steps_computed > cpu_steps + 20)
            assert engines["cuda-0"].steps_computed <= steps["cuda-0"] + 1
            agent.readings = replace(agent.readings, device_pauses=())
            loop.look_again()
            await until(lambda: engines["cuda-0"].steps_computed > steps["cuda-0"] + 5)
            loop.stop()
            await ended(task)

    asyncio.run(story())


def test_a_card_whose_memory_others_want_leaves_it_and_the_unit_goes_on_later(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            engine = card_engine(0.05)
            engine.steps = 40
            coordinator.plan(50)
            loop = agent.side_by_side({"cuda-0": engine})
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed > 3)
            gib = 2**30
            full = Gpu("Card", 0.0, 8 * gib - 1000, 8 * gib, "cuda-0", 50.0, gib)
            agent.readings = replace(agent.readings, now=1.0, gpus=(full,))
            loop.look_again()
            await until(lambda: not engine.is_warm)  # the process has left, with a checkpoint
            job = engine.jobs[-1]
            assert engine.steps_before(job) > 3
            assert agent.engine.is_warm
            there = replace(full, memory_used_bytes=gib)
            agent.readings = replace(agent.readings, now=100.0, gpus=(there,))
            loop.look_again()
            await asyncio.sleep(0.1)
            agent.readings = replace(agent.readings, now=200.0)
            loop.look_again()
            await until(lambda: len(engine.jobs) > 1)
            assert engine.jobs[-1].name == job.name
            loop.stop()
            await ended(task)

    asyncio.run(story())


def test_an_engine_that_dies_costs_its_own_device_a_try_and_no_other(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            engine = card_engine()
            engine.failures.extend([WorkerDied("lost"), WorkerDied("lost")])
            coordinator.plan(400)
            loop = agent.side_by_side({"cuda-0": engine})
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed > 10, 20)
            assert agent.engine.steps_computed > 10
            loop.stop()
            await ended(task)
            failures = [
                r for r in coordinator.results() if type(r.result).__name__ == "FailureResult"
            ]
            assert len(failures) == 1

    asyncio.run(story())


def test_a_card_that_refuses_a_unit_gives_it_back_and_takes_no_other(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            engine = card_engine()
            engine.failures.extend([DeviceRefused("The driver of cuda-0 does not start: 3")] * 9)
            coordinator.plan(30)
            loop = agent.side_by_side({"cuda-0": engine})
            task = asyncio.create_task(loop.run())
            await until(lambda: loop.loops[1].state().activity is Activity.PROBLEM, 10)
            await until(lambda: len(delivered(coordinator)) > 5, 10)
            assert len(engine.jobs) == 1
            assert not agent.journal.open_assignments(device="cuda-0")
            told = [str(event.sentence) for event in agent.journal.events(None, 99)]
            assert told.count("The driver of cuda-0 does not start: 3") == 1
            engine.failures.clear()
            loop.renew_engine()  # another build of PyTorch is there
            await until(lambda: by_device(coordinator, agent)["cuda-0"], 10)
            loop.stop()
            await ended(task)

    asyncio.run(story())


def test_a_restart_goes_on_with_each_device_where_it_was(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.03)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            engines = {name: card_engine(0.03) for name in CARDS}
            coordinator.plan(9)
            loop = agent.side_by_side(engines)
            task = asyncio.create_task(loop.run())
            all_engines = [agent.engine, *engines.values()]
            await until(lambda: all(engine.steps_computed > 1 for engine in all_engines), 20)
            loop.stop()
            await ended(task)
            received = [
                row.project
                for row in agent.journal.open_assignments()
                if row.state is AssignmentState.RECEIVED
            ]
            hosts = {row.host for row in agent.journal.hosts()}
            loop = agent.side_by_side(engines, units=9)
            await ended(asyncio.create_task(loop.run()))
            assert {row.host for row in agent.journal.hosts()} == hosts
            assert len(set(received)) >= 2
            finished = delivered(coordinator)
            assert len(finished) == len(set(finished)) >= 9

    asyncio.run(story())


def test_leaving_a_project_leaves_it_with_every_device(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.02)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            engines = {"cuda-0": card_engine(0.02)}
            coordinator.plan(100)
            loop = agent.side_by_side(engines)
            task = asyncio.create_task(loop.run())
            await until(lambda: len(loop.status.units) == 2, 10)
            # one that is off has its row, and leaves too
            agent.preferences = msgspec.structs.replace(WITH_CARDS, use_gpu=False)
            loop.look_again()
            await until(lambda: len(loop.status.units) == 1, 10)
            agent.journal.mark_detaching(1)
            await loop.leave(1)
            await until(lambda: not agent.journal.hosts(), 10)
            assert not any((tmp_path / "keys").iterdir())
            loop.stop()
            await ended(task)

    asyncio.run(story())


def test_a_card_without_its_pytorch_becomes_no_host(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            engine = card_engine()
            engine.lacks_runtime = True
            coordinator.plan(100)
            loop = agent.side_by_side({"cuda-0": engine})
            task = asyncio.create_task(loop.run())
            await until(lambda: len(delivered(coordinator)) > 2, 10)
            assert [row.device for row in agent.journal.hosts()] == ["cpu"]
            assert "not here yet" in str(loop.loops[1].state().sentence)
            engine.lacks_runtime = False
            loop.renew_engine()
            await until(lambda: by_device(coordinator, agent).get("cuda-0"), 10)
            loop.stop()
            await ended(task)

    asyncio.run(story())


def test_a_device_that_may_not_join_says_why_and_the_others_work(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            refusal = RefusalBody(code=RefusalCode.RATE_LIMITED, message="Too many.")
            coordinator.faults.refuse_enrolments.extend([refusal, refusal])
            coordinator.plan(5)
            loop = agent.side_by_side({"cuda-0": card_engine()})
            task = asyncio.create_task(loop.run())
            await until(lambda: agent.journal.events(None, 9), 10)
            await until(
                lambda: any(
                    "cuda-0 cannot join words" in str(e.sentence)
                    for e in agent.journal.events(None, 9)
                ),
                10,
            )
            await until(lambda: len(delivered(coordinator)) == 5, 10)
            assert len(agent.journal.hosts()) == 1
            loop.loops[1]._projects._enrol_at.clear()  # five minutes later
            loop.changed()
            await until(lambda: not coordinator.faults.refuse_enrolments)
            await asyncio.sleep(0.1)
            told = str([str(event.sentence) for event in agent.journal.events(None, 99)])
            assert told.count("cuda-0 cannot join words") == 1
            agent.journal.mark_detaching(1)
            await loop.leave(1)
            await until(lambda: not any((tmp_path / "keys").iterdir()))
            loop.stop()
            await ended(task)

    asyncio.run(story())


@pytest.mark.parametrize("units", [1, 4])
def test_all_devices_together_finish_as_many_units_as_wanted_and_no_more(tmp_path, units):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            coordinator.plan(20)
            engines = {name: card_engine() for name in CARDS}
            for name in CARDS:  # all are hosts already, and ask at once
                await agent.attaching().add_device(agent.journal.projects()[0], name)
            await ended(asyncio.create_task(agent.side_by_side(engines, units=units).run()))
            assert len(coordinator.given) == units
            assert len(delivered(coordinator)) == units

    asyncio.run(story())


def test_a_unit_of_a_card_that_is_gone_is_not_waited_for_beyond_its_lease(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            coordinator.plan(20)
            await with_a_unit_in_hand(agent, "cuda-0")
            gone = agent.journal.hosts()[1].id
            agent.journal.db.execute(
                "UPDATE assignments SET lease_ends_at = ? WHERE project = ?", (CLOCK() - 1, gone)
            )
            loop = agent.side_by_side({}, units=3)
            await ended(asyncio.create_task(loop.run()))
            assert loop.status.units_finished == 3

    asyncio.run(story())


def test_a_project_is_left_for_a_card_that_is_gone_too(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            coordinator.plan(20)
            await with_a_unit_in_hand(agent, "cuda-0")
            agent.journal.mark_detaching(1)  # while no agent runs
            loop = agent.side_by_side({})
            task = asyncio.create_task(loop.run())
            await until(lambda: not agent.journal.hosts(), 10)
            await until(lambda: not any((tmp_path / "keys").iterdir()))
            loop.stop()
            await ended(task)

    asyncio.run(story())


def test_a_card_that_joins_while_the_project_is_left_does_not_stay_in_it(tmp_path):
    async def story():
        async with attached(tmp_path) as (_, agent):
            row = agent.journal.projects()[0]
            attaching, enrols = agent.attaching(), asyncio.Event()

            def make_client(link):
                client = agent.make_client(link)
                enrol = client.enrol

                async def slowly(name, request):
                    answer = await enrol(name, request)
                    enrols.set()
                    await asyncio.sleep(0.05)
                    return answer

                client.enrol = slowly
                return client

            joining = asyncio.create_task(
                replace(attaching, make_client=make_client).add_device(row, "cuda-0")
            )
            await enrols.wait()
            leave_host(agent.journal, attaching.keys, row)
            assert await joining is None
            assert not agent.journal.hosts()
            assert not any((tmp_path / "keys").iterdir())

    asyncio.run(story())


@pytest.mark.parametrize("held", ["off", "paused"])
def test_a_finishing_agent_does_not_wait_for_a_card_that_is_held_back(tmp_path, held):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.02)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            coordinator.plan(100)
            loop = agent.side_by_side({"cuda-0": card_engine(0.02)})
            task = asyncio.create_task(loop.run())
            await until(lambda: len(loop.status.units) == 2, 10)
            if held == "off":
                agent.preferences = msgspec.structs.replace(WITH_CARDS, devices_off=["cuda-0"])
            else:
                pause = (("cuda-0", Override(OverrideKind.PAUSE)),)
                agent.readings = replace(agent.readings, device_pauses=pause)
            loop.look_again()
            await until(lambda: loop.loops[1].governor.decision.reason in HELD_BACK)
            loop.stop(finish=True)
            await ended(task)
            left = agent.journal.open_assignments()
            assert [row.state for row in left] == [AssignmentState.RECEIVED]
            assert left[0].project == agent.journal.hosts()[1].id

    asyncio.run(story())


def test_a_card_that_is_off_from_the_start_is_no_news(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.01)) as (coordinator, agent):
            coordinator.plan(1)
            loop = agent.side_by_side({"cuda-0": card_engine()}, units=1)
            await ended(asyncio.create_task(loop.run()))
            assert loop.loops[1].governor.decision.reason is PolicyReason.DEVICE_OFF
            assert "cuda-0" not in str([str(e.sentence) for e in agent.journal.events(None, 99)])

    asyncio.run(story())


def test_a_unit_of_a_device_that_is_paused_is_not_computed_while_another_has_none(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.02)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            coordinator.plan(20)
            engine = card_engine()
            engine.lacks_runtime = True
            loop = agent.side_by_side({"cuda-0": engine})
            task = asyncio.create_task(loop.run())
            await until(lambda: loop.is_computing)
            pause = (("cpu", Override(OverrideKind.PAUSE)),)
            agent.readings = replace(agent.readings, device_pauses=pause)
            loop.look_again()
            await until(lambda: not loop.is_computing)
            assert loop.status.unit is not None
            assert loop.governor.may_run
            loop.stop()
            await ended(task)

    asyncio.run(story())


def test_folders_of_devices_that_are_gone_are_known(tmp_path):
    home = Home(tmp_path)
    for name in ("work", "work-cuda-0", "work-cuda-1", "work-mine", "cache"):
        (tmp_path / name).mkdir()
    assert home.work_of_others(["cpu", "cuda-0"]) == [tmp_path / "work-cuda-1"]


def test_the_pc_is_what_its_cards_are_where_the_processor_is_off(tmp_path):
    async def story():
        async with attached(tmp_path) as (_, agent):
            agent.preferences = msgspec.structs.replace(WITH_CARDS, devices_off=["cpu"])
            agent.readings = replace(agent.readings, programs=frozenset({"game"}))
            loop = agent.side_by_side({"cuda-0": card_engine()})
            task = asyncio.create_task(loop.run())
            await until(lambda: loop.governor.decision.reason is PolicyReason.PROGRAM_RUNS)
            assert loop.state().activity is Activity.PAUSED
            loop.stop()
            await ended(task)

    asyncio.run(story())


@pytest.mark.parametrize("cards", [0, 2])
def test_a_finishing_agent_ends_when_every_device_has_reported(tmp_path, cards):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.02)) as (coordinator, agent):
            agent.preferences = WITH_CARDS
            coordinator.plan(100)
            engines = {name: card_engine(0.02) for name in CARDS[:cards]}
            loop = agent.side_by_side(engines)
            task = asyncio.create_task(loop.run())
            await until(lambda: len(loop.status.units) == 1 + cards, 10)
            loop.stop(finish=True)
            await ended(task)
            assert not agent.journal.open_assignments()

    asyncio.run(story())


def test_a_journal_of_one_device_becomes_one_of_several(tmp_path):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        agent = Agent(tmp_path)
        async with serving(coordinator) as url:
            await agent.attach(coordinator.link(url))
            row = await agent.attaching().add_device(agent.journal.projects()[0], "cuda-0")
            again = await agent.attaching().add_device(agent.journal.projects()[0], "cuda-0")
            assert row is not None
            assert again is not None
            assert (row.id, row.host) == (again.id, again.host)
            assert row.account_key_file == agent.journal.projects()[0].account_key_file
            assert row.host != agent.journal.projects()[0].host
            assert [one.device for one in agent.journal.hosts(1)] == ["cpu", "cuda-0"]
        agent.journal.close()

    asyncio.run(story())
