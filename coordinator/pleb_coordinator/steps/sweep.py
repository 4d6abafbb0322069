"""sweep: remove bytes that are not needed any more, and delete files outside of transactions.

What made a version is kept, so that it can be recomputed: the canonical deltas, all differences,
and a snapshot with its outer state every few versions; `thin` removes them when they are old. The
rest of a round (replicas, refuted and late results, the outer states in between) is needed only
while agents may work on its version.

Rows go first, files later: a transaction that makes a file useless leaves a tombstone. When the
tombstone is due, the file is condemned unless a row refers to it again; then it is deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import FileKind, Round, Tombstone
from pleb_coordinator.steps.files import keep_less, remove_delta

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pleb_coordinator.core.records import Project
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "Deletion",
    "condemn_files",
    "delete_files",
    "find_due_files",
    "find_files",
    "find_round",
    "forget_files",
    "sweep_round",
]

_BATCH: Final = 200
"""Files of one transaction or deletion."""
_DELTAS: Final = 2000
"""Results of one transaction: a tenth of a second."""


@dataclass(frozen=True)
class Sweeping:
    """A round to sweep, and results of it that do not count: the next ones, or the last."""

    row: Round
    useless: Sequence[int]


@dataclass(frozen=True)
class Deletion:
    """Files to delete; one process at a time is enough."""

    files: Sequence[Tombstone]
    key: str = "files"


def find_round(tx: Transaction, _: Deps, project: Project) -> Sweeping | None:
    """Return what to sweep next of the oldest round that can be swept, or None.

    A round may have 100,000 units: they are looked through here, where nobody waits.
    """
    oldest = project.oldest_accepted
    row = tx.rounds.unswept_before(project.id, project.epoch, oldest)
    if row is None:
        return None
    useless = tx.assignments.useless_deltas(row.project, row.epoch, row.version, _DELTAS)
    return Sweeping(row, useless)


def sweep_round(tx: Transaction, deps: Deps, found: Sweeping) -> None:
    """Remove the deltas of results that do not count; at last, the outer state between snapshots.

    A result that has come to count meanwhile stays.
    """
    row = found.row
    place = (row.project, row.epoch, row.version)
    for assignment in found.useless:
        if tx.units.get(tx.assignments.get(assignment).unit).canonical != assignment:
            remove_delta(tx, deps, assignment)
    if len(found.useless) == _DELTAS:
        return
    version = tx.versions.get(*place)
    if version.outer_state and not version.snapshot:
        keep_less(tx, deps, version, outer_state="")
    tx.rounds.set_swept(row, deps.clock())


def find_due_files(tx: Transaction, deps: Deps, _: None) -> list[Tombstone] | None:
    """Return tombstones whose files may be deleted from now on, or None."""
    return tx.tombstones.due(deps.clock(), _BATCH) or None


def condemn_files(tx: Transaction, _: Deps, due: Sequence[Tombstone]) -> None:
    """Condemn files that no row refers to; keep the others."""
    for tombstone in due:
        kind, name = tombstone.kind, tombstone.name
        needed = (kind == FileKind.BLOB and tx.references.needed(name)) or (
            kind == FileKind.DELTA and tx.assignments.delta(int(name)) is not None
        )
        if needed:
            tx.tombstones.remove(tombstone)
        else:
            tx.tombstones.condemn(tombstone)


def find_files(tx: Transaction, _: Deps, __: None, claimed: Collection[str]) -> Deletion | None:
    """Return condemned files, or None."""
    files = [] if claimed else tx.tombstones.condemned(_BATCH)
    return Deletion(files) if files else None


def delete_files(deps: Deps, deletion: Deletion) -> None:
    """Delete condemned files; those that are gone already are fine."""
    for tombstone in deletion.files:
        match tombstone.kind:
            case FileKind.BLOB:
                deps.blobs.delete(tombstone.name)
            case FileKind.DELTA:
                deps.blobs.delete_delta(int(tombstone.name))
            case FileKind.UPLOAD | FileKind.LATE_UPLOAD:
                deps.blobs.drop_upload(tombstone.name)


def forget_files(tx: Transaction, _: Deps, deletion: Deletion, __: None) -> None:
    """Remove the tombstones of deleted files."""
    for tombstone in deletion.files:
        tx.tombstones.remove(tombstone)
