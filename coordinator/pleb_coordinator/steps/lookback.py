"""lookback: what a round's results and those of earlier versions look like once more is known.

A first try is looked at when it comes, beside the few results of its version that there are by
then. Before a version is made, all of them are looked at together: those that lean like a proven
lie, or like one another, are computed again and miss their round unless the check agrees in time.
When a lie is proven, results of the last versions that lean like it are counted; the version before
the first one with too many is restored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pleb_coordinator.core.leaning import (
    KEPT_RESULTS,
    LIE_VERSIONS,
    as_a_lie,
    as_one_another,
    lie_of,
)
from pleb_coordinator.core.records import Counting, RestoreCause
from pleb_coordinator.core.unit_state import UnitEvent, UnitState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pleb_coordinator.core.leaning import Lie
    from pleb_coordinator.core.records import Project, UnitRow
    from pleb_coordinator.core.suspicion import Features, Signal, Traits
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["Looks", "doubtful", "hold", "lies_of", "looks_of", "remember_lie", "watch_versions"]


@dataclass(frozen=True)
class Looks:
    """What the results of an open round are looked at with."""

    lone: frozenset[int]
    """Units that count on a proven author's word alone."""
    results: tuple[Traits, ...]
    """Results that count, of this round and the last versions."""
    lies: tuple[Lie, ...]


def lies_of(tx: Transaction, project: Project) -> list[Lie]:
    """Return the proven lies that results are compared with."""
    since = project.version - LIE_VERSIONS
    return tx.comparisons.recent_lies(project.id, project.epoch, since)


def looks_of(tx: Transaction, project: Project) -> Looks:
    """Return what the results of the open round are looked at with."""
    place = (project.id, project.epoch)
    lone = tx.assignments.lone_units(*place, project.version)
    results = tx.comparisons.recent_traits(*place, KEPT_RESULTS) if lone else []
    return Looks(frozenset(lone), tuple(results), tuple(lies_of(tx, project)))


def doubtful(looks: Looks) -> dict[int, Signal]:
    """Return by unit why it should be computed again before its version is made."""
    judged = [result for result in looks.results if result.unit in looks.lone]
    if not judged:
        return {}
    return as_one_another(judged, looks.results) | as_a_lie(judged, looks.results, looks.lies)


def hold(tx: Transaction, now: float, units: Mapping[int, Signal]) -> None:
    """Let units of the open round count only once a check agrees."""
    for number, signal in units.items():
        unit = tx.units.get(number)
        if tx.units.move(unit, UnitEvent.DISPUTED, now, None):
            tx.units.set_counting(number, Counting.HELD, 1.0)
            tx.units.make_due(number)
            tx.events.add(unit.project, now, "held", unit=number, reason=signal.reason)


def remember_lie(
    tx: Transaction, project: Project, unit: UnitRow, wrong: Features, right: Features
) -> None:
    """Keep what is wrong about a proven host's result, to know its like by."""
    lie = lie_of(unit.id, unit.version, wrong, right, unit.chunk)
    if lie is not None:
        tx.comparisons.add_lie(project.id, unit.epoch, lie)
        watch_versions(tx, project)


def watch_versions(tx: Transaction, project: Project) -> None:
    """Ask for the version before the first recent one of whose results too many are wrong.

    Wrong are those that were found wrong, and those that lean like a proven lie.
    """
    place, allowed = (project.id, project.epoch), project.metadata.verification.max_wrong_share
    restores = tx.versions.restores(*place)
    kept = tx.comparisons.recent_traits(*place, KEPT_RESULTS)
    leaning = as_a_lie(kept, kept, lies_of(tx, project))
    for version in range(max(0, project.oldest_accepted), project.version):
        if any(back.restores <= version < back.number for back in restores):
            continue  # it was taken back already
        inputs = tx.units.of_round(*place, version, {UnitState.APPLIED, UnitState.DISPROVED})
        found = Counter(unit.state == UnitState.DISPROVED or unit.id in leaning for unit in inputs)
        # a single wrong result takes nothing back unless it is all there is
        if found[True] > max(allowed * len(inputs), min(1, len(inputs) - 1)):
            restoring = tx.projects.get(project.id).restoring
            if restoring is None or restoring > version:
                tx.projects.set_restoring(project.id, version, RestoreCause.WRONG_RESULTS)
            return
