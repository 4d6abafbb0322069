"""thin: keep less of old versions, so that a project's files stay bounded however long it runs.

`core.keeping` has the rule. What `verify`, `rollback` and agents need is never touched: the last
`version_lag` versions, rounds that were not swept, cases that a trusted host has still to look at.
A version that is to outlive its neighbours gets a snapshot of its own first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.aggregation.versions import snapshot_interval
from pleb_coordinator.blobs.parts import name_of, stored
from pleb_coordinator.core.keeping import Bounds, curve_step, is_milestone, to_reduce
from pleb_coordinator.core.records import Kept
from pleb_coordinator.steps.access import blobs_of
from pleb_coordinator.steps.activity import best_of
from pleb_coordinator.steps.files import keep_blobs, keep_less, remove_delta
from pleb_shared.tensors.format import difference_format
from pleb_shared.tensors.layout import save_tensors
from pleb_shared.tensors.version import read_version

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pleb_coordinator.core.records import Project, VersionRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.unit import Blob

__all__ = ["Reduction", "commit", "compute", "find"]

_RESULTS: Final = 2000
"""Of one transaction, for which requests wait: a version may be made of 100,000."""


@dataclass(frozen=True)
class Reduction:
    """A version of which less is to be kept."""

    project: Project
    row: VersionRow
    metadata: ProjectMetadata
    kept: Kept
    results: Sequence[int] = ()
    """Those that it was made of and that are to go next: all that are left, or `_RESULTS`."""

    @property
    def key(self) -> str:
        """Name of this work among all reductions."""
        return f"{self.row.project}/{self.row.epoch}/{self.row.number}"


def find(
    tx: Transaction, deps: Deps, project: Project, claimed: Collection[str]
) -> Reduction | None:
    """Return the version of which less is to be kept next, or None."""
    rules = deps.retention
    bounds = Bounds(rules.versions, rules.result_bytes, rules.version_bytes)
    for kept in to_reduce(tx.versions.load(project.id), bounds):
        row = _oldest(tx, project, kept)
        if row is not None:
            found = _reduction(tx, deps, project, row)
            return None if found.key in claimed else found
    found_milestone = _outlived(tx, deps, project)
    if found_milestone is None or found_milestone.key in claimed:
        return None
    return found_milestone


def compute(deps: Deps, work: Reduction) -> Blob | None:
    """Return the version's own snapshot if it needs one, written and synced.

    Raises:
        EncodingError, Refusal: the store's own bytes are damaged or missing.
    """
    row = work.row
    if work.kept is not Kept.MILESTONE:
        return None
    if row.snapshot:
        return name_of(deps.blobs, row.snapshot)
    blobs = blobs_of(deps, work.project)
    version = read_version(row.readable_source, work.metadata, blobs.get)
    return stored(deps.blobs, blobs.sealed(save_tensors(version)))


def commit(tx: Transaction, deps: Deps, work: Reduction, snapshot: Blob | None) -> bool:
    """Keep less of the version.

    Returns:
        False: another process was first.

    Raises:
        LookupError: its snapshot's file is being deleted right now.
    """
    row = tx.versions.get(work.row.project, work.row.epoch, work.row.number)
    if row != work.row:
        return False
    if work.kept is Kept.READABLE:
        for assignment in work.results:
            remove_delta(tx, deps, assignment)
        if len(work.results) < _RESULTS:
            keep_less(tx, deps, row, kept=Kept.READABLE, delta_bytes=0)
        return True
    source = None
    if snapshot is not None:
        keep_blobs(tx, deps, [snapshot.digest])
        source = msgspec.structs.replace(
            row.readable_source, snapshot=snapshot, snapshot_number=row.number, differences=[]
        )
    keep_less(
        tx,
        deps,
        row,
        kept=work.kept,
        difference="",
        outer_state="",
        snapshot=snapshot.digest if snapshot else "",
        inputs=(),
        norms=(),
        source=source,
    )
    if work.kept is Kept.LISTED:
        place = (row.project, row.epoch)
        newest = tx.versions.last_number(*place) or row.number
        tx.projects.thin_evaluations(*place, before=row.number, step=curve_step(newest))
        tx.projects.thin_showings(*place, before=row.number, step=curve_step(newest))
    return True


def _oldest(tx: Transaction, project: Project, kept: Kept) -> VersionRow | None:
    """Return the oldest version of which so much is kept and less may be; None: there is none."""
    cases = tx.retention.cases(project.id) if kept is Kept.EXACT else set()
    up_to = (project.epoch, project.oldest_accepted)
    rows = tx.versions.oldest(project.id, kept, up_to=up_to, limit=len(cases) + 1)
    row = next((row for row in rows if (row.epoch, row.number - 1) not in cases), None)
    if row is None or not row.number:
        return row
    round_ = tx.rounds.get(row.project, row.epoch, row.number - 1)
    return row if round_ is None or round_.swept_at is not None else None


def _reduction(tx: Transaction, deps: Deps, project: Project, row: VersionRow) -> Reduction:
    metadata = tx.projects.metadata_at(project.id, row.metadata_number)
    if row.kept is Kept.EXACT:
        inputs = {entry.assignment for entry in row.inputs}
        stored = tx.assignments.deltas_of_round(row.project, row.epoch, row.number - 1)
        results = [assignment for assignment in stored if assignment in inputs][:_RESULTS]
        return Reduction(project, row, metadata, Kept.READABLE, results)
    outlives = _outlives(tx, deps, project, metadata, row.epoch, row.number)
    return Reduction(project, row, metadata, Kept.MILESTONE if outlives else Kept.LISTED)


def _outlived(tx: Transaction, deps: Deps, project: Project) -> Reduction | None:
    """Return a milestone that is none any more, or None."""
    most = deps.retention.milestones
    found = tx.versions.milestones(project.id)
    ended = len(found) - sum(epoch == project.epoch for epoch, _ in found)
    # version 0 and the best one are beside the others; of an ended epoch its end and the best
    if not most or len(found) <= most + 2 + min(ended, 2):
        return None
    for epoch, number in found:
        row = tx.versions.get(project.id, epoch, number)
        metadata = tx.projects.metadata_at(project.id, row.metadata_number)
        if not _outlives(tx, deps, project, metadata, epoch, number):
            return Reduction(project, row, metadata, Kept.LISTED)
    return None


def _outlives(
    tx: Transaction,
    deps: Deps,
    project: Project,
    metadata: ProjectMetadata,
    epoch: int,
    number: int,
) -> bool:
    """Whether the tensors of an old version stay: a milestone's, and those of the best version.

    Of an epoch that has ended, the last version's stay instead of the milestones'.
    """
    if number == best_of(tx, project, epoch):
        return True
    if epoch != project.epoch:
        return number == tx.versions.last_number(project.id, epoch)
    interval = snapshot_interval(difference_format(metadata))
    return is_milestone(number, project.version, interval, deps.retention.milestones)
