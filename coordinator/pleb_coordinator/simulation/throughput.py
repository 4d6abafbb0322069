"""How much of what a fleet of unequal PCs could compute has come into the model."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.records import Purpose
from pleb_shared.protocol.messages import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pleb_coordinator.simulation.fleet import Fleet
    from pleb_coordinator.simulation.simulated_host import SimulatedHost

__all__ = ["Throughput", "round_ratio", "throughput_of"]

_TENTH: Final = 0.1


class Throughput(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a fleet's time, from the first version after a start-up time to the last."""

    share_of_summed_speed: float
    """Verified samples per second, over those of all PCs together while they are on and free."""
    useful_work: float
    """Part of all finished work that is in the model, or was a check of another host's result."""
    in_model: float
    """Part of all finished work that is in the model."""
    waited: float
    """Part of the time in which free PCs had nothing to compute."""
    wait_p50_s: float
    """Median of the seconds that free PCs waited for a unit."""
    lost_units: int
    """Finished results that were refused because they came too late."""
    lost_in_time_units: int
    """Of those, finished within their lease: the coordinator was away, and then their PC was, until
    the unit was given up: nobody else had done it either."""
    undone_units: int
    """Finished results that a restored coordinator did not know, or whose assignment it did not."""
    late_units: int
    """Finished first tries that earned credit, but were too late for their version."""
    in_window: float
    """Of PCs with such hours: units that end in the hours in which they were begun."""
    results: int
    rounds: int
    median_round_minutes: float
    slowest_tenth_round_ratio: float
    """Mean of the slowest tenth of rounds over the median round."""
    hosts: int


def throughput_of(fleet: Fleet, from_hours: float) -> Throughput:
    """Return what a fleet that has run has achieved after its first `from_hours`."""
    start = fleet.clock.now - fleet.seconds + 3600 * from_hours
    with fleet.store.read() as tx:
        project = tx.projects.find("simulated")
        versions = [
            row
            for row in tx.versions.history(project.id, project.epoch, after=0, limit=10**9)
            if row.made_at >= start
        ]
        rows = {
            made.assignment: tx.assignments.get(fleet.deps.numbers.row(made.assignment))
            for host in fleet.hosts
            for made in host.made
        }
    first, last = versions[0], versions[-1]
    batch = project.metadata.training.batch_examples
    samples = sum(entry.weight for row in versions[1:] for entry in row.inputs)
    used = {entry.assignment for row in versions for entry in row.inputs}
    finished = in_model = checks = late = 0
    for host in fleet.hosts:
        for made in host.made:
            row = rows[made.assignment]
            if not first.number <= row.version < last.number or row.reported_at is None:
                continue
            finished += made.steps
            in_model += made.steps * (row.id in used)
            agrees = row.verdict == Verdict.VALID and row.id not in used
            checks += made.steps * (agrees and row.purpose != Purpose.PRIMARY)
            late += row.purpose == Purpose.PRIMARY and row.id not in used
    refused = sum(
        made.steps
        for host in fleet.hosts
        for made in host.made
        if first.number <= rows[made.assignment].version < last.number
        and rows[made.assignment].reported_at is None
        and made.assignment in host.refused
    )
    finished += refused
    capacity = sum(
        host.presence.on_between(max(first.made_at, host.joined_at), last.made_at)
        * fleet.settings.local_steps
        / host.plan.unit_seconds
        for host in fleet.hosts
    )
    rounds = [(b.made_at - a.made_at) / 60 for a, b in pairwise(versions)]
    return Throughput(
        share_of_summed_speed=samples / max(1.0, capacity * batch),
        useful_work=(in_model + checks) / max(1, finished),
        in_model=in_model / max(1, finished),
        waited=_waited(fleet.hosts, fleet.clock.now),
        wait_p50_s=statistics.median(wait for host in fleet.hosts for wait in host.waits_for_units),
        lost_units=sum(len(host.refused) for host in fleet.hosts),
        lost_in_time_units=sum(
            made.finished_at <= (rows[made.assignment].lease_until or 0.0)
            for host in fleet.hosts
            for made in host.made
            if made.assignment in host.refused
        ),
        undone_units=sum(host.undone for host in fleet.hosts),
        late_units=late,
        in_window=_in_window(fleet.hosts),
        results=len(rows),
        rounds=len(rounds),
        median_round_minutes=statistics.median(rounds),
        slowest_tenth_round_ratio=round_ratio(rounds),
        hosts=sum(not host.plan.trusted for host in fleet.hosts),
    )


def round_ratio(rounds: Sequence[float]) -> float:
    """Return the mean of the slowest tenth of rounds over the median one."""
    tenth = max(1, round(len(rounds) * _TENTH))
    return statistics.fmean(sorted(rounds)[-tenth:]) / statistics.median(rounds)


def _in_window(hosts: Iterable[SimulatedHost]) -> float:
    found = [
        made.in_window
        for host in hosts
        if host.plan.habits is not None and host.plan.habits.window is not None
        for made in host.made
    ]
    return sum(found) / max(1, len(found))


def _waited(hosts: Iterable[SimulatedHost], now: float) -> float:
    on = waited = 0.0
    for host in hosts:
        on += host.presence.on_between(host.joined_at, now)
        waited += host.waited_seconds
    return waited / max(1.0, on)
