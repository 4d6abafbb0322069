"""The flood benchmark's figures: what counts as lost, and what a bad request costs."""

from __future__ import annotations

import pytest

from benchmarks.dispatch_fleet import Group, hosts_of
from benchmarks.flood import figures
from benchmarks.flood_agents import AgentsSeen
from benchmarks.flood_strangers import StrangersPlan, StrangersSeen, bad_requests
from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.messages import PayloadType
from pleb_shared.protocol.signing import verify_bytes


def seen(units: int, lost: int = 0) -> AgentsSeen:
    return AgentsSeen(
        seconds=10, units=units, lost=lost, failed=0, latencies_seconds=[0.01] * units
    )


def test_the_ratio_is_of_units_a_second_and_the_cost_is_beyond_that_of_honest_units():
    bad = StrangersSeen(seconds=10, sent=1000, answers={"400": 990}, taken=0, cpu_seconds=1.0)
    found = figures([seen(100)], [seen(90, lost=2)], [bad], {"calm": 2.0, "flood": 2.3})
    assert found["honest_rate_ratio"] == pytest.approx(0.9)
    assert found["lost_units"] == 2
    assert found["bad_per_minute"] == 6000
    assert found["cpu_ms_per_bad_request"] == pytest.approx(0.5)


def test_a_signature_is_bad_by_itself():
    """Else it would be refused before the dear part, and the flood would be cheaper than it is."""
    plan = StrangersPlan("http://x", "", Group("brisk", 1, [[], []]), 1.0)
    sent = bad_requests(plan)["bad signature"].partition(b"\r\n\r\n")[2]
    host = hosts_of(plan.group)[-1]
    assert host.key.fingerprint.encode() in sent
    with pytest.raises(Refusal) as caught:
        verify_bytes(sent, PayloadType.WORK, host.key.public)
    assert caught.value.code is RefusalCode.BAD_SIGNATURE
