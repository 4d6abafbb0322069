"""plan: give the newest version's round its units, each with one unsent assignment."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.chunks import whole_memory
from pleb_coordinator.core.planning import (
    LONGEST_WARM_START_SECONDS,
    Around,
    always_unconfirmed,
    evaluation_unit,
    round_quorum,
    round_units,
    warm_start_pays,
    warm_start_units,
    young_quorum,
)
from pleb_coordinator.core.records import (
    NewAssignment,
    Project,
    ProjectState,
    Purpose,
    Round,
    UnitRow,
)
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps.anchor import TRUSTED_SEEN_SECONDS
from pleb_coordinator.steps.outcome import cancel_unit
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "commit",
    "ease_round",
    "end_warm_start",
    "find",
    "find_vain_warm_start",
    "find_young",
]

YOUNG_SECONDS: Final = 30.0
"""A young fleet's round is left as it was planned for so long."""
_UNDER_WAY: Final = {AssignmentState.LEASED, AssignmentState.UPLOADING, AssignmentState.REPORTED}
_AROUND_SECONDS: Final = 600.0
"""Hosts that have asked for work within this time are around."""


def find(tx: Transaction, _: Deps, project: Project) -> Project | None:
    """Return the project if its newest version lacks its round or its evaluation."""
    place = (project.id, project.epoch, project.version)
    training = (
        _begins_rounds(project)
        and project.version < project.metadata.training.versions
        and tx.rounds.get(*place) is None
    )
    evaluation = (
        project.state in {ProjectState.ACTIVE, ProjectState.FINISHED}
        and project.facts.holdout_shards > 0
        and tx.units.find(*place, UnitKind.EVALUATE, 0) is None
    )
    return project if training or evaluation else None


def commit(tx: Transaction, deps: Deps, found: Project) -> bool:
    """Plan what the newest version still lacks; return whether anything was added.

    A warm start is one unit, for trusted hosts only. Every version gets an evaluation on the
    holdout, also for trusted hosts.
    """
    project, now = tx.projects.get(found.id), deps.clock()
    trained = _begins_rounds(project) and _plan_training(tx, deps, project, now)
    evaluates = project.state in {ProjectState.ACTIVE, ProjectState.FINISHED}
    return (evaluates and _plan_evaluation(tx, project, now)) or trained


def _begins_rounds(project: Project) -> bool:
    return project.state == ProjectState.ACTIVE and project.metadata.activity != "finishing"


def find_young(tx: Transaction, deps: Deps, project: Project) -> Round | None:
    """Return the open round if it is a young fleet's and has enough verified units, or None.

    Results that have come are confirmed first: a new volunteer's first one should not be too late.
    Where many are new some wait at any time, and their units count for them later.
    """
    trusted = tx.hosts.trusted(project.id, deps.clock() - TRUSTED_SEEN_SECONDS)
    enough = young_quorum(project, trusted)
    if enough is None or project.state != ProjectState.ACTIVE:
        return None
    row = tx.rounds.get(project.id, project.epoch, project.version)
    if row is None or row.closed_at is not None or row.has_quorum or row.valid < enough:
        return None
    if deps.clock() - row.opened_at < YOUNG_SECONDS:
        return None
    if always_unconfirmed(project, trusted):
        return row
    _, _, unconfirmed = tx.rounds.open_units(project.id, project.epoch, project.version)
    return None if unconfirmed else row


def ease_round(tx: Transaction, deps: Deps, row: Round) -> bool:
    """Let the verified units of the round be its quorum; the grace window starts."""
    now = deps.clock()
    if not tx.rounds.set_quorum(row, now):
        return False
    detail = {"version": row.version, "quorum": row.valid, "planned": row.quorum}
    tx.events.add(row.project, now, "eased", **detail)
    return True


def find_vain_warm_start(tx: Transaction, deps: Deps, project: Project) -> UnitRow | None:
    """Return the unit of a warm start that nobody computes and for which others wait in vain."""
    may = project.version < project.metadata.training.warm_start_versions
    if not may or project.state != ProjectState.ACTIVE:
        return None
    unit = tx.units.warm_start(project.id, project.epoch, project.version)
    if unit is None or unit.state is not UnitState.OPEN:
        return None
    if any(found.state in _UNDER_WAY for found in tx.assignments.of_unit(unit.id)):
        return None
    now = deps.clock()
    open_seconds = now - unit.planned_at
    around = _around(tx, project, now)
    if around.others and open_seconds > LONGEST_WARM_START_SECONDS:
        return unit  # a trusted host asks and does not take it, or gives it back
    pays = warm_start_pays(project.metadata, project.version, around, open_seconds)
    return None if pays else unit


def end_warm_start(tx: Transaction, deps: Deps, unit: UnitRow) -> bool:
    """Let all hosts train the version, by the units of an ordinary round."""
    now = deps.clock()
    project, row = tx.projects.get(unit.project), tx.rounds.get(*_place(unit))
    if row is None or row.closed_at is not None or find_vain_warm_start(tx, deps, project) != unit:
        return False
    cancel_unit(tx, unit, now, because(ReasonCode.NOT_CONFIRMED))
    units = round_units(project.metadata, project.facts, unit.version, first_position=1)
    units.sort(key=lambda _: deps.random_bytes(8))
    for planned in units:
        added = tx.units.add(*_place(unit), planned, now)
        tx.assignments.add(NewAssignment(added, Purpose.PRIMARY, now))
    quorum = round_quorum(project.metadata)
    tx.rounds.replan(row, len(units), quorum)
    detail = {"version": unit.version, "units": len(units), "quorum": quorum}
    tx.events.add(project.id, now, "planned", **detail)
    return True


def _place(unit: UnitRow) -> tuple[int, int, int]:
    return unit.project, unit.epoch, unit.version


def _around(tx: Transaction, project: Project, now: float) -> Around:
    since, metadata = now - _AROUND_SECONDS, project.metadata
    needed = whole_memory(metadata) if metadata.chunks else 0
    trusted, fastest = tx.hosts.trusted_asking(project.id, since, needed)
    return Around(
        trusted=trusted,
        fastest_trusted=fastest,
        others=tx.hosts.fleet(project.id, since).active_accounts,
    )


def _plan_training(tx: Transaction, deps: Deps, project: Project, now: float) -> bool:
    version, metadata = project.version, project.metadata
    if tx.rounds.get(project.id, project.epoch, version) is not None:
        return False
    may = version < metadata.training.warm_start_versions
    waited = math.inf if version else 0.0  # before the first version nobody has had time to come
    warm_start = may and warm_start_pays(metadata, version, _around(tx, project, now), waited)
    plan = warm_start_units if warm_start else round_units
    units = plan(metadata, project.facts, version)
    if not units:
        return False
    quorum = 1 if warm_start else round_quorum(metadata)
    row = Round(
        project=project.id,
        epoch=project.epoch,
        version=version,
        units=len(units),
        quorum=quorum,
        open=len(units),
        valid=0,
        opened_at=now,
        quorum_at=None,
        closed_at=None,
    )
    if not tx.rounds.add(row):
        return False
    place = (project.id, project.epoch, version)
    # Handed out in the order of their rows: were that the order of their places, which a manifest
    # states, a place out of turn would tell a check from a first try.
    units.sort(key=lambda _: deps.random_bytes(8))
    tx.units.plan(*place, units, Purpose.PRIMARY, trusted_only=warm_start, now=now)
    tx.events.add(project.id, now, "planned", version=version, units=len(units), quorum=quorum)
    return True


def _plan_evaluation(tx: Transaction, project: Project, now: float) -> bool:
    units = evaluation_unit(project.facts)
    place = (project.id, project.epoch, project.version)
    if not units or tx.units.find(*place, UnitKind.EVALUATE, 0) is not None:
        return False
    tx.units.plan(*place, units, Purpose.EVALUATION, trusted_only=True, now=now)
    return True
