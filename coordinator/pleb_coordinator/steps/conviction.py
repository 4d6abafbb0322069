"""conviction: what a wrong result costs its host, and how that is taken back.

A host that is convicted loses its record and the credit that is not ripe; its other results that
count for the open round only on its own word are computed again, and its last results that
volunteers confirmed are spot-checked. On volunteers' word a proven host is only suspended while
there is a trusted host, which looks at the case. A conviction on volunteers' word is remembered,
so that a trusted host's word can take it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from pleb_coordinator.core.assignment_state import AssignmentEvent
from pleb_coordinator.core.records import (
    Assignment,
    Conviction,
    Counting,
    Host,
    NewAssignment,
    Purpose,
    SpotCheck,
    UnitRow,
)
from pleb_coordinator.core.reputation import (
    after_caught,
    after_convicted,
    after_pardoned,
    audit_rate,
    standing_of,
    surge_units,
)
from pleb_coordinator.core.unit_state import UnitEvent
from pleb_coordinator.steps.anchor import ask_trusted
from pleb_coordinator.store.assignments import Judgement
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Project
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.protocol.reasons import Reason

__all__ = ["convict", "doubt", "pardon", "suspend"]

_SPOT_CHECKED: Final = 2
"""A convicted host's newest results that volunteers confirmed."""


def convict(
    tx: Transaction,
    now: float,
    assignment: Assignment,
    reason: Reason,
    *,
    by_trusted: bool,
) -> None:
    """Judge a result as wrong, with what that means for its host.

    Nothing happens to a trusted host: the operator vouches for it, and decides what to do. In a
    project whose results cannot be compared, nobody is found wrong.
    """
    project, unit = tx.projects.get(assignment.project), tx.units.get(assignment.unit)
    host = _host_of(tx, assignment)
    standing = standing_of(host)
    rules = project.metadata.verification
    taken_back = assignment.credit
    judgement = Judgement(Verdict.INVALID, 0.0, None, reason)
    if not tx.assignments.judge(assignment, AssignmentEvent.DISAGREED, judgement) or host.trusted:
        return
    if host.suspended_by != unit.id:  # its suspension has raised the alarm already
        _raise_alarm(tx, host, assignment, unit, project)
    taken_back += tx.assignments.take_back_credit(host.id, now)
    if not by_trusted:
        others = taken_back - assignment.credit
        before = Conviction(unit.id, host.id, project.id, now, host.record, host.proven, others)
        tx.hosts.add_conviction(before)
        tx.units.set_spot_check(unit.id, SpotCheck.WANTED)
    standing = after_convicted(standing, rules, taken_back, unit.id, now)
    tx.hosts.set_standing(host.id, standing)
    detail = {"assignment": assignment.id, "taken_back": taken_back, "by_trusted": by_trusted}
    tx.events.add(project.id, now, "convicted", unit=unit.id, host=host.id, **detail)
    for confirmed in tx.assignments.confirmed_units_of(host.id, _SPOT_CHECKED):
        tx.units.set_spot_check(confirmed.id, SpotCheck.WANTED)
    _withdraw(tx, now, project, host)
    if standing.bans > host.bans:
        tx.assignments.end_leases(host.id, now)
        ban: dict[str, Any] = {"until": standing.banned_until, "reason": standing.ban_reason}
        tx.events.add(project.id, now, "banned", host=host.id, **ban)


def doubt(tx: Transaction, now: float, assignment: Assignment) -> None:
    """Let a host start anew whose result is far off, though its kind of PC may be the reason.

    It is not convicted: it keeps its credit and is not banned. But its word does not count until it
    is confirmed again, or a liar could name an unusual kind of PC and lie as often as it likes.
    """
    unit, host = tx.units.get(assignment.unit), _host_of(tx, assignment)
    project = tx.projects.get(assignment.project)
    if host.trusted or not (host.record or host.proven):
        return
    _raise_alarm(tx, host, assignment, unit, project)
    tx.hosts.set_standing(host.id, replace(standing_of(host), record=0, proven=False))
    for confirmed in tx.assignments.confirmed_units_of(host.id, _SPOT_CHECKED):
        tx.units.set_spot_check(confirmed.id, SpotCheck.WANTED)
    _withdraw(tx, now, project, host)
    detail = {"assignment": assignment.id}
    tx.events.add(project.id, now, "doubted", unit=unit.id, host=host.id, **detail)


def suspend(tx: Transaction, now: float, assignment: Assignment) -> None:
    """Let a trusted host look at a case in which volunteers refuted a proven host."""
    unit, host = tx.units.get(assignment.unit), _host_of(tx, assignment)
    project = tx.projects.get(assignment.project)
    _raise_alarm(tx, host, assignment, unit, project)
    standing = replace(standing_of(host), proven=False, suspended_by=unit.id)
    tx.hosts.set_standing(host.id, standing)
    _give_back_checks(tx, host)
    ask_trusted(tx, now, unit, Purpose.APPEAL)
    tx.events.add(
        project.id, now, "suspended", unit=unit.id, host=host.id, assignment=assignment.id
    )


def pardon(tx: Transaction, now: float, assignment: Assignment, judgement: Judgement) -> None:
    """Restore what a host lost for a result that a trusted host's word confirms."""
    host = _host_of(tx, assignment)
    standing = standing_of(host)
    taken = tx.hosts.take_conviction(assignment.unit, host.id)
    if taken is not None:
        tx.assignments.judge(assignment, AssignmentEvent.PARDONED, judgement)
        credit = taken.credit + judgement.credit
        standing = after_pardoned(standing, taken.record, taken.proven, credit)
    elif host.suspended_by == assignment.unit:
        standing = replace(standing, suspended_by=None, proven=True)
    else:
        return
    tx.hosts.set_standing(host.id, standing)
    tx.events.add(
        host.project, now, "pardoned", unit=assignment.unit, host=host.id, assignment=assignment.id
    )


def _host_of(tx: Transaction, assignment: Assignment) -> Host:
    """Return the host that has the assignment, as earlier results of this transaction left it."""
    if assignment.host is None:
        message = f"Assignment {assignment.id} was never issued."
        raise LookupError(message)
    return tx.hosts.get(assignment.host)


def _raise_alarm(
    tx: Transaction, host: Host, assignment: Assignment, unit: UnitRow, project: Project
) -> None:
    """Check more from now on if a proven host was caught although it was checked seldom."""
    if not host.proven and host.suspended_by is None:
        return
    rules, alarm = project.metadata.verification, tx.hosts.alarm(project.id)
    rate = unit.audit_rate if assignment.purpose == Purpose.PRIMARY else None
    rate = audit_rate(host.record, alarm, rules) if rate is None else rate
    surge = surge_units(project.metadata.round.units, project.proven_hosts)
    tx.hosts.put_alarm(after_caught(alarm, rate, rules, surge))


def _withdraw(tx: Transaction, now: float, project: Project, host: Host) -> None:
    """Have the units of the open round computed again that count on the host's word alone."""
    _give_back_checks(tx, host)
    place = (project.id, project.epoch, project.version)
    for assignment, unit in tx.assignments.counting_of(*place, host.id):
        if any(other.id != assignment.id for other in tx.assignments.answered(unit.id)):
            continue
        tx.units.move(unit, UnitEvent.DISPUTED, now, None)
        judgement = Judgement(Verdict.LATE, 0.0, None, because(ReasonCode.WITHDRAWN))
        tx.assignments.judge(assignment, AssignmentEvent.WITHDRAWN, judgement)
        tx.units.set_counting(unit.id, Counting.UNKNOWN, None)
        tx.assignments.cancel_unsent(unit.id, (Purpose.CHECK,))
        tx.assignments.add(NewAssignment(unit.id, Purpose.PRIMARY, now))


def _give_back_checks(tx: Transaction, host: Host) -> None:
    """Let `verify` draw other hosts for what only this one might have computed."""
    for unit in tx.assignments.cancel_drawn_for(host.id):
        tx.units.make_due(unit)
