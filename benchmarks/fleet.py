"""Unequal, vanishing PCs: how much of what they could compute comes into the model.

Two fleets, in virtual time on the coordinator's own steps (`pleb_coordinator.simulation`): eight
PCs of speeds 1 to 8 that are always on; and many whose speeds are log-normal (sigma .9, as of
SETI@home and Einstein@home) and which come and go by days, weeks and chance (`presence`). All have
long records, so what is measured is the scheduler, not the start of a fleet. `policies` says
how rounds are given out; `boinc` is a model of BOINC's scheduler with the same hosts.

Samples per second are compared with the sum of what all PCs compute while they are on and free,
so checks, waiting, and results that came too late are losses. Times of the network and of the disk
are not in it.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Final

import msgspec

from benchmarks.fleet_boinc import BoincFleet
from pleb_agent.core.habits import FreeTime, Habits
from pleb_coordinator.simulation.fleet import opened_fleet
from pleb_coordinator.simulation.hosts import FleetPlan
from pleb_coordinator.simulation.presence import HABITS_OF_THE_WORLD
from pleb_coordinator.simulation.settings import Settings
from pleb_coordinator.simulation.throughput import throughput_of
from pleb_shared.protocol.project import Round

if TYPE_CHECKING:
    from collections.abc import Sequence

UNIT_SECONDS: Final = 900.0
"""Of a PC of median speed, or of speed 1 among the eight."""
RECORD: Final = 400
"""Accepted results that hosts start with: they are checked at the least rate."""
BOINC: Final = "boinc"
FINISH_BY: Final = "finish_by"
HABITS: Final = "habits"
THURSDAY: Final = 3
"""1 January 1970, where Monday is 0."""
BOINC_HOURS: Final = 20 * 24.0
POLICIES: Final[dict[str, dict[str, Any]]] = {
    "fixed": {"shortest_unit": 1.0},
    "fitted": {"shortest_unit": 0.25},
    "finish_by": {"shortest_unit": 0.25},
    "habits": {"shortest_unit": 0.25},
}
"""What differs in `Round`: units that are all alike, and such as are shortened to end with it.

Under the last two PCs also say when the hours end in which they may work, and under the last one
for how long they are usually free, as the agent learns it.
"""


def fleets(quick: bool) -> dict[str, tuple[Settings, float]]:
    """Return the fleets, and after how many hours they are measured."""
    eight = FleetPlan(
        hosts=8,
        trusted=0,
        unit_seconds=UNIT_SECONDS,
        speeds=tuple(float(speed) for speed in range(1, 9)),
        record=RECORD,
    )
    count = 60 if quick else 1000
    many = FleetPlan(
        hosts=count,
        trusted=1,
        unit_seconds=UNIT_SECONDS,
        speed_spread=0.9,
        habits=HABITS_OF_THE_WORLD,
        record=RECORD,
    )
    return {
        "eight": (Settings(eight, hours=4 if quick else 24, round=Round(units=64, quorum=48)), 1.0),
        "many": (
            Settings(
                many,
                hours=5 if quick else 48,
                round=Round(units=count, quorum=count * 3 // 4),
                lease_seconds=4 * 3600,
            ),
            2.0,
        ),
    }


def main(quick: bool) -> dict[str, Any]:
    """Return the figures of every fleet under every policy, and the newest policies' on top."""
    cases = [
        (name, policy)
        for name in fleets(quick)
        for policy in (*POLICIES, BOINC)
        if policy not in {FINISH_BY, HABITS} or name == "many"  # the eight have no hours
    ]
    context = get_context("spawn")
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context) as pool:
        found = dict(zip(cases, pool.map(played, cases, [quick] * len(cases)), strict=True))
    eight, many = found["eight", "fitted"], found["many", HABITS]
    return {
        "share_of_summed_speed": eight["share_of_summed_speed"],
        "useful_work": many["useful_work"],
        "lost_units": eight["lost_units"] + many["lost_units"],
        "slowest_tenth_round_ratio": many["slowest_tenth_round_ratio"],
        "in_window": many["in_window"],
        "hosts": many["hosts"],
        "fleets": {
            name: {policy: found[about, policy] for about, policy in cases if about == name}
            for name in fleets(quick)
        },
    }


def played(case: tuple[str, str], quick: bool) -> dict[str, Any]:
    """Return one fleet's figures under one policy."""
    name, policy = case
    settings, from_hours = fleets(quick)[name]
    if policy == BOINC:
        # its rounds are long, and it costs nothing to let it work for long
        return BoincFleet(replace(settings, hours=BOINC_HOURS), from_hours).run()
    changed = msgspec.structs.replace(settings.round, **POLICIES[policy])
    began = time.perf_counter()
    plan = replace(settings.fleet, tells_hours=policy in {FINISH_BY, HABITS})
    learn = usually_free_seconds if policy == HABITS else None
    settings = replace(settings, fleet=plan, round=changed, usually_free=learn)
    with opened_fleet(settings) as fleet:
        fleet.run()
        found = throughput_of(fleet, from_hours)
    return msgspec.structs.asdict(found) | {"wall_seconds": time.perf_counter() - began}


def usually_free_seconds(
    times: Sequence[tuple[float, float]], since: float, now: float
) -> float | None:
    """Return for how long a PC stays free, as the agent estimates it from its times on (UTC)."""
    weekday = (int(now // 86_400) + THURSDAY) % 7
    return Habits([FreeTime(*time) for time in times], since).usually_free_seconds(now, weekday)
