"""advance: make the next version from the round's verified deltas.

`compute` is a pure function of (version, outer state, ordered deltas) and writes its blobs durably.
Then `commit` records everything in one transaction, with the unique key (project, epoch, number).
If several processes compute the same version, one wins and the others drop their work. A process
killed in between leaves blobs that the next one writes again, byte for byte the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.aggregation.chunked import chunks_of
from pleb_coordinator.aggregation.outer_step import Made, OuterState, next_version
from pleb_coordinator.aggregation.versions import (
    following_source,
    snapshot_interval,
)
from pleb_coordinator.blobs.parts import name_of
from pleb_coordinator.core.planning import is_warm_start
from pleb_coordinator.core.records import (
    Project,
    ProjectState,
    Purpose,
    Round,
    UnitRow,
    VersionInput,
    VersionRow,
)
from pleb_coordinator.core.rounds import ready
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.steps.access import blobs_of, is_key_replaced
from pleb_coordinator.steps.activity import settle
from pleb_coordinator.steps.files import keep_blobs
from pleb_coordinator.steps.lookback import Looks, doubtful, hold, looks_of
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.parts import blob_of
from pleb_shared.protocol.version_log import join_leaves, result_leaf
from pleb_shared.tensors.distance import parameter_norms
from pleb_shared.tensors.format import difference_format
from pleb_shared.tensors.layout import Tensors, save_tensors
from pleb_shared.tensors.version import read_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pleb_coordinator.core.records import StoredDelta
    from pleb_coordinator.core.suspicion import Signal
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.steps.access import ProjectBlobs
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["RoundWork", "commit", "compute", "find"]

_INPUTS: Final = {UnitState.VALID}


@dataclass(frozen=True)
class RoundWork:
    """A round that is over, and all that goes into the next version."""

    project: Project
    round: Round
    previous: VersionRow
    inputs: tuple[VersionInput, ...]
    deltas: tuple[StoredDelta, ...]
    train_loss: float | None
    looks: Looks
    leaves: tuple[bytes, ...]
    """Of all results that count for it, also those that confirmed another one."""

    @property
    def key(self) -> str:
        """Name of this work among all rounds."""
        return _key(self.round)


def find(
    tx: Transaction, deps: Deps, project: Project, claimed: Collection[str]
) -> RoundWork | None:
    """Return the newest version's round if it is over, else None; one look-up if it is not."""
    if project.state != ProjectState.ACTIVE:
        return None
    row = tx.rounds.get(project.id, project.epoch, project.version)
    if row is None or not row.has_quorum:
        return None
    rules, in_hand = project.metadata.round, None
    if rules.shortest_unit < 1:  # nobody begins a unit that would end later
        in_hand = sum(tx.rounds.open_units(project.id, project.epoch, project.version)[1:])
    if not ready(row, rules.grace_seconds, deps.clock(), in_hand):
        return None
    if _key(row) in claimed:
        return None
    units = tx.units.of_round(project.id, project.epoch, project.version, _INPUTS)
    chosen = [tx.assignments.get(unit.canonical) for unit in units if unit.canonical is not None]
    samples = float(project.metadata.training.batch_examples)
    inputs = tuple(
        VersionInput(
            unit=unit.id,
            assignment=found.id,
            digest=found.digest,
            weight=samples * unit.local_steps,
            chunk=unit.chunk,
            batches_per_step=unit.batches_per_step,
        )
        for unit, found in zip(units, chosen, strict=True)
    )
    losses = [found.loss_last for found in chosen if found.loss_last is not None]
    if project.metadata.privacy is not None:
        losses = []  # they are exact: the page would say of the data what the version hides
    return RoundWork(
        project=project,
        round=row,
        previous=tx.versions.get(project.id, project.epoch, project.version),
        inputs=inputs,
        deltas=tuple(_stored(tx, entry) for entry in inputs),
        train_loss=sum(losses) / len(losses) if losses else None,
        looks=looks_of(tx, project),
        leaves=tuple(leaf for unit in units for leaf in _leaves(tx, unit)),
    )


def compute(deps: Deps, work: RoundWork) -> VersionRow | dict[int, Signal]:
    """Return the next version's row, its blobs written and synced.

    If some results look doubtful beside the others: why, by unit, and no version.

    Raises:
        EncodingError, Refusal: the store's own bytes are damaged or missing.
    """
    if doubts := doubtful(work.looks):
        return doubts
    metadata, previous = work.project.metadata, work.previous
    blobs = blobs_of(deps, work.project)
    version = read_version(previous.readable_source, metadata, blobs.get)
    warm_start = is_warm_start(work.inputs)
    deltas = [
        (blobs.delta_view(stored, entry.digest), entry.weight)
        for stored, entry in zip(work.deltas, work.inputs, strict=True)
    ]
    state = _state(blobs, work, version)
    chunks = chunks_of(work.inputs, previous.number)
    noise = deps.noise_key.seed(metadata, previous.number + 1, work.inputs)
    made = next_version(
        version, state, deltas, metadata, warm_start=warm_start, chunks=chunks, noise=noise
    )
    return _row(deps, blobs, work, made, digest_of(noise) if noise else "")


def commit(
    tx: Transaction, deps: Deps, work: RoundWork, row: VersionRow | dict[int, Signal]
) -> bool:
    """Make `row` the newest version and close its round, or hold the results that are doubtful.

    Returns:
        False: another process was first, a verdict has changed the inputs meanwhile, or the
            project's key was replaced, so that the version must be sealed with the new one.

    Raises:
        LookupError: one of its files is being deleted right now.
    """
    now, round_ = deps.clock(), work.round
    place = (round_.project, round_.epoch, round_.version)
    valid = tx.units.of_round(*place, _INPUTS)
    if [unit.canonical for unit in valid] != [entry.assignment for entry in work.inputs]:
        return False
    if isinstance(row, dict):
        hold(tx, now, row)
        return True
    if is_key_replaced(tx, work.project):
        return False
    if not (tx.rounds.close(round_, now) and tx.versions.add(row)):
        return False
    keep_blobs(tx, deps, row.blobs)
    tx.projects.advance(round_.project, round_.epoch, round_.version, row.number)
    for unit in valid:
        tx.units.move(unit, UnitEvent.APPLIED, now, unit.canonical)
    for unit in tx.units.of_round(*place, {UnitState.OPEN}):
        _close_late(tx, unit, now)
    tx.events.add(
        round_.project,
        now,
        "advanced",
        version=row.number,
        digest=row.digest,
        deltas=len(work.inputs),
        train_loss=row.train_loss,
    )
    settle(tx, round_.project, now)
    return True


def _key(row: Round) -> str:
    return f"{row.project}/{row.epoch}/{row.version}"


def _close_late(tx: Transaction, unit: UnitRow, now: float) -> None:
    """Close a unit without a verdict.

    Hosts finish what they have begun, for credit and reputation; no new host starts on it.
    """
    tx.units.move(unit, UnitEvent.CLOSED, now, None)
    tx.assignments.cancel_unsent(unit.id, (Purpose.PRIMARY,))


def _row(deps: Deps, blobs: ProjectBlobs, work: RoundWork, made: Made, noise: str) -> VersionRow:
    """Return the version's row, its blobs stored as hosts get them."""
    previous = work.previous
    number = previous.number + 1
    difference, state = blobs.sealed(made.difference), blobs.sealed(made.state.to_bytes())
    snapshot = b""
    if number % snapshot_interval(difference_format(work.project.metadata)) == 0:
        snapshot = blobs.sealed(save_tensors(made.version))
    before = name_of(deps.blobs, previous.snapshot) if previous.snapshot else None
    source = following_source(previous, before, made.digest, difference)
    leaves = blobs.sealed(join_leaves(work.leaves))
    deps.blobs.put(leaves)
    return VersionRow(
        project=previous.project,
        epoch=previous.epoch,
        number=number,
        digest=made.digest,
        metadata_number=work.project.metadata_number,
        difference=deps.blobs.put(difference),
        outer_state=deps.blobs.put(state),
        snapshot=deps.blobs.put(snapshot) if snapshot else "",
        inputs=work.inputs,
        source=source,
        train_loss=work.train_loss,
        made_at=deps.clock(),
        norms=parameter_norms(made.version, work.project.metadata.model),
        results=len(work.inputs),
        delta_bytes=sum(stored.size for stored in work.deltas),
        blob_bytes=len(difference) + len(state) + len(snapshot),
        noise=noise,
        leaves=blob_of(leaves),
    )


def _state(blobs: ProjectBlobs, work: RoundWork, version: Tensors) -> OuterState:
    """Return the outer step's state; `version` has the shapes of the model's tensors."""
    if work.previous.number == 0:
        return OuterState.initial(version, work.project.metadata.model)
    return OuterState.from_bytes(blobs.get(work.previous.outer_state))


def _leaves(tx: Transaction, unit: UnitRow) -> Iterator[bytes]:
    """Yield what the log keeps of a unit's good results; their hosts find their own by it."""
    hosts = tx.hosts.of_unit(unit.id)
    for found in tx.assignments.of_unit(unit.id):
        if found.verdict is Verdict.VALID and found.host in hosts:
            yield result_leaf(found.nonce, hosts[found.host].fingerprint, found.digest)


def _stored(tx: Transaction, entry: VersionInput) -> StoredDelta:
    """Return the bytes of a result, or of one that is equal to the bit."""
    name = tx.assignments.with_delta(entry.unit, entry.digest)
    stored = None if name is None else tx.assignments.delta(name)
    if stored is None:
        message = f"The delta of assignment {entry.assignment} is not in the store."
        raise LookupError(message)
    return stored
