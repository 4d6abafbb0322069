"""BOINC's way with the same hosts: fixed units, first come, one deadline for all.

A model of its scheduler, not BOINC itself: whoever asks gets the next unit of the round; a unit
that misses its deadline goes to another host; hosts have long records, so adaptive replication
repeats one unit in twenty; the round is over when all its units are. BOINC has no rounds: a project
whose next work depends on this one's results (synchronous training) makes it then.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pleb_coordinator.simulation.hosts import HostPlan, make_hosts
from pleb_coordinator.simulation.presence import Presence
from pleb_coordinator.simulation.throughput import round_ratio

if TYPE_CHECKING:
    from pleb_coordinator.simulation.settings import Settings

_START: Final = 1_800_000_000.0
_REPEATED: Final = 0.05
_ASK_SECONDS: Final = 60.0


@dataclass
class _Unit:
    """A unit, or the copy that repeats one: two results are two of these."""

    done: bool = False
    copies: int = 0


@dataclass
class _Host:
    plan: HostPlan
    presence: Presence


@dataclass
class BoincFleet:
    """The hosts of `settings`, served as BOINC would."""

    settings: Settings
    from_hours: float
    events: list[tuple[float, int, str, Any]] = field(default_factory=list)
    rounds_at: list[float] = field(default_factory=list)
    finished: int = 0
    useful: int = 0
    late: int = 0
    _number: int = 0

    def run(self) -> dict[str, Any]:
        """Return what the other policies are measured by."""
        settings, start = self.settings, _START + 3600 * self.from_hours
        generator = np.random.default_rng(settings.seed)
        hosts = [
            _Host(plan, Presence(plan.habits, np.random.default_rng((settings.seed, 2, n)), _START))
            for n, plan in enumerate(make_hosts(settings.fleet, generator))
        ]
        for host in hosts:
            self._at(host.presence.on_from(_START + host.plan.joins_at), "ask", host)
        open_units = self._new_round(generator)
        unsent = deque(open_units)
        end = _START + 3600 * settings.hours
        while self.events and self.events[0][0] <= end:
            now, _, what, about = heapq.heappop(self.events)
            if what == "deadline":
                unit, copy = about
                if not unit.done and copy == unit.copies:
                    unsent.append(unit)
                continue
            host, unit = about if what == "report" else (about, None)
            if unit is not None:
                self.finished += now >= start
                self.late += now >= start and unit.done
                self.useful += now >= start and not unit.done
                unit.done = True
                if all(found.done for found in open_units):
                    if now >= start:
                        self.rounds_at.append(now)
                    open_units = self._new_round(generator)
                    unsent = deque(open_units)
            if not unsent:
                self._at(host.presence.on_from(now + _ASK_SECONDS), "ask", host)
                continue
            given = unsent.popleft()
            given.copies += 1
            seconds = host.plan.unit_seconds * generator.uniform(0.95, 1.05)
            done = host.presence.finished(now, seconds)
            self._at(done, "report", (host, given))
            self._at(now + settings.lease_seconds, "deadline", (given, given.copies))
        return self._figures(hosts)

    def _new_round(self, generator: np.random.Generator) -> list[_Unit]:
        count = self.settings.round.units
        repeated = int((generator.random(count) < _REPEATED).sum())
        return [_Unit() for _ in range(count + repeated)]

    def _at(self, at: float, what: str, about: Any) -> None:
        self._number += 1
        heapq.heappush(self.events, (at, self._number, what, about))

    def _figures(self, hosts: list[_Host]) -> dict[str, Any]:
        first, last = self.rounds_at[0], self.rounds_at[-1]
        capacity = sum(
            host.presence.on_between(first, last) / host.plan.unit_seconds for host in hosts
        )
        rounds = [(after - before) / 60 for before, after in pairwise(self.rounds_at)]
        units = self.settings.round.units * len(rounds)
        return {
            "share_of_summed_speed": units / capacity,
            "useful_work": self.useful / max(1, self.finished),
            "late_units": self.late,
            "rounds": len(rounds),
            "median_round_minutes": float(np.median(rounds)),
            "slowest_tenth_round_ratio": round_ratio(rounds),
            "hosts": sum(not host.plan.trusted for host in hosts),
        }
