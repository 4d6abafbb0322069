"""A project's units: a unit's results and why they counted or not; taking one back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

import msgspec

from pleb_coordinator.admin.command import Command, Desk, Limit, Number, Text, Value
from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.records import Purpose, UnitRow
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.steps.outcome import cancel_unit
from pleb_shared.errors import InputError
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import Reason, ReasonCode, because
from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Assignment
    from pleb_coordinator.store.transaction import Transaction

__all__ = [
    "COMMANDS",
    "AssignmentShown",
    "CancelUnit",
    "ListUnits",
    "ShowUnit",
    "UnitCancelled",
    "UnitDetails",
    "UnitEvent",
]

_GONE: Final = "a PC that has left"


class AssignmentShown(Value, frozen=True):
    """One copy of a unit; the fields are those of `core.records.Assignment`."""

    assignment: int
    host_calls_it: int
    """The number that its host knows it by."""
    purpose: Purpose
    state: AssignmentState
    trusted_only: bool
    for_class: str
    for_host: int | None
    fetch_by: float | None
    created_at: float
    host: str | None
    """The fingerprint of its host; None: no host has it yet."""
    host_name: str
    host_role: str
    account: str
    network: str
    issued_at: float | None
    lease_until: float | None
    reported_at: float | None
    digest: str
    size: int
    loss_first: float | None
    loss_last: float | None
    compute_seconds: float | None
    norm: float | None
    verdict: Verdict | None
    credit: float
    ripe_at: float | None
    reason: Reason | None
    verdict_sent: bool
    out_of_turn: bool


class UnitEvent(Value, frozen=True):
    """What happened to a unit."""

    seq: int
    at: float
    kind: str
    host: int | None
    detail: dict[str, Any]


class UnitDetails(UnitRow, frozen=True, kw_only=True):
    """A unit, its assignments and every decision about them."""

    assignments: list[AssignmentShown]
    events: list[UnitEvent]
    comparable: bool
    """Whether results of different PCs can be compared in its project."""


class UnitCancelled(Value, frozen=True):
    """A unit is taken back."""

    unit: int
    state: str


class ListUnits(Command[list[UnitRow]], frozen=True):
    """A project's units, those of the newest versions first."""

    words: ClassVar[str] = "unit list"
    project: Text
    limit: Limit = 500

    def carry_out(self, desk: Desk) -> list[UnitRow]:
        """Read them. Raises `Refusal` unknown_project."""
        with desk.opened() as store, store.read() as tx:
            return tx.units.newest(tx.projects.find(self.project).id, self.limit)


class ShowUnit(Command[UnitDetails], frozen=True):
    """One unit."""

    words: ClassVar[str] = "unit show"
    unit: Number

    def carry_out(self, desk: Desk) -> UnitDetails:
        """Raises `InputError`: there is no such unit."""
        with desk.opened() as store, store.read() as tx:
            unit = _unit(tx, self.unit)
            found = [_shown(desk, tx, one) for one in tx.assignments.of_unit(unit.id)]
            events = tx.events.of_unit(unit.id)
            comparable = tx.projects.get(unit.project).metadata.verification.comparable
        return UnitDetails(
            **msgspec.structs.asdict(unit),
            assignments=found,
            events=[UnitEvent(e.seq, e.at, e.kind, e.host, e.detail) for e in events],
            comparable=comparable,
        )


class CancelUnit(Command[UnitCancelled], frozen=True):
    """Take back a unit that is not decided; no host is blamed, and its round needs one less."""

    words: ClassVar[str] = "unit cancel"
    unit: Number

    def carry_out(self, desk: Desk) -> UnitCancelled:
        """Raises `InputError`: there is no such unit, it is decided, or its round's only one.

        And `Refusal` not_permitted: the unit is of a project that the actor may not change.
        """
        now = desk.clock()
        with desk.opened() as store, store.write() as tx:
            unit = _unit(tx, self.unit)
            desk.actor.check_project(tx.projects.get(unit.project).name)
            open_ = unit.state in {UnitState.OPEN, UnitState.LATE}
            if unit.kind is UnitKind.CALIBRATE or not open_:
                what = "a calibration" if unit.kind is UnitKind.CALIBRATE else unit.state
                raise InputError(
                    f"Unit {unit.id} is {what}: only one that is not decided can be cancelled."
                )
            if unit.kind is UnitKind.TRAIN and unit.state is UnitState.OPEN:
                _ease(tx, unit, now)
            cancel_unit(tx, unit, now, because(ReasonCode.CANCELLED_BY_OPERATOR))
            tx.events.add(unit.project, now, "unit_cancelled", unit=unit.id)
        return UnitCancelled(unit.id, "cancelled")


def _unit(tx: Transaction, number: int) -> UnitRow:
    try:
        return tx.units.get(number)
    except LookupError as error:
        message = f"There is no unit {number}: see `pleb-coordinator unit list PROJECT`."
        raise InputError(message) from error


def _ease(tx: Transaction, unit: UnitRow, now: float) -> None:
    """Let the unit's round be over without it."""
    row = tx.rounds.get(unit.project, unit.epoch, unit.version)
    left = 0 if row is None else row.open + row.valid - 1
    if left < 1:
        raise InputError(
            f"Unit {unit.id} is the only one of its round: without it there would be no next "
            "version. Pause the project instead."
        )
    if row is not None and row.quorum > left:
        tx.rounds.lower_quorum(row, left)
        if row.valid >= left and row.quorum_at is None:
            tx.rounds.set_quorum_at(row, now)


def _shown(desk: Desk, tx: Transaction, found: Assignment) -> AssignmentShown:
    values = msgspec.structs.asdict(found)
    for name in ("id", "nonce", "project", "unit", "epoch", "version"):
        del values[name]
    host = None if found.host is None else tx.hosts.of_id(found.host)
    left = found.host is not None and host is None
    values["host"] = host.fingerprint if host else "(left)" if left else None
    return AssignmentShown(
        assignment=found.id,
        host_calls_it=desk.numbers.shown(found.id),
        host_name=host.display_name if host else _GONE if left else "",
        host_role=host.role if host else "",
        **values,
    )


COMMANDS: Final = (ListUnits, ShowUnit, CancelUnit)
