"""What units took, measured or estimated, from the engine to the receipts and the day's sums."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from pleb_agent.control.receipt_reader import read_receipts
from pleb_agent.core.energy import kwh
from pleb_agent.core.preferences import Preferences
from pleb_agent.journal.activity_log import local_day
from pleb_agent.loop.agent_loop import AgentLoop
from pleb_shared.protocol.messages import UnitVerdict, Verdict
from tests.integration.agent_home import attached, delivered
from tests.integration.fake_engine import FakeEngine


class Meter:
    """Says a hundred joules for each second of computing, or nothing."""

    def __init__(self, *, knows: bool = True) -> None:
        self.knows = knows
        self.pids: list[int | None] = []

    def joules(self, pid, computed_seconds):
        self.pids.append(pid)
        return 100.0 * computed_seconds if self.knows else None


def accepted_units(tmp_path, meter, units=3):
    """Compute some units, which are accepted; return the receipts and the day's sums."""

    async def story():
        engine = FakeEngine(step_seconds=0.001)
        engine.claimed_seconds = 1.5
        async with attached(tmp_path, engine) as (coordinator, agent):
            coordinator.plan(units)
            loop = AgentLoop(replace(agent.services(), meter=meter), None, units=units)
            async with asyncio.timeout(20):
                await loop.run()
            for number in delivered(coordinator):
                verdict = UnitVerdict(
                    assignment=number, verdict=Verdict.VALID, credit=10.0, unit=100 + number
                )
                coordinator.verdicts.append(verdict)
            coordinator.plan(1)
            again = AgentLoop(replace(agent.services(), meter=meter), None, units=1)
            async with asyncio.timeout(20):
                await again.run()
            view = read_receipts(agent.journal, 1, 400.0, time.time(), each=True)
            return view, agent.journal.day(local_day(time.time()))

    return asyncio.run(story())


@pytest.mark.parametrize("knows", [True, False])
def test_receipts_add_up_to_what_was_counted(tmp_path, knows):
    meter = Meter(knows=knows)
    view, day = accepted_units(tmp_path, meter)
    assert view.units == len(view.receipts) == 3
    seconds = 5 * 1.5
    each = 100.0 * seconds / 3.6e6 if knows else None
    for one in view.receipts:
        assert one.measured_kwh == pytest.approx(one.kwh if knows else 0.0)
        if each is not None:
            assert one.kwh == pytest.approx(each)
        assert one.co2_grams == pytest.approx(one.kwh * 400)
    assert sum(one.kwh for one in view.receipts) == pytest.approx(view.kwh)
    # a fourth unit was computed, and has no verdict yet
    assert day["energy_kwh"] == pytest.approx(view.kwh * 4 / 3)
    assert day["measured_kwh"] == pytest.approx(day["energy_kwh"] if knows else 0.0)
    assert view.spent_kwh == pytest.approx(day["energy_kwh"])
    assert set(meter.pids) == {4711}


def test_without_a_meter_it_is_an_estimate(tmp_path):
    view, _ = accepted_units(tmp_path, None, units=1)
    usual = Preferences()
    expected = kwh(7.5, usual.threads, usual.watts_per_thread)
    assert [one.kwh for one in view.receipts] == [pytest.approx(expected)]
    assert view.measured_kwh == 0
