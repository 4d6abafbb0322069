"""Three PCs of one household on one network: real servers and messages, played agents."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest

from pleb_agent.blobs.standing import Standings
from pleb_agent.client.network import NO_LIMITS
from pleb_agent.control.household_control import HouseholdControl
from pleb_agent.core.preferences import Preferences
from pleb_agent.core.readings import Power, PowerSource, Readings
from pleb_agent.lan import sharing
from pleb_agent.lan.household import Household, HouseholdAct
from pleb_agent.lan.sharing import LanSharing
from pleb_shared.errors import InputError
from tests.integration.agent_home import until
from tests.integration.page_agent import PageAgent
from tests.integration.test_lan_sharing import Air


@pytest.fixture(autouse=True)
def _air(monkeypatch):
    monkeypatch.setattr(sharing, "BeaconSocket", Air().socket)


class Pc:
    """An agent with its household, without projects."""

    def __init__(self, folder, name):
        folder.mkdir(exist_ok=True)
        peer = secrets.token_bytes(8)
        self.agent = PageAgent()
        self.preferences = Preferences()
        self.readings = Readings(now=0)
        self.household = Household(folder / "household.secret", peer.hex(), time.time)
        self.lan = LanSharing(
            peer,
            NO_LIMITS,
            Standings(),
            lambda: self.preferences,
            lambda: self.readings,
            time.time,
            self.household,
        )
        self.household.on_change = self.lan.look_again
        self.control = HouseholdControl(
            self.household, self.lan, NO_LIMITS, self.agent.controller, lambda: name
        )
        self.household.answer = self.control.answer

    @property
    def paused(self):
        return self.agent.reader.overrides.in_force.kind.value == "pause"


@asynccontextmanager
async def network(tmp_path, names):
    async with AsyncExitStack() as stack:
        found = []
        for name in names:
            pc = Pc(tmp_path / name, name)
            task = asyncio.create_task(pc.lan.run())
            stack.push_async_callback(_ended, task)
            found.append(pc)
        yield found


async def _ended(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def join(first, other):
    code = (await first.control.show_code()).code
    view = await other.control.join(code)
    assert view.on
    await until(lambda: len(first.lan.with_key(first.household.member_key)) > 0)


@asynccontextmanager
async def household(tmp_path, names=("den", "hall", "attic")):
    async with network(tmp_path, names) as pcs:
        first, *others = pcs
        for other in others:
            await join(first, other)
        for pc in pcs:
            pc.lan.ask_around()
        key = first.household.member_key
        await until(lambda: all(len(pc.lan.with_key(key)) == len(pcs) - 1 for pc in pcs))
        yield pcs


def test_any_page_shows_all_of_them_and_what_they_gave_together(tmp_path):
    async def story():
        async with household(tmp_path) as pcs:
            for pc in pcs:
                view = await pc.control.view()
                assert [one.name for one in view.members][1:] == sorted(
                    other.control.name() for other in pcs if other is not pc
                )
                assert view.members[0].name == pc.control.name()
                assert [one.here for one in view.members] == [True, False, False]
                assert all(one.reached for one in view.members)
                alone = pc.agent.reader.contribution(1).total
                assert view.accepted == pytest.approx(3 * alone.accepted)
                assert view.energy_kwh == pytest.approx(3 * alone.energy_kwh)
                said = view.members[1].message
                assert said.text == pc.agent.status().message.text
                assert view.members[1].projects == ["Shakespeare, letter by letter"]

    asyncio.run(story())


def test_pause_all_pauses_all_and_resume_all_resumes_all(tmp_path):
    async def story():
        async with household(tmp_path) as pcs:
            view = await pcs[1].control.view(HouseholdAct.PAUSE)
            assert [pc.paused for pc in pcs] == [True] * 3
            assert len(view.members) == 3
            await pcs[2].control.view(HouseholdAct.RESUME)
            assert [pc.paused for pc in pcs] == [False] * 3

    asyncio.run(story())


def test_one_preset_for_all(tmp_path):
    async def story():
        async with household(tmp_path, ("den", "hall")) as pcs:
            await pcs[0].control.view(HouseholdAct.PRESET, "full")
            for pc in pcs:
                assert pc.agent.values.while_in_use
            with pytest.raises(InputError, match="no preset 'loud'"):
                await pcs[0].control.view(HouseholdAct.PRESET, "loud")

    asyncio.run(story())


def test_a_pc_that_does_not_answer_holds_nobody_up(tmp_path):
    async def story():
        async with household(tmp_path) as pcs:
            pcs[2].household.answer = None
            view = await pcs[0].control.view(HouseholdAct.PAUSE)
            assert [one.reached for one in view.members].count(False) == 1
            assert [pc.paused for pc in pcs] == [True, True, False]

    asyncio.run(story())


def test_a_household_works_where_blobs_may_not_be_shared(tmp_path):
    """On battery nothing is shared, but the PC can be seen and paused."""

    async def story():
        async with network(tmp_path, ("den", "hall")) as (first, other):
            other.readings = Readings(now=0, power=Power(PowerSource.BATTERY, 50))
            await join(first, other)
            view = await first.control.view(HouseholdAct.PAUSE)
            assert [one.reached for one in view.members] == [True, True]
            assert other.paused

    asyncio.run(story())


def test_a_wrong_code_finds_nobody_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("pleb_agent.control.household_control._FIND_SECONDS", 0.5)

    async def story():
        async with network(tmp_path, ("den", "hall")) as (first, other):
            await first.control.show_code()
            with pytest.raises(InputError, match="No PC near by shows that code"):
                await other.control.join("ABCD-EFGH-JK23")
            assert other.household.key is None
            assert other.household.beacon_keys == []
            assert not (await other.control.view()).on

    asyncio.run(story())


def test_strangers_and_pcs_that_left_see_and_change_nothing(tmp_path):
    async def story():
        async with household(tmp_path) as (first, other, third):
            await third.control.leave()
            assert not (await third.control.view()).on
            url = f"http://127.0.0.1:{other.lan.port}"
            async with httpx.AsyncClient() as client:
                for path in ("/household", "/household/join"):
                    for body in (b"", b"x" * 500):
                        answer = await client.post(url + path, content=body)
                        assert answer.status_code == 403
                    answer = await client.post(url + path, content=b"x" * 70_000)
                    assert answer.status_code == 413
                assert (await client.get(url + "/household")).status_code == 405
            view = await first.control.view()
            assert {one.name for one in view.members if one.reached} == {"den", "hall"}

    asyncio.run(story())


def test_without_a_household_nothing_listens_and_nothing_is_sent(tmp_path):
    async def story():
        async with network(tmp_path, ("den",)) as (pc,):
            await asyncio.sleep(0.1)
            assert pc.lan.port == 0
            assert not (await pc.control.view()).on
            await pc.control.show_code()
            await until(lambda: pc.lan.port)
            await pc.control.leave()
            await until(lambda: not pc.lan.port)

    asyncio.run(story())


def test_a_pc_cannot_be_in_two_households(tmp_path):
    async def story():
        async with network(tmp_path, ("den", "hall")) as (first, other):
            await other.control.show_code()
            code = (await first.control.show_code()).code
            with pytest.raises(InputError, match="in a household already"):
                await other.control.join(code)

    asyncio.run(story())
