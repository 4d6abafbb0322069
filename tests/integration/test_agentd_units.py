"""What the user does to units and projects: pause one, hand one back, no new work, finish."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from pleb_agent.app.companions import UnitWatch
from pleb_agent.cli import main
from pleb_agent.control.notifier import ChangeNotifier
from pleb_agent.control.overrides import Overrides
from pleb_agent.core.agent_state import Activity
from pleb_agent.core.history import EventKind
from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.core.unit_parts import Held
from pleb_agent.loop.services import Listener
from pleb_shared.errors import InputError
from pleb_shared.protocol.report import FailureResult
from pleb_system.network_errors import UnreachableError, WrongCertificateError
from tests.integration.agent_home import Agent, attached, delivered, until
from tests.integration.fake_engine import FakeEngine


@asynccontextmanager
async def running(loop):
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        loop.stop()
        await asyncio.wait_for(task, 10)


async def hold(agent, loop, number, held):
    assert agent.journal.hold_unit(number, held)
    await loop.unit_held(number)


def test_a_unit_that_is_handed_back_goes_to_another_host_and_the_next_is_computed(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.05)) as (coordinator, agent):
            coordinator.plan(2)
            loop = agent.loop()
            async with running(loop):
                await until(lambda: loop.status.unit is not None and loop.status.unit.steps_done)
                number = loop.status.unit.id
                await hold(agent, loop, number, Held.HANDED_BACK)
                await until(lambda: len(delivered(coordinator)) == 1)
            result = coordinator.given[1].report.result
            assert isinstance(result, FailureResult)
            assert result.reason == "The volunteer handed the unit back."
            assert delivered(coordinator) == [2]

    asyncio.run(story())


def test_a_paused_unit_makes_room_and_goes_on_from_its_checkpoint(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.05)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(2)
            loop = agent.loop()
            async with running(loop):
                await until(lambda: loop.status.unit is not None and loop.status.unit.steps_done)
                number = loop.status.unit.id
                await hold(agent, loop, number, Held.PAUSED)
                await until(lambda: delivered(coordinator) == [2])
                assert engine.steps_computed > engine.steps
                await hold(agent, loop, number, Held.NO)
                await until(lambda: delivered(coordinator) == [1, 2])
            assert engine.steps_computed == 2 * engine.steps, "nothing was computed twice"

    asyncio.run(story())


def test_a_unit_that_stays_paused_ends_with_its_lease(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.05)) as (coordinator, agent):
            coordinator.lease_seconds = 1.0
            coordinator.plan(1)
            loop = agent.loop()
            async with running(loop):
                await until(lambda: loop.status.unit is not None)
                await hold(agent, loop, loop.status.unit.id, Held.PAUSED)
                await until(lambda: not agent.journal.open_assignments(), seconds=10)
            [row] = agent.journal.history(9)
            assert row.note == "The lease ended while the unit was paused."

    asyncio.run(story())


def test_a_project_without_new_work_finishes_what_is_in_hand_and_asks_for_no_more(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.05)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(3)
            loop = agent.loop()
            async with running(loop):
                await until(lambda: loop.status.unit is not None)
                agent.journal.set_no_new_work(1, on=True)
                loop.changed()
                await until(lambda: delivered(coordinator) == [1])
                await until(lambda: "No new work" in str(loop.state().sentence))
                asked = len(coordinator.requests)
                await asyncio.sleep(0.3)
                assert len(coordinator.requests) == asked, "it does not ask again and again"
                agent.journal.set_no_new_work(1, on=False)
                loop.changed()
                await until(lambda: delivered(coordinator) == [1, 2, 3])

    asyncio.run(story())


class Notifying(Listener):
    def __init__(self, notifier):
        self._notifier = notifier

    def changed(self):
        self._notifier.notify()


def test_finish_then_pause_pauses_when_the_last_result_is_delivered(tmp_path):
    async def story():
        async with attached(tmp_path, FakeEngine(step_seconds=0.05)) as (coordinator, agent):
            coordinator.plan(3)
            notifier, overrides = ChangeNotifier(), Overrides(agent.journal)
            loop = agent.loop(listener=Notifying(notifier))
            watch = UnitWatch(cast("Any", loop), notifier, cast("Any", None))
            is_open = lambda: bool(agent.journal.open_assignments())  # noqa: E731
            watching = asyncio.create_task(watch.finish_then_pause(overrides, is_open))
            async with running(loop):
                await until(lambda: loop.status.unit is not None)
                agent.readings = agent.readings.__class__(
                    now=0, override=Override(OverrideKind.FINISH)
                )
                overrides.finish()
                loop.changed()
                await until(lambda: overrides.in_force.kind is OverrideKind.PAUSE)
                assert delivered(coordinator) == [1]
            assert Overrides(agent.journal).in_force.kind is OverrideKind.PAUSE, "after a restart"
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(story())


def test_a_project_by_a_second_address_is_refused_instead_of_made_a_second_host(tmp_path):
    async def story():
        async with attached(tmp_path) as (_, agent):
            [row] = agent.journal.projects()
            other = row.link.replace("127.0.0.1", "localhost")
            with pytest.raises(InputError, match=r"attached already, by http://127\.0\.0\.1"):
                await agent.attach(other)
            assert len(agent.journal.projects()) == 1

    asyncio.run(story())


def test_another_certificate_needs_the_user_and_is_not_grey(tmp_path):
    async def story():
        async with attached(tmp_path) as (_, agent):
            loop = agent.loop()
            async with running(loop):
                await until(lambda: loop._projects.live)
                project = loop._projects.live[1]
                project.fail(WrongCertificateError("Another certificate."))
                assert loop.state().activity is Activity.PROBLEM
                project.fail(UnreachableError("No network."))
                assert loop.state().activity is Activity.OFFLINE
            kinds = [event.kind for event in agent.journal.events(None, 9)]
            assert EventKind.PROBLEM in kinds
            assert EventKind.OFFLINE in kinds

    asyncio.run(story())


def test_a_first_attach_goes_through_the_proxy_of_the_preferences(tmp_path, capsys):
    home = ["--home", str(tmp_path)]
    assert main(["prefs", "set", *home, "proxy=http://127.0.0.1:1"]) == 0
    assert main(["attach", *home, f"http://host.example/join/words#{'0' * 64}"]) == 5
    assert "through your proxy (nothing answers" in capsys.readouterr().err


def test_a_copied_home_is_told_and_the_sentence_stays(tmp_path):
    async def story():
        async with attached(tmp_path / "one") as (coordinator, agent):
            agent.journal.flush()
            shutil.copytree(tmp_path / "one", tmp_path / "two")
            clone = Agent(tmp_path / "two", FakeEngine(step_seconds=0.01))
            agent.most_wait_seconds = clone.most_wait_seconds = 0.05
            coordinator.plan(60)
            loops = [agent.loop(), clone.loop()]
            async with running(loops[0]), running(loops[1]):
                told = lambda: [text for one in loops for text in one.problems().values() if text]  # noqa: E731
                await until(lambda: any("was copied" in text for text in told()), seconds=20)
                await asyncio.sleep(0.3)
                assert any("was copied" in text for text in told()), "it stays"
            clone.journal.close()

    asyncio.run(story())


def test_a_home_from_a_backup_is_not_taken_for_a_copy(tmp_path):
    async def story():
        async with attached(tmp_path / "one") as (coordinator, agent):
            coordinator.plan(3)
            agent.journal.flush()
            shutil.copytree(tmp_path / "one", tmp_path / "backup")
            await agent.work(units=3)
            restored = Agent(tmp_path / "backup")
            coordinator.plan(2)
            await restored.work(units=2)
            sentences = [str(one.sentence) for one in restored.journal.events(None, 9)]
            assert not [text for text in sentences if "was copied" in text]
            restored.journal.close()

    asyncio.run(story())
