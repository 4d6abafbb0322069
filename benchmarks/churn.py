"""Thousands of PCs that come and go, and a coordinator that does, too: is any work lost?

In virtual time on the coordinator's own steps, with the speeds and habits of `benchmarks.fleet`:
log-normal speeds, days, weeks and Weibull times on and off. Hosts have no records at the start, so
exams and checks of newcomers are in the figures. A result that is finished while the coordinator
is away waits with its host, as agents keep them. The same fleet is played again: with its
coordinator always there; with one that is restored in the middle from a backup half an hour old,
where what it had accepted since is undone, and nothing else may be lost; and with one that is moved
to another store in the middle, and away for an hour meanwhile. `lost_units` are mostly those of
PCs that were off for longer than the lease; of the coordinator's making are `lost_in_time_units`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec

from benchmarks.fleet import POLICIES, usually_free_seconds
from pleb_coordinator.simulation.fleet import opened_fleet
from pleb_coordinator.simulation.hosts import FleetPlan
from pleb_coordinator.simulation.presence import HABITS_OF_THE_WORLD
from pleb_coordinator.simulation.settings import Settings
from pleb_coordinator.simulation.throughput import throughput_of
from pleb_shared.protocol.project import Round

UNIT_SECONDS: Final = 900.0
AWAY_HOURS: Final = 1.0
BACKUP_HOURS: Final = 0.5
"""The age of the backup that a coordinator is restored from."""
FROM_HOURS: Final = 2.0


def settings_of(hosts: int, hours: float) -> Settings:
    """Return the fleet; its coordinator is away for an hour after each third of the time."""
    plan = FleetPlan(
        hosts=hosts,
        trusted=max(1, hosts // 100),
        unit_seconds=UNIT_SECONDS,
        speed_spread=0.9,
        habits=HABITS_OF_THE_WORLD,
        tells_hours=True,
    )
    rounds = Round(units=hosts, quorum=hosts * 3 // 4)
    return Settings(
        plan,
        hours=hours,
        round=msgspec.structs.replace(rounds, **POLICIES["habits"]),
        lease_seconds=4 * 3600,
        outages=((hours / 3, AWAY_HOURS), (2 * hours / 3, AWAY_HOURS)),
        usually_free=usually_free_seconds,
    )


def main(quick: bool) -> dict[str, Any]:
    """Return what became of the work, with the coordinator away and without."""
    settings = settings_of(60, 9.0) if quick else settings_of(2000, 48.0)
    away, always = played(settings), played(replace(settings, outages=()))
    restored = played(replace(settings, restores=((settings.hours / 2, BACKUP_HOURS),)))
    moved = played(replace(settings, moves=((settings.hours / 2, AWAY_HOURS),)))
    return {name: away[name] for name in ("useful_work", "lost_units", "wait_p50_s", "hosts")} | {
        "away": away,
        "always": always,
        "restored": restored,
        "moved": moved,
    }


def played(settings: Settings) -> dict[str, Any]:
    """Return a fleet's figures."""
    with opened_fleet(settings) as fleet:
        fleet.run()
        return msgspec.structs.asdict(throughput_of(fleet, FROM_HOURS))
