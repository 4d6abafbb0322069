"""calibrate: hosts get their determinism class; distances between classes set the tolerance.

Distances are measured only between two classes of which at least one leads (a trusted host or two
voices belong to it): a liar can make many classes, and comparing all pairs would be a flood of
work. A class is measured again when it begins to lead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentEvent
from pleb_coordinator.core.calibration import isolated_classes, raised_tolerance
from pleb_coordinator.core.chunks import whole_steps
from pleb_coordinator.core.tolerance import pair
from pleb_coordinator.steps.access import blobs_of
from pleb_shared.protocol.project import calibration_unit
from pleb_shared.protocol.unit import UnitKind
from pleb_shared.tensors.distance import distances
from pleb_shared.tensors.format import delta_format, training_format

if TYPE_CHECKING:
    from collections.abc import Collection

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
    "commit",
    "compute",
    "find",
    "find_reports",
    "record_reports",
]


_MOST_COMPARED: Final = 256
"""Classes that one is compared with: those that lead first, then the newest."""


@dataclass(frozen=True)
class Measurement:
    """A class whose distances to others are wanted."""

    project: Project
    digest: str
    delta: StoredDelta
    others: tuple[tuple[str, StoredDelta], ...]

    @property
    def key(self) -> str:
        """Name of this work among all measurements."""
        return _key(self.project, self.digest)


def find_reports(tx: Transaction, _: Deps, project: Project) -> UnitRow | None:
    """Return the calibration unit if it has results that were not recorded yet, else None."""
    unit = tx.units.find(project.id, project.epoch, 0, UnitKind.CALIBRATE, 0)
    return unit if unit is not None and unit.due else None


def record_reports(tx: Transaction, deps: Deps, unit: UnitRow) -> int:
    """Give hosts the class that their calibration names; return how many."""
    if not tx.units.looked_at(unit.id, unit.revision):
        return 0  # another calibration has come, or another process has recorded them
    project, reported = tx.projects.get(unit.project), tx.assignments.reported(unit.id)
    for assignment in reported:
        _record(tx, project, unit, assignment, deps.clock())
    if reported:
        _conclude(tx, project)
    return len(reported)


def find(
    tx: Transaction, _: Deps, project: Project, claimed: Collection[str]
) -> Measurement | None:
    """Return a class that was not measured yet, or None."""
    for waiting in tx.calibrations.unmeasured(project.id):
        delta = tx.assignments.delta(waiting.assignment)
        if delta is None or _key(project, waiting.digest) in claimed:
            continue
        others = [
            (other.digest, tx.assignments.delta(other.assignment))
            for other in _to_compare(tx, project, waiting)
        ]
        known = tuple((digest, stored) for digest, stored in others if stored is not None)
        return Measurement(project, waiting.digest, delta, known)
    return None


def compute(deps: Deps, measurement: Measurement) -> dict[tuple[str, str], float]:
    """Return the distance to every other class: the largest over all tensors.

    Calibrations travel as fp32. They are compared after the encoding that training deltas get,
    since the tolerance is applied to that.
    """
    project = measurement.project
    mine = _as_delta(deps, project, measurement.delta)
    encoding = training_format(project.metadata, project.metadata.calibration.chunk)
    return {
        pair(measurement.digest, digest): max(
            distances(mine, _as_delta(deps, project, stored), encoding).values(), default=0.0
        )
        for digest, stored in measurement.others
    }


def commit(
    tx: Transaction, _: Deps, measurement: Measurement, found: dict[tuple[str, str], float]
) -> None:
    """Store the distances, and what follows from them: the tolerance, and isolated classes.

    Nothing is stored if the epoch has ended: classes are an epoch's.
    """
    project = tx.projects.get(measurement.project.id)
    if project.epoch != measurement.project.epoch:
        return
    for (first, second), distance in found.items():
        tx.calibrations.put_distance(project.id, first, second, distance)
    tx.calibrations.set_measured(project.id, measurement.digest, measured=True)
    _conclude(tx, project)


def _key(project: Project, digest: str) -> str:
    return f"{project.id}/{digest}"


def _to_compare(
    tx: Transaction, project: Project, found: CalibrationClass
) -> list[CalibrationClass]:
    """Return the classes whose distance from `found` is wanted and not known."""
    known = tx.calibrations.distances(project.id)
    others = [
        other
        for other in tx.calibrations.classes(project.id)
        if other.measured
        and (found.leads or other.leads)
        and other.digest != found.digest
        and pair(other.digest, found.digest) not in known
    ]
    others.sort(key=lambda other: (not other.leads, not other.trusted, -other.first_at))
    return others[:_MOST_COMPARED]


def _record(
    tx: Transaction, project: Project, unit: UnitRow, assignment: Assignment, now: float
) -> None:
    if not tx.assignments.move(assignment, AssignmentEvent.AGREED) or assignment.host is None:
        return
    host = tx.hosts.get(assignment.host)
    before = tx.calibrations.find_class(project.id, assignment.digest)
    tx.calibrations.add_class(project.id, assignment.digest, assignment.id, now)
    seconds = (assignment.compute_seconds or 0.0) / (whole_steps(unit, project.facts) or 1.0)
    tx.calibrations.record(host, host.runtime, assignment.digest, seconds, now)
    after = tx.calibrations.find_class(project.id, assignment.digest)
    if before is not None and after is not None and after.leads and not before.leads:
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
    tolerance = raised_tolerance(classes, apart, project.metadata.verification)
    tx.projects.set_tolerance(project.id, tolerance)
    isolated = isolated_classes(classes, apart, tolerance)
    for found in classes:
        if found.isolated != (found.digest in isolated):
            tx.calibrations.set_isolated(project.id, found.digest, found.digest in isolated)


def _as_delta(deps: Deps, project: Project, stored: StoredDelta) -> Tensors:
    """Return a calibration as it would decode if it had been sent as a training delta."""
    metadata = project.metadata
    data = blobs_of(deps, project).delta_view(stored, None)
    trained = training_format(metadata, metadata.calibration.chunk)
    exact = delta_format(metadata, calibration_unit(metadata)).decode(data)
    return trained.decode(trained.encode(exact))
