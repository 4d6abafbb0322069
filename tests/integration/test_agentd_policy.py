"""The policy in the agent's loop: what the user does reaches the engine, and work goes on after."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace

from pleb_agent.core.agent_state import Activity
from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readiness import PolicyReason
from pleb_agent.core.sentence import say
from tests.integration.agent_home import attached, delivered, until
from tests.integration.fake_engine import FakeEngine
from tests.unit.agent.policy_moments import FREE, later, someone

IN_USE = replace(FREE, presence=someone(0.0))
KINDS = {EventKind.RUN, EventKind.PAUSE, EventKind.STOP}


@asynccontextmanager
async def computing(tmp_path):
    """A loop that has computed two steps of its only unit on a free desktop."""
    engine = FakeEngine(step_seconds=0.05)
    async with attached(tmp_path, engine) as (coordinator, agent):
        agent.readings = FREE
        coordinator.plan(1)
        loop = agent.loop(units=1)
        task = asyncio.create_task(loop.run())
        await until(lambda: engine.steps_computed == 2)
        try:
            yield coordinator, agent, loop, task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def see(agent, loop, readings):
    agent.readings = readings
    loop.governor.look_again()


def story_of(agent):
    """Return the history's pauses, oldest first."""
    events = [event for event in agent.journal.events(None, 50) if event.kind in KINDS]
    return [(event.kind, str(event.sentence)) for event in reversed(events)]


def test_input_pauses_the_unit_and_idle_time_resumes_it(tmp_path):
    async def story():
        async with computing(tmp_path) as (coordinator, agent, loop, task):
            see(agent, loop, IN_USE)
            began = time.monotonic()
            await until(lambda: not agent.engine.free.is_set())
            assert time.monotonic() - began < 0.15
            await asyncio.sleep(0.2)
            assert agent.engine.steps_computed <= 3
            assert loop.state().activity is Activity.PAUSED
            assert "The PC is in use" in str(loop.state().sentence)
            see(agent, loop, later(IN_USE, 180))
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]
            assert len(agent.engine.jobs) == 1, "it stayed in memory"
            assert story_of(agent) == [
                (EventKind.RUN, "Free to work."),
                (EventKind.PAUSE, "The PC is in use; work resumes 3 min after the last input."),
                (EventKind.RUN, "Free to work."),
            ]

    asyncio.run(story())


def test_input_while_work_is_allowed_makes_it_slower_and_does_not_stop_it(tmp_path):
    async def story():
        async with computing(tmp_path) as (coordinator, agent, loop, task):
            agent.preferences = Preferences(while_in_use=True, cpu_percent_in_use=30)
            see(agent, loop, IN_USE)
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]
            assert [limits.share_percent for limits in agent.engine.limits][-2:] == [100, 30]

    asyncio.run(story())


def test_a_full_disk_stops_the_unit_and_free_space_resumes_it_later(tmp_path):
    async def story():
        async with computing(tmp_path) as (coordinator, agent, loop, task):
            see(agent, loop, replace(FREE, free_disk_bytes=0))
            await until(lambda: not agent.engine.has_job)
            steps = agent.engine.steps_computed
            see(agent, loop, later(FREE, 5))
            await asyncio.sleep(0.2)
            assert loop.governor.decision.reason is PolicyReason.SETTLING
            assert agent.engine.steps_computed == steps
            see(agent, loop, later(FREE, 35))
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]
            assert len(agent.engine.jobs) == 2
            assert agent.engine.steps_computed == agent.engine.steps, "no step was lost"
            assert [kind for kind, _ in story_of(agent)] == [
                EventKind.RUN,
                EventKind.STOP,
                EventKind.PAUSE,
                EventKind.RUN,
            ]

    asyncio.run(story())


def test_what_stops_work_before_it_begins_keeps_it_from_beginning(tmp_path):
    async def story():
        engine = FakeEngine()
        async with attached(tmp_path, engine) as (coordinator, agent):
            agent.readings = FREE
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: coordinator.requests)
            see(agent, loop, replace(FREE, free_disk_bytes=0))
            await until(lambda: loop.governor.decision.reason is PolicyReason.DISK_FULL)
            coordinator.plan(1)
            coordinator.arrived.set()
            await asyncio.sleep(0.3)
            assert engine.steps_computed == 0
            see(agent, loop, later(FREE, 5))
            await until(lambda: loop.governor.decision.reason is PolicyReason.SETTLING)
            see(agent, loop, later(FREE, 40))
            await asyncio.wait_for(task, 10)
            assert delivered(coordinator) == [1]

    asyncio.run(story())


def test_the_coordinator_is_told_when_the_hours_end(tmp_path):
    async def story(hours):
        async with attached(tmp_path / (hours[:3] or "all")) as (coordinator, agent):
            agent.readings = FREE
            agent.preferences = Preferences(hours=hours)
            coordinator.plan(1)
            await agent.work(1)
            return [request.free_seconds for request in coordinator.requests if request.max_units]

    assert set(asyncio.run(story("tue 14:00-14:44"))) == {1800.0}
    assert set(asyncio.run(story(""))) == {None}


def test_the_coordinator_is_told_how_long_the_pc_usually_stays_free(tmp_path):
    async def story(name, *, learn, forget=False):
        async with attached(tmp_path / name) as (coordinator, agent):
            agent.readings = FREE
            agent.preferences = Preferences(learn_habits=learn)
            for days in range(20, 0, -1):  # free for an hour at this time of every day
                began = FREE.now - days * 86_400 - 600
                agent.journal.note_event(Event(began, EventKind.RUN, "", say("Free to work.")))
                agent.journal.note_event(Event(began + 3600, EventKind.PAUSE, "", say("In use.")))
            if forget:
                agent.journal.forget_habits(FREE.now - 60)
            agent.journal.note_event(Event(FREE.now, EventKind.RUN, "", say("Free to work.")))
            coordinator.plan(1)
            await agent.work(1)
            asked = [request for request in coordinator.requests if request.max_units]
            return {request.usually_free_seconds for request in asked}

    assert asyncio.run(story("learns", learn=True)) == {3000.0}
    assert asyncio.run(story("private", learn=False)) == {None}
    assert asyncio.run(story("forgot", learn=True, forget=True)) == {None}
