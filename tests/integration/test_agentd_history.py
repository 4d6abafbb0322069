"""What the agent tells of itself, and accounts that several PCs share."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging

import pytest

from pleb_agent.core.agent_state import Activity
from pleb_agent.core.history import Event, EventKind
from pleb_agent.core.override import Override, OverrideKind
from pleb_agent.loop.services import Listener
from pleb_agent.worker.errors import NotFinite
from pleb_shared.errors import InputError, Refusal, RefusalCode, TrustError
from pleb_shared.protocol.ids import AttachLink, parse_attach_link
from pleb_shared.protocol.messages import UnitVerdict, Verdict
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_system.network_errors import BadAnswerError
from tests.integration.agent_home import CLOCK, Agent, attached, delivered, until
from tests.integration.fake_coordinator import FakeCoordinator, serving
from tests.integration.fake_engine import FakeEngine


def verdict(number, which=Verdict.VALID, credit=1e12):
    reason = because(ReasonCode.HOSTS_AGREE, count=2)
    return UnitVerdict(assignment=number, verdict=which, credit=credit, reason=reason, unit=number)


class Recorder(Listener):
    """Keeps the events that it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def happened(self, event: Event) -> None:
        self.events.append(event)


def kinds(agent):
    return [event.kind for event in reversed(agent.journal.events(None, 999))]


def sentences(agent):
    return [str(event.sentence) for event in reversed(agent.journal.events(None, 999))]


# -- history ---------------------------------------------------------------------------------


def test_the_first_accepted_unit_is_reported_once_and_before_all_others(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(4)
            recorder = Recorder()
            loop = agent.loop(units=4, listener=recorder)
            task = asyncio.create_task(loop.run())
            await until(lambda: len(coordinator.requests) >= 2)
            coordinator.verdicts.extend([verdict(1)])
            await asyncio.wait_for(task, 10)
            coordinator.verdicts.extend([verdict(2), verdict(3, Verdict.INVALID, 0.0)])
            coordinator.plan(1)
            await agent.work(units=1)
            first = [event for event in recorder.events if event.kind is EventKind.FIRST_ACCEPTED]
            assert len(first) == 1
            assert first[0].id > 0
            assert kinds(agent).count(EventKind.FIRST_ACCEPTED) == 1
            told = sentences(agent)
            assert "Unit 2 of words was accepted." in told
            assert "Unit 3 of words was refused: 2 hosts agree." in told
            assert agent.journal.our_versions(1) == [1]
            assert agent.journal.totals()["accepted"] == 2

    asyncio.run(story())


def test_every_decision_and_its_reason_enters_the_history(tmp_path):
    async def story():
        async with attached(tmp_path) as (_, agent):
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: EventKind.RUN in kinds(agent))
            agent.readings = dataclasses.replace(
                agent.readings, override=Override(OverrideKind.PAUSE)
            )
            loop.changed()
            await until(lambda: EventKind.PAUSE in kinds(agent))
            loop.changed()
            await asyncio.sleep(0.1)
            told = agent.journal.events(None, 99)
            assert [event.kind for event in told].count(EventKind.PAUSE) == 1
            assert "Paused by you" in str(told[0].sentence)
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_a_problem_enters_the_history_once_and_not_with_each_retry(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.plan(1)
            coordinator.faults.garbage_answers = 3
            await agent.work(units=1)
            assert kinds(agent).count(EventKind.PROBLEM) == 1

    asyncio.run(story())


def test_units_given_back_or_late_enter_the_history_with_their_reason(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.05)
        engine.steps, engine.claimed_seconds = 10_000, 0.3
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            engine.failures.append(NotFinite("the loss is NaN"))
            coordinator.lease_seconds = 3.0
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: agent.journal.counters(1).get("units_late"), 20)
            told = sentences(agent)
            assert "A unit of words was given back: the loss is NaN" in told
            assert any("was late: The lease ended" in one for one in told)
            # What was computed in vain took energy all the same.
            assert agent.journal.counters(1)["compute_seconds"] > 0.2
            assert agent.journal.counters(1)["energy_kwh"] > 0
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_attaching_and_leaving_enter_the_history(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: coordinator.requests)
            agent.journal.mark_detaching(1)
            await loop.leave(1)
            await until(lambda: EventKind.DETACH in kinds(agent))
            assert kinds(agent)[0] is EventKind.ATTACH
            assert loop.state().activity is not Activity.PROBLEM
            loop.stop()
            await asyncio.wait_for(task, 10)

    asyncio.run(story())


def test_a_unit_that_was_stopped_counts_its_seconds_once(tmp_path):
    async def story():
        engine = FakeEngine(step_seconds=0.1)
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(1)
            loop = agent.loop()
            task = asyncio.create_task(loop.run())
            await until(lambda: engine.steps_computed == 3)
            loop.stop()
            await asyncio.wait_for(task, 10)
            await agent.work(units=1)
            seconds = agent.journal.counters(1)["compute_seconds"]
            assert 0.3 <= seconds <= 0.51  # the first total after the restart counts nothing

    asyncio.run(story())


# -- accounts --------------------------------------------------------------------------------


def test_two_pcs_of_one_account(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    async def story():
        async with attached(tmp_path / "one") as (coordinator, first):
            row = first.journal.projects()[0]
            text = first.attaching().account_link(row)
            assert text.startswith("pleb+http://127.0.0.1:")
            second = Agent(tmp_path / "two")
            joined = await second.attach(text)
            hosts = {row.host, joined.host}
            assert len(hosts) == 2
            accounts = {coordinator.accounts[host] for host in hosts}
            assert accounts == {first.attaching().account(row)}
            assert second.attaching().account(joined) == first.attaching().account(row)
            seed = text.partition("&account=")[2]
            assert len(seed) == 64
            assert seed not in joined.link
            assert seed not in repr(parse_attach_link(text))
            assert seed not in str(parse_attach_link(text))
            assert seed not in caplog.text
            coordinator.plan(2)
            await first.work(units=1)
            await second.work(units=1)
            assert delivered(coordinator) == [1, 2]
            second.journal.close()

    asyncio.run(story())


def test_a_pc_with_another_account_of_the_project_keeps_it(tmp_path):
    async def story():
        async with attached(tmp_path / "one") as (coordinator, first):
            text = first.attaching().account_link(first.journal.projects()[0])
            async with serving(coordinator) as url:
                other = Agent(tmp_path / "two")
                await other.attach(coordinator.link(text.split("/join/")[0].replace("pleb+", "")))
                before = other.attaching().account(other.journal.projects()[0])
                with pytest.raises(InputError, match="another account"):
                    await other.attach(text)
                assert other.attaching().account(other.journal.projects()[0]) == before
                other.journal.close()
                del url
            await first.attach(text)  # its own: harmless

    asyncio.run(story())


def test_a_join_that_fails_leaves_no_foreign_key_behind(tmp_path):
    async def story():
        agent = Agent(tmp_path)
        link = AttachLink("http://127.0.0.1:1", "words", "a" * 64)
        with pytest.raises(Exception, match="cannot be reached"):
            await agent.attach(link.with_account("b" * 64))
        assert not any(path.name.endswith("account.key") for path in tmp_path.rglob("*.key"))
        agent.journal.close()

    asyncio.run(story())


# -- looking ---------------------------------------------------------------------------------


def test_looking_at_a_link_verifies_it_and_stores_nothing(tmp_path):
    async def story():
        coordinator = FakeCoordinator(CLOCK)
        agent = Agent(tmp_path)
        async with serving(coordinator) as url:
            looked = await agent.attaching().look_at(coordinator.link(url))
            assert looked.metadata.title == "Words"
            assert agent.journal.projects() == []
            assert not (tmp_path / "keys").exists()
            assert coordinator.hosts == {}
            wrong = AttachLink(url, "words", "0" * 64)
            with pytest.raises(TrustError):
                await agent.attaching().look_at(str(wrong))
        agent.journal.close()

    asyncio.run(story())


def test_the_curve_is_read_tolerantly(tmp_path):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            row = agent.journal.projects()[0]
            point = {"version": 1, "made_at": 1.5, "train_loss": None, "metrics": {"loss": 2}}
            told = {"project": "words", "version": 2, "from_the_future": [{}]}
            coordinator.status = json.dumps(told | {"series": [point, {"version": 2}]}).encode()
            status = await agent.attaching().status(row)
            assert [one.version for one in status.series] == [1, 2]
            assert status.series[0].metrics == {"loss": 2.0}
            assert status.series[1].train_loss is None
            assert agent.journal.totals()["bytes_received"] == len(coordinator.status)

    asyncio.run(story())


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"project": 5}',
        b'{"project": "words", "series": [{"version": -1}]}',
        b'{"project": "words", "series": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"project": "' + b"x" * (5 * 2**20) + b'"}',
    ],
)
def test_an_invalid_status_is_a_typed_error(tmp_path, body):
    async def story():
        async with attached(tmp_path) as (coordinator, agent):
            coordinator.status = body
            with pytest.raises(BadAnswerError):
                await agent.attaching().status(agent.journal.projects()[0])

    asyncio.run(story())


def test_a_wrong_clock_is_said_once_and_no_longer_than_it_is_wrong(tmp_path):
    """Each answer says by how much the clock is off, which is never the same."""

    async def story():
        async with attached(tmp_path, FakeEngine()) as (coordinator, agent):
            coordinator.plan(1)
            hours = [2]

            def check(issued_at: int) -> None:
                if hours[0]:
                    message = f"Yours is {hours[0]} h ahead."
                    raise Refusal(RefusalCode.CLOCK_SKEW, message)

            coordinator._check_clock = check
            loop = agent.loop(units=1)
            task = asyncio.create_task(loop.run())
            await until(lambda: any("clock" in one for one in loop.problems().values()), 15)
            for _ in range(3):
                hours[0] += 1
                (before,) = loop.problems().values()
                loop.changed()
                await until(lambda was=before: [was] != list(loop.problems().values()), 15)
            assert kinds(agent).count(EventKind.PROBLEM) == 1
            hours[0] = 0
            loop.changed()  # as `watch_clock` does
            await asyncio.wait_for(task, 60)
            assert not any(loop.problems().values())

    asyncio.run(story())
