"""candidates: the unsent units that a host may have, each as the host would train it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.chunks import (
    best_chunk,
    fits,
    link_of,
    room_for_chunks,
    smaller_chunks,
    whole_memory,
)
from pleb_coordinator.core.records import Assignment, ProjectState, Purpose, UnitRow
from pleb_coordinator.core.shards import pick
from pleb_coordinator.store.assignments import Seeker
from pleb_shared.protocol.chunk import FULL
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_coordinator.steps import RequestContext

__all__ = ["choose", "keep_chunk", "of_smaller_chunks"]

_CHOICE: Final = 7
"""Candidates to choose from beyond those asked for, to find one on shards that the host has."""
_STRONG_SECONDS: Final = 600.0
"""Half of a round is kept for hosts with the memory for it while one asked within this time."""


def choose(
    context: RequestContext, purpose: Purpose, count: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return up to `count` unsent assignments of one purpose; first tries on shards it has."""
    host, project = context.host, context.project
    if purpose is Purpose.PRIMARY and project.state is ProjectState.FINISHED:
        return []  # its open round waits in case the project is continued
    seeker = Seeker(
        host.id,
        host.account,
        host.network,
        host.determinism_class,
        host.trusted,
        context.now,
        host.memory_bytes,
    )
    extra = _CHOICE if host.shards and purpose is Purpose.PRIMARY else 0
    chosen = context.tx.assignments.candidates(project.id, purpose, seeker, count + extra)
    if purpose is not Purpose.PRIMARY:
        return chosen
    chosen = pick(chosen, count, host.had_shards, project.facts.train_shards)
    found = []
    for assignment, unit in chosen:
        own = _of_a_chunk(context, unit)
        if own is not None:
            found.append((assignment, own))
    return _with_room(context, found)


def _with_room(
    context: RequestContext, pairs: list[tuple[Assignment, UnitRow]]
) -> list[tuple[Assignment, UnitRow]]:
    """Return those first tries that may be of the chunk that the host would train."""
    tx, project, metadata = context.tx, context.project, context.project.metadata
    if all(unit.chunk == FULL for _, unit in pairs):
        return pairs
    given = tx.units.count_chunks(project.id, project.epoch, project.version)
    since = context.now - _STRONG_SECONDS
    strong = tx.hosts.strong(project.id, since, whole_memory(metadata))
    found = []
    for assignment, unit in pairs:
        usual = project.median_step_seconds * unit.local_steps
        waited = context.now - assignment.created_at
        if unit.chunk != FULL and unit.batches_per_step > 1:  # a warm start trains all of it
            continue
        is_new = unit.chunk != FULL and tx.assignments.copies(unit) == 1
        if not is_new or room_for_chunks(metadata, given, strong, waited, usual):
            given += is_new
            found.append((assignment, unit))
    return found


def _of_a_chunk(context: RequestContext, unit: UnitRow) -> UnitRow | None:
    """Return a unit as the host would train it: of the best chunk for its memory.

    One that other hosts have had stays of its chunk, unless it has waited for long and the host is
    too small for it. None: the host cannot have it.
    """
    host = context.host
    is_new = not unit.memory_bytes
    if unit.kind is not UnitKind.TRAIN or not (is_new or not fits(unit, host)):
        return unit
    if not _may_change_chunk(context, unit):
        return None
    link = link_of(host, context.project.facts)
    best = best_chunk(context.project.metadata, host.memory_bytes, link)
    if best is None or (best.name, best.memory_bytes) == (unit.chunk, unit.memory_bytes):
        return unit
    return msgspec.structs.replace(unit, chunk=best.name, memory_bytes=best.memory_bytes)


def of_smaller_chunks(context: RequestContext, unit: UnitRow) -> list[UnitRow]:
    """Return a new unit as one of each smaller chunk: an anchor may have the memory for that."""
    if not _may_change_chunk(context, unit):
        return []
    sizes = smaller_chunks(context.project.metadata, unit.memory_bytes)
    return [
        msgspec.structs.replace(unit, chunk=choice.name, memory_bytes=choice.memory_bytes)
        for choice in sizes
        if unit.memory_bytes
    ]


def keep_chunk(context: RequestContext, unit: UnitRow) -> None:
    """Store the chunk of a unit that is given away: from now on it is of that chunk.

    Hosts whose lease of another one has ended cannot report it any more: their result would look
    like a wrong one.
    """
    if not unit.memory_bytes:
        return
    tx = context.tx
    before = tx.units.get(unit.id)
    if (before.chunk, before.memory_bytes) == (unit.chunk, unit.memory_bytes):
        return
    if tx.assignments.copies(unit) > 1:
        for assignment in tx.assignments.of_unit(unit.id):
            if assignment.state is AssignmentState.EXPIRED:
                tx.assignments.move(assignment, AssignmentEvent.CANCELLED)
    tx.units.set_chunk(unit.id, unit.chunk, unit.memory_bytes)


def _may_change_chunk(context: RequestContext, unit: UnitRow) -> bool:
    """Whether nobody computes the unit, and no result of it is here."""
    assignments = context.tx.assignments
    return assignments.copies(unit) == 1 or not assignments.is_computed(unit.id)
