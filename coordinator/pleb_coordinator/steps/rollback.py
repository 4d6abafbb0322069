"""rollback: make an earlier version the newest one, together with its outer state.

Numbers never go backwards: the restored version gets the next number, so agents follow as they
follow any version. What was made in between stays in the log, and so does the step back: `model
verify` recomputes across it. The open round starts from a version that is taken back, so its units
are cancelled; its hosts are not blamed.

A project's `restoring` asks for it: `accept` sets it when the holdout regresses, `verdict` when too
many of a recent version's results are found wrong. The command `model rollback` calls the same
phases itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from pleb_coordinator.aggregation.chunked import chunks_of
from pleb_coordinator.aggregation.outer_step import OuterState, next_version
from pleb_coordinator.blobs.parts import stored
from pleb_coordinator.core.planning import is_warm_start
from pleb_coordinator.core.records import (
    Kept,
    Project,
    RestoreCause,
    StoredDelta,
    VersionRow,
)
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps.access import blobs_of, is_key_replaced
from pleb_coordinator.steps.activity import settle
from pleb_coordinator.steps.files import keep_blobs
from pleb_coordinator.steps.outcome import cancel_unit
from pleb_shared.errors import InputError
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.tensors.distance import parameter_norms
from pleb_shared.tensors.format import buffer_dtype, difference_format
from pleb_shared.tensors.layout import Tensors, save_tensors
from pleb_shared.tensors.packing import pack
from pleb_shared.tensors.version import read_version

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_coordinator.steps import Deps
    from pleb_coordinator.steps.access import ProjectBlobs
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.project import ProjectMetadata
    from pleb_shared.protocol.unit import VersionSource

__all__ = ["Restoration", "commit", "compute", "find", "plan_restoration"]


@dataclass(frozen=True)
class Step:
    """A version between the last kept outer state and the one that is restored."""

    row: VersionRow
    metadata: ProjectMetadata
    deltas: tuple[StoredDelta, ...]


@dataclass(frozen=True)
class Restoration:
    """A version that becomes the newest one again, and what its outer state is made from."""

    project: Project
    cause: RestoreCause
    good: VersionRow
    start: VersionRow
    """The newest version up to `good` whose outer state is kept; `good` if there is none."""
    steps: tuple[Step, ...]
    """The versions after `start` up to `good`."""

    @property
    def keeps_momentum(self) -> bool:
        """Whether the outer state is the one that `good` had, not one that restarts from zero."""
        return bool(self.start.outer_state) or not self.start.number

    @property
    def key(self) -> str:
        """Name of this work among all restorations."""
        return f"{self.project.id}/{self.project.epoch}/{self.project.version}"


def find(
    tx: Transaction, _: Deps, project: Project, claimed: Collection[str]
) -> Restoration | None:
    """Return what is to be restored, or None."""
    if project.restoring is None:
        return None
    cause = project.restoring_for or RestoreCause.HOLDOUT
    # an old version may be only listed by now, but there is a milestone before it
    number = tx.versions.newest_readable(project.id, project.epoch, project.restoring) or 0
    found = plan_restoration(tx, project, number, cause)
    return None if found.key in claimed else found


def plan_restoration(
    tx: Transaction, project: Project, number: int, cause: RestoreCause
) -> Restoration:
    """Return all that is needed to make version `number` of the current epoch the newest one.

    Raises:
        InputError: the epoch has no such version, it is the newest one, or it is not kept.
    """
    if not 0 <= number < project.version:
        message = (
            f"Version {number} cannot be restored: the newest version of {project.name} is "
            f"{project.version}; name an earlier one."
        )
        raise InputError(message)
    place = (project.id, project.epoch)
    start = good = tx.versions.get(*place, number)
    if good.source is None:
        before = tx.versions.newest_readable(*place, number) or 0
        message = (
            f"Version {number} of {project.name} is too old: only its digest and its loss are "
            f"kept. Version {before} is the newest one before it that can be restored."
        )
        raise InputError(message)
    steps: list[Step] = []
    while start.number and not start.outer_state:
        if start.kept is not Kept.EXACT:  # the results are gone: momentum restarts
            return Restoration(project, cause, good, good, ())
        metadata = tx.projects.metadata_at(project.id, start.metadata_number)
        deltas = [
            tx.assignments.delta(entry.assignment) or StoredDelta(entry.assignment, 0, None)
            for entry in start.inputs
        ]
        steps.append(Step(start, metadata, tuple(deltas)))
        start = tx.versions.get(*place, start.number - 1)
    return Restoration(project, cause, good, start, tuple(reversed(steps)))


def compute(deps: Deps, work: Restoration) -> VersionRow:
    """Return the restored version's row, its blobs written and synced.

    Raises:
        EncodingError, Refusal: the store's own bytes are damaged or missing.
        InputError: noise has to be drawn again, and this home has another secret.
    """
    project, good = work.project, work.good
    metadata, number = project.metadata, project.version + 1
    blobs = blobs_of(deps, project)
    version = read_version(good.readable_source, metadata, blobs.get)
    outer_state, snapshot = good.outer_state, blobs.sealed(save_tensors(version))
    if not outer_state:
        outer_state = deps.blobs.put(blobs.sealed(_outer_state(deps, work).to_bytes()))
    return VersionRow(
        project=project.id,
        epoch=project.epoch,
        number=number,
        digest=good.digest,
        metadata_number=project.metadata_number,
        difference="",
        outer_state=outer_state,
        snapshot=deps.blobs.put(snapshot),
        inputs=(),
        source=_source(blobs, good, number, metadata),
        train_loss=good.train_loss,
        made_at=deps.clock(),
        restores=good.number,
        restored_for=work.cause,
        norms=parameter_norms(version, metadata.model),
        blob_bytes=len(snapshot) + deps.blobs.size(outer_state),
    )


def commit(tx: Transaction, deps: Deps, work: Restoration, row: VersionRow) -> bool:
    """Make `row` the newest version, and end the round of the one that is taken back.

    Returns:
        False: a newer version was made meanwhile, or the project's key was replaced.

    Raises:
        LookupError: one of its files is being deleted right now.
    """
    now, project = deps.clock(), work.project
    place = (project.id, project.epoch, project.version)
    if is_key_replaced(tx, project) or not tx.projects.advance(*place, row.number):
        return False
    keep_blobs(tx, deps, row.blobs)
    tx.versions.add(row)
    tx.projects.set_restoring(project.id, None, None)
    round_ = tx.rounds.get(*place)
    if round_ is not None:
        tx.rounds.close(round_, now)
    for unit in tx.units.of_round(*place, {UnitState.OPEN, UnitState.VALID}):
        cancel_unit(tx, unit, now, because(ReasonCode.ROLLED_BACK))
    tx.events.add(
        project.id,
        now,
        "rolled_back",
        version=row.number,
        restores=row.restores,
        instead_of=project.version,
        digest=row.digest,
        cause=work.cause,
    )
    settle(tx, project.id, now)
    return True


def _outer_state(deps: Deps, work: Restoration) -> OuterState:
    """Return the outer state of `work.good`, recomputed from the last one that is kept."""
    metadata, start = work.project.metadata, work.start
    blobs = blobs_of(deps, work.project)
    version = read_version(start.readable_source, metadata, blobs.get)
    state = (
        OuterState.from_bytes(blobs.get(start.outer_state))
        if start.outer_state
        else OuterState.initial(version, metadata.model)
    )
    for step in work.steps:
        deltas = [
            (blobs.delta_view(stored, entry.digest), entry.weight)
            for stored, entry in zip(step.deltas, step.row.inputs, strict=True)
        ]
        warm_start = is_warm_start(step.row.inputs)
        chunks = chunks_of(step.row.inputs, step.row.number - 1)
        noise = deps.noise_key.recorded_seed(step.metadata, step.row)
        made = next_version(
            version,
            state,
            deltas,
            step.metadata,
            warm_start=warm_start,
            chunks=chunks,
            noise=noise,
        )
        version, state = made.version, made.state
    return state


def _source(
    blobs: ProjectBlobs, good: VersionRow, number: int, metadata: ProjectMetadata
) -> VersionSource:
    """Return how a host gets the restored version: as it got the good one.

    The numbers are counted back from the new one. The last difference is the one that led to the
    good version, so units that start their momentum from it do so as they did then. Version 0 has
    none: one of zeros stands in for it.
    """
    before = good.readable_source
    differences = before.differences
    if not differences:
        encoding = difference_format(metadata)
        zeros: Tensors = {s.name: np.zeros(s.shape, np.float32) for s in metadata.model.parameters}
        zeros |= {s.name: np.zeros(s.shape, buffer_dtype(s)) for s in metadata.model.buffers}
        differences = [stored(blobs.blobs, blobs.sealed(pack(encoding.encode(zeros))))]
    return msgspec.structs.replace(
        before,
        number=number,
        snapshot_number=number - len(differences),
        differences=differences,
    )
