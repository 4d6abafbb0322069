"""What came of a simulated fleet: read from the store, and compared with what hosts really sent."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_shared.protocol.messages import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pleb_coordinator.core.records import VersionRow
    from pleb_coordinator.simulation.fleet import Fleet
    from pleb_coordinator.simulation.simulated_host import SimulatedHost
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["Figures", "figures_of"]

_MINUTE: Final = 60.0


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one run; sums of them over runs are what bounds are computed from."""

    hours: float
    versions: int
    in_model: int
    """Results that entered a version."""
    wrong_in_model: int
    """Of them, those that a host sent knowing that they are wrong."""
    in_model_later: int
    """As `in_model`, in the second half of the versions."""
    wrong_later: int
    results: int
    """Training results that hosts delivered."""
    results_later: int
    """Results for the units of the second half of the versions."""
    lies: int
    lies_accepted: int
    """Lies whose verdict was `valid` at the end."""
    honest_results: int
    honest_refused: int
    """Results of honest hosts whose verdict was `invalid` at the end."""
    honest_hosts: int
    honest_convicted: int
    """Honest hosts with a refused result."""
    honest_bans: int
    hostile_names: int
    """Hosts that hostile persons enrolled; after a ban they come again."""
    hostile_bans: int
    units_to_catch: list[int]
    """Results that each name had delivered when it was convicted, if it was."""
    never_caught: int
    credit_honest: float
    credit_hostile: float
    """FLOPs that counted."""
    work_honest: float
    work_hostile: float
    """FLOPs that were really computed."""
    person_hours_honest: float
    person_hours_hostile: float
    longest_round_minutes: float
    rounds_minutes: list[float]
    proven: int
    """Honest hosts that were proven at some time."""
    proven_minutes: list[float]
    """From enrolment, rounded up to the survey."""
    newcomers: int
    trusted_load: float
    """Part of the time in which trusted hosts computed."""
    idle: float
    """Part of the time in which honest volunteers waited for a unit."""
    requests: int
    accuracy: float | None
    """Of the last version, where hosts really train."""

    @property
    def units_per_hour(self) -> float:
        """Results that entered a version, per hour."""
        return self.in_model / max(self.hours, 1e-9)


def figures_of(fleet: Fleet) -> Figures:
    """Return what came of a fleet that has run."""
    with fleet.store.read() as tx:
        project = tx.projects.find("simulated")
        versions = tx.versions.history(project.id, project.epoch, after=0, limit=10**9)
        back = [row for row in versions if row.restores is not None]
        undone = {n for row in back for n in range((row.restores or 0) + 1, row.number)}
        versions = [row for row in versions if row.number not in undone]
        lies = {(made.seed, made.digest) for host in fleet.hosts for made in host.made if made.lie}
        inputs = [_lies(tx, row, lies) for row in versions]
        verdicts = {
            made.assignment: tx.assignments.get(fleet.deps.numbers.row(made.assignment)).verdict
            for host in fleet.hosts
            for made in host.made
        }
        copies = [_copies(tx, row) for row in versions]
    volunteers = [host for host in fleet.hosts if not host.plan.trusted]
    honest = [host for host in volunteers if host.plan.attack is None]
    hostile = [host for host in volunteers if host.plan.attack is not None]
    credit = {host.number: row.credit for host, row in fleet.rows()}
    persons = {host.plan.account: host.joined_at for host in reversed(hostile)}
    half = len(versions) // 2
    rounds = _rounds_minutes(fleet, versions)
    flops = float(project.facts.flops_per_step * project.metadata.training.local_steps)
    caught = [host.caught_after for host in hostile if host.caught_after is not None]
    convicted = [host for host in honest if _refused(host, verdicts)]
    proven = [host for host in honest if host.proven_at is not None]
    return Figures(
        hours=fleet.seconds / 3600,
        versions=len(versions),
        in_model=sum(map(len, inputs)),
        wrong_in_model=sum(map(sum, inputs)),
        in_model_later=sum(map(len, inputs[half:])),
        wrong_later=sum(map(sum, inputs[half:])),
        results=sum(len(host.made) for host in fleet.hosts),
        results_later=sum(copies[half:]),
        lies=sum(made.lie for host in hostile for made in host.made),
        lies_accepted=sum(
            made.lie and verdicts[made.assignment] == Verdict.VALID
            for host in hostile
            for made in host.made
        ),
        honest_results=sum(len(host.made) for host in honest),
        honest_refused=sum(_refused(host, verdicts) for host in honest),
        honest_hosts=len(honest),
        honest_convicted=len(convicted),
        honest_bans=sum(host.bans for host in honest),
        hostile_names=len(hostile),
        hostile_bans=sum(host.bans for host in hostile),
        units_to_catch=caught,
        never_caught=len(hostile) - len(caught),
        credit_honest=sum(credit[host.number] for host in honest),
        credit_hostile=sum(credit[host.number] for host in hostile),
        work_honest=flops * sum(len(host.made) for host in honest),
        work_hostile=flops * sum(_work(host) for host in hostile),
        person_hours_honest=sum(_hours(fleet, host.joined_at) for host in honest),
        person_hours_hostile=sum(_hours(fleet, joined_at) for joined_at in persons.values()),
        longest_round_minutes=max(rounds, default=0.0),
        rounds_minutes=rounds,
        proven=len(proven),
        proven_minutes=[((host.proven_at or 0.0) - host.joined_at) / _MINUTE for host in proven],
        newcomers=sum(host.proven_at is None for host in honest),
        trusted_load=_share(fleet, [host for host in fleet.hosts if host.plan.trusted], "busy"),
        idle=_share(fleet, honest, "waited"),
        requests=fleet.requests,
        accuracy=fleet.deltas.accuracy(project.version),
    )


def _lies(tx: Transaction, row: VersionRow, lies: set[tuple[int, str]]) -> list[bool]:
    """Return for each result that made a version whether it is a lie."""
    return [(tx.units.get(entry.unit).seed, entry.digest) in lies for entry in row.inputs]


def _copies(tx: Transaction, row: VersionRow) -> int:
    """Return how many results there are of the units that made a version."""
    return sum(
        found.digest != "" for entry in row.inputs for found in tx.assignments.of_unit(entry.unit)
    )


def _refused(host: SimulatedHost, verdicts: dict[int, Verdict | None]) -> int:
    """Return how many right results of the host were found wrong."""
    return sum(verdicts[made.assignment] == Verdict.INVALID for made in host.made if not made.lie)


def _work(host: SimulatedHost) -> float:
    """Return the units that a hostile host really computed; an instant lie is none."""
    return sum(not (host.plan.instant and made.lie) for made in host.made)


def _hours(fleet: Fleet, joined_at: float) -> float:
    return (fleet.clock.now - joined_at) / 3600


def _rounds_minutes(fleet: Fleet, versions: Sequence[VersionRow]) -> list[float]:
    """Return how long each round took, and how long the open one takes already."""
    at = [fleet.clock.now - fleet.seconds, *(row.made_at for row in versions), fleet.clock.now]
    return [(after - before) / _MINUTE for before, after in pairwise(at)]


def _share(fleet: Fleet, hosts: Iterable[SimulatedHost], what: str) -> float:
    """Return which part of the time hosts were busy, or waited, on average."""
    # the unit under way is counted whole, so that the end cuts off what it has too much
    shares = [
        min(
            1.0,
            (host.busy_seconds if what == "busy" else host.waited_seconds)
            / max(1.0, fleet.clock.now - host.joined_at),
        )
        for host in hosts
    ]
    return statistics.fmean(shares) if shares else 0.0
