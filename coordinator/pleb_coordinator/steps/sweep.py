"""sweep: bytes that nobody will need again are removed, one old round at a time.

What made a version stays for ever, so that it can be recomputed: the canonical deltas, all
differences, and a snapshot with its outer state every few versions. The rest of a round (replicas,
refuted and late results, the outer state in between) is needed only while agents may still
work on its version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pleb_coordinator.core.unit_state import UnitState
from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["sweep_round"]


def sweep_round(tx: Transaction, deps: Deps, project: Project) -> bool:
    """Sweep the oldest round that is due; False: there is none.

    Files are removed before the transaction commits: killed in between, the next sweep
    removes them again, which is harmless.
    """
    oldest = project.version - LIMITS.version_lag
    row = tx.rounds.unswept_before(project.id, project.epoch, oldest)
    if row is None:
        return False
    place = (row.project, row.epoch, row.version)
    for unit in tx.units.of_round(*place, set(UnitState)):
        _drop_deltas(tx, deps, unit)
    version = tx.versions.get(*place)
    if version.outer_state and not version.snapshot:
        deps.blobs.delete(version.outer_state)
        tx.versions.forget_outer_state(*place)
    tx.rounds.set_swept(row, deps.clock())
    return True


def _drop_deltas(tx: Transaction, deps: Deps, unit: UnitRow) -> None:
    """Remove the bytes of all results but the one that counts."""
    for assignment in tx.assignments.of_unit(unit.id):
        if assignment.id == unit.canonical:
            continue
        stored = tx.assignments.delta(assignment.id)
        if stored is not None:
            tx.assignments.remove_delta(assignment.id)
            if stored.data is None:
                deps.blobs.delete_delta(assignment.id)
