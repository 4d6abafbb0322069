"""calibrate: hosts get their determinism class; distances between classes set the tolerance.

Distances are measured only where one of both classes is vouched for: anybody can make classes,
and all pairs of them would be a flood of work. A class that becomes vouched for is measured anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentEvent
from pleb_coordinator.core.calibration import isolated_classes, raised_tolerance
from pleb_coordinator.core.quorum import pair
from pleb_shared.protocol.project import calibration_unit
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.distance import distances
from pleb_shared.tensors.format import delta_format, training_format

if TYPE_CHECKING:
    from pleb_coordinator.core.records import (
        Assignment,
        CalibrationClass,
        Project,
        StoredDelta,
        UnitRow,
    )
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.tensors.layout import Tensors

__all__ = [
    "Measurement",
    "calibrations_due",
    "measure",
    "next_measurement",
    "record_calibrations",
    "record_measurement",
]


_MOST_COMPARED: Final = 256
"""Classes that one is compared with: those that are vouched for first, then the newest."""


@dataclass(frozen=True)
class Measurement:
    """A class whose distances to others are wanted."""

    project: Project
    digest: str
    delta: StoredDelta
    others: tuple[tuple[str, StoredDelta], ...]


def calibrations_due(tx: Transaction, project: Project) -> bool:
    """Whether calibrations have come that nobody has looked at."""
    unit = tx.units.find(project.id, project.epoch, 0, UnitKind.CALIBRATE, 0)
    return unit is not None and unit.due


def record_calibrations(tx: Transaction, deps: Deps, project: Project) -> int:
    """Give hosts whose calibration has come the class that it names; return how many."""
    unit = tx.units.find(project.id, project.epoch, 0, UnitKind.CALIBRATE, 0)
    if unit is None or not unit.due:
        return 0
    tx.units.looked_at(unit.id, unit.revision)
    reported = tx.assignments.reported(unit.id)
    for assignment in reported:
        _record(tx, project, unit, assignment, deps.clock())
    if reported:
        _conclude(tx, project)
    return len(reported)


def next_measurement(tx: Transaction, project: Project) -> Measurement | None:
    """Return a class that was not measured yet, or None."""
    waiting = tx.calibrations.unmeasured(project.id)
    if not waiting:
        return None
    found = waiting[0]
    delta = tx.assignments.delta(found.assignment)
    if delta is None:
        return None
    others = [
        (other.digest, tx.assignments.delta(other.assignment))
        for other in _to_compare(tx, project, found)
    ]
    known = tuple((digest, stored) for digest, stored in others if stored is not None)
    return Measurement(project, found.digest, delta, known)


def measure(deps: Deps, measurement: Measurement) -> dict[tuple[str, str], float]:
    """Return the distance to every other class: the largest over all tensors.

    Calibrations travel as fp32; they are compared after the encoding that deltas get, since
    that is what the tolerance is applied to.
    """
    project = measurement.project
    mine = _as_delta(deps, project, measurement.delta)
    encoding = training_format(project.metadata)
    return {
        pair(measurement.digest, digest): max(
            distances(mine, _as_delta(deps, project, stored), encoding).values(), default=0.0
        )
        for digest, stored in measurement.others
    }


def record_measurement(
    tx: Transaction,
    project: Project,
    measurement: Measurement,
    found: dict[tuple[str, str], float],
) -> None:
    """Store the distances, and what follows from them; nothing if the epoch has ended."""
    if tx.projects.get(project.id).epoch != project.epoch:
        return
    for (first, second), distance in found.items():
        tx.calibrations.put_distance(project.id, first, second, distance)
    tx.calibrations.set_measured(project.id, measurement.digest, measured=True)
    _conclude(tx, project)


def _to_compare(
    tx: Transaction, project: Project, found: CalibrationClass
) -> list[CalibrationClass]:
    """Return the classes whose distance from `found` is wanted and not known."""
    known = tx.calibrations.distances(project.id)
    others = [
        other
        for other in tx.calibrations.classes(project.id)
        if other.measured
        and (found.vouched or other.vouched)
        and other.digest != found.digest
        and pair(other.digest, found.digest) not in known
    ]
    others.sort(key=lambda other: (not other.vouched, -other.first_at))
    return others[:_MOST_COMPARED]


def _record(
    tx: Transaction, project: Project, unit: UnitRow, assignment: Assignment, now: float
) -> None:
    if not tx.assignments.move(assignment, AssignmentEvent.AGREED) or assignment.host is None:
        return
    host = tx.hosts.get(assignment.host)
    before = tx.calibrations.find_class(project.id, assignment.digest)
    tx.calibrations.add_class(project.id, assignment.digest, assignment.id, now)
    seconds = (assignment.compute_seconds or 0.0) / max(1, unit.local_steps)
    tx.calibrations.record(host, host.runtime, assignment.digest, seconds, now)
    after = tx.calibrations.find_class(project.id, assignment.digest)
    if before is not None and after is not None and after.vouched and not before.vouched:
        tx.calibrations.set_measured(project.id, assignment.digest, measured=False)
    tx.hosts.set_runtime(host.id, host.runtime, assignment.digest)
    if seconds > 0:
        tx.hosts.set_speed(host.id, seconds)
    tx.events.add(
        project.id,
        now,
        "calibrated",
        host=host.id,
        determinism_class=assignment.digest,
        seconds_per_step=seconds,
    )


def _conclude(tx: Transaction, project: Project) -> None:
    classes = tx.calibrations.classes(project.id)
    apart = tx.calibrations.distances(project.id)
    rules = project.metadata.verification
    tx.projects.set_tolerance(project.id, raised_tolerance(classes, apart, rules))
    isolated = isolated_classes(classes, apart, rules)
    for found in classes:
        if found.isolated != (found.digest in isolated):
            tx.calibrations.set_isolated(project.id, found.digest, found.digest in isolated)


def _as_delta(deps: Deps, project: Project, stored: StoredDelta) -> Tensors:
    """Return a calibration as it would decode if it had been sent as a training delta."""
    metadata = project.metadata
    data = deps.blobs.delta(stored.assignment) if stored.data is None else stored.data
    trained = training_format(metadata)
    exact = delta_format(metadata, calibration_unit(metadata)).decode(data)
    return trained.decode(trained.encode(exact))
