"""anchor: ask a host whose word counts for a result of a unit.

It is a trusted host from time to time, otherwise a proven one drawn by lot, never whoever asks
first: a host that could choose whom it checks would choose its friends. The draw is secret and
comes after the report, so nobody can know a check from a first try, or who makes it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.chunks import fits, whole_steps
from pleb_coordinator.core.records import NewAssignment, Purpose
from pleb_coordinator.core.voices import Party, independent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.records import Host, Project, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "TRUSTED_SEEN_SECONDS",
    "ask_anchor",
    "ask_proven",
    "ask_trusted",
    "class_of_unit",
    "isolated_class",
]

TRUSTED_SEEN_SECONDS: Final = 3600.0
"""Work waits for trusted hosts only while one was seen within this time."""
_TRUSTED_SHARE: Final = 0.5
"""Of the checks, while trusted hosts have none waiting: colluders cannot check one another."""
_TRUSTED_QUEUE: Final = 4
"""Checks that may wait for each trusted host when no proven one can be drawn."""
_TRIES: Final = 60
"""Draws before a unit waits; the most likely reason is that few proven hosts are around."""
_SENIOR_TRIES: Final = 40
_SENIOR_RECORD: Final = 3
"""An exam's anchor has this many times the record that makes a host proven, if one is drawn soon:
hosts that just passed an exam should not hold the next one."""
_DRAWN_MOST: Final = 2
"""Assignments that may wait for one host."""
_PATIENCE_SECONDS: Final = 60.0
_PATIENCE_UNITS: Final = 3.0
"""A drawn host has this many unit times, and a minute, to ask for its check."""
_SEEN_UNITS: Final = 2.5
"""A host that has not asked for longer than this many unit times is away."""
_SLOW_SHARE: Final = 0.6
"""A host this many times slower than the median is drawn this much less often."""


def ask_anchor(
    tx: Transaction,
    deps: Deps,
    project: Project,
    unit: UnitRow,
    *,
    exam: bool = False,
    asking: Host | None = None,
) -> bool:
    """Ask a trusted host, or a proven one drawn by lot, to compute the unit.

    Args:
        tx: the transaction.
        deps: what steps need.
        project: the unit's.
        unit: which unit.
        exam: whether new hosts share it.
        asking: the host that is about to get the unit; None: all that will have had it.

    Returns:
        False: there is none at the moment.
    """
    since = deps.clock() - TRUSTED_SEEN_SECONDS
    trusted = tx.hosts.trusted(project.id, since, unit.memory_bytes)
    waiting = tx.assignments.count_for_trusted(project.id, Purpose.CHECK)
    if waiting < trusted and _draw(deps) < _TRUSTED_SHARE:
        ask_trusted(tx, deps.clock(), unit, Purpose.CHECK)
        return True
    if ask_proven(tx, deps, project, unit, Purpose.CHECK, exam=exam, asking=asking):
        return True
    if waiting < _TRUSTED_QUEUE * trusted:
        ask_trusted(tx, deps.clock(), unit, Purpose.CHECK)
        return True
    return False


def ask_trusted(tx: Transaction, now: float, unit: UnitRow, purpose: Purpose) -> int:
    """Add an assignment of the unit that only trusted hosts may take; return its id."""
    new = NewAssignment(
        unit=unit.id,
        purpose=purpose,
        created_at=now,
        trusted_only=True,
        for_class=class_of_unit(tx, unit),
    )
    return tx.assignments.add(new)


def ask_proven(
    tx: Transaction,
    deps: Deps,
    project: Project,
    unit: UnitRow,
    purpose: Purpose,
    *,
    exam: bool = False,
    asking: Host | None = None,
) -> bool:
    """Add an assignment of the unit for a proven host of another voice than all that had it.

    It is drawn by lot, uniformly but for hosts that are slow or have checks waiting: these are
    drawn less often. No host is drawn more often for being fast.

    Returns:
        False: no proven host is around that could take it.
    """
    now, proven = deps.clock(), tx.hosts.proven(project.id)
    hosts = list(tx.hosts.of_unit(unit.id).values())
    parties = list(tx.hosts.parties(unit.id, hosts, now).values())
    if not hosts and asking is not None:
        hosts, parties = [asking], [tx.hosts.party(asking, now)]
    determinism_class = isolated_class(tx, project.id, hosts[0].determinism_class) if hosts else ""
    steps = whole_steps(unit, project.facts) or 1.0
    median = project.median_step_seconds * steps
    senior = _SENIOR_RECORD * project.metadata.verification.new_host_units
    chosen = None
    for number in range(_TRIES if proven else 0):
        host = tx.hosts.get(proven[int(_draw(deps) * len(proven))])
        seconds = max(median, (host.seconds_per_step or 0.0) * steps)
        waiting = tx.assignments.count_drawn_for(host.id)
        if (
            host.trusted
            or host.banned_until > now
            or not fits(unit, host)
            or waiting >= _DRAWN_MOST
            or now - host.last_asked > _SEEN_UNITS * seconds + _PATIENCE_SECONDS
            or (exam and number < _SENIOR_TRIES and host.record < senior)
            or not _comparable(tx, project, host, determinism_class)
            or not _independent_of(tx.hosts.party(host, now), parties)
        ):
            continue
        slow = min(1.0, _SLOW_SHARE * median / seconds) if seconds > 0 else 1.0
        chosen = (host, seconds)
        if _draw(deps) < slow / (1 + 2 * waiting):
            break
    if chosen is None:
        return False
    host, seconds = chosen
    new = NewAssignment(
        unit=unit.id,
        purpose=purpose,
        created_at=now,
        for_host=host.id,
        fetch_by=now + _PATIENCE_UNITS * seconds + _PATIENCE_SECONDS,
    )
    tx.assignments.add(new)
    return True


def _independent_of(party: Party, others: Sequence[Party]) -> bool:
    return all(independent(party, other) for other in others)


def class_of_unit(tx: Transaction, unit: UnitRow) -> str:
    """Return the determinism class that must compute the unit; empty: any that is not isolated.

    It is that of the first host that had the unit, if its results compare with no other class.
    """
    return isolated_class(tx, unit.project, tx.hosts.first_class(unit.id))


def isolated_class(tx: Transaction, project: int, determinism_class: str) -> str:
    """Return the class if its results can be compared with no other one's, else an empty string."""
    found = tx.calibrations.find_class(project, determinism_class)
    return found.digest if found is not None and found.isolated and found.vouched else ""


def _comparable(tx: Transaction, project: Project, host: Host, determinism_class: str) -> bool:
    found = tx.calibrations.find_class(project.id, host.determinism_class)
    if found is None or (found.isolated and not found.vouched):
        return False
    return (found.digest if found.isolated else "") == determinism_class


def _draw(deps: Deps) -> float:
    """Return a number in [0, 1) that nobody can foresee."""
    return int.from_bytes(deps.random_bytes(7), "big") / 2.0**56
