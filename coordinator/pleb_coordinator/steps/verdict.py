"""What follows from a decision of `verify`, for the unit, its results and their hosts.

- One result counts (`record_verdicts`): the unit is decided, agreeing hosts get credit and a longer
  record, the others lose theirs, and the unit may be drawn for an audit.
- One more result is needed (`ask_another`): a replica, or a decider where results differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.records import NewAssignment, Purpose
from pleb_coordinator.core.reputation import (
    AUDIT_WINDOW_SECONDS,
    after_invalid,
    after_valid,
    audit_drawn,
    audit_is_trusted,
    standing_of,
)
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.store.assignments import Judgement
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pleb_coordinator.core.quorum import NeedsAnother, Valid
    from pleb_coordinator.core.records import Assignment, Host, Project, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["CaseContext", "ask_another", "note_quorum", "record_verdicts"]

_OUTSTANDING: Final = {
    AssignmentState.UNSENT,
    AssignmentState.LEASED,
    AssignmentState.UPLOADING,
}
_TRUSTED_SEEN_SECONDS: Final = 3600.0
"""Work is reserved for trusted hosts only while one was seen within this time: otherwise the unit
would wait for a host that may never come back."""


@dataclass(frozen=True)
class CaseContext:
    """A unit whose results were just compared."""

    tx: Transaction
    deps: Deps
    project: Project
    unit: UnitRow
    results: Sequence[Assignment]
    """Oldest first."""
    hosts: Mapping[int, Host]
    """By assignment, as they were before the comparison."""
    now: float


def record_verdicts(context: CaseContext, decision: Valid) -> None:
    """Decide the unit, and judge all its results."""
    tx, unit, now = context.tx, context.unit, context.now
    if unit.state in {UnitState.OPEN, UnitState.LATE}:
        tx.units.move(unit, UnitEvent.DECIDED, now, _canonical(context, decision))
    elif unit.canonical in decision.disagreeing:
        # Before the round closes the right result takes the wrong one's place. Later the delta
        # stays: taking it out again with momentum was measured to do more harm.
        tx.units.move(unit, UnitEvent.REFUTED, now, unit.canonical)
        if unit.state != UnitState.APPLIED:
            reopened = tx.units.get(unit.id)
            tx.units.move(reopened, UnitEvent.DECIDED, now, _canonical(context, decision))
    tx.assignments.cancel_unsent(unit.id, (Purpose.PRIMARY, Purpose.REPLICA, Purpose.DECIDER))
    for assignment in context.results:
        if assignment.id in decision.disagreeing:
            _convict(context, assignment, decision)
        elif assignment.state == AssignmentState.REPORTED:
            _accept(context, assignment, decision)
    _draw_audit(context, decision)


def ask_another(context: CaseContext, decision: NeedsAnother) -> None:
    """Add a replica or decider, unless one more result is on its way already.

    A first try that is still unsent is cancelled: its unit's lease had run out, and the result
    came after all.
    """
    context.tx.assignments.cancel_unsent(context.unit.id, (Purpose.PRIMARY,))
    if decision.disagreement:
        purpose, trusted_from = Purpose.DECIDER, 0.0
    else:
        wait = context.project.metadata.verification.replica_wait_seconds
        purpose, trusted_from = Purpose.REPLICA, context.now + wait
    _add(context, purpose, trusted_only=decision.trusted_only, trusted_from=trusted_from)


def note_quorum(context: CaseContext) -> None:
    """Start or stop the clock of the round's grace window."""
    unit, rounds = context.unit, context.tx.rounds
    row = rounds.get(unit.project, unit.epoch, unit.version)
    if row is None or row.closed_at is not None:
        return
    if row.has_quorum != (row.quorum_at is not None):
        rounds.set_quorum_at(row, context.now if row.has_quorum else None)


def _canonical(context: CaseContext, decision: Valid) -> int:
    """Return the canonical result, or one equal to the bit whose delta is stored."""
    digests = {found.id: found.digest for found in context.results}
    stored = context.tx.assignments.with_delta(context.unit.id, digests[decision.canonical])
    return decision.canonical if stored is None else stored


def _accept(context: CaseContext, assignment: Assignment, decision: Valid) -> None:
    """Give a result its credit: the FLOPs of its steps, counted from the graph."""
    tx, project, unit = context.tx, context.project, context.unit
    credit = float(project.facts.flops_per_step * unit.local_steps)
    late = unit.state in {UnitState.LATE, UnitState.CREDITED}
    verdict = Verdict.LATE if late else Verdict.VALID
    reason = because(ReasonCode.TOO_LATE) if late else decision.reason
    judgement = Judgement(verdict, credit, context.now + AUDIT_WINDOW_SECONDS, reason)
    tx.assignments.judge(assignment, AssignmentEvent.AGREED, judgement)
    # read again: one host may have several of the unit's results
    host = tx.hosts.get(context.hosts[assignment.id].id)
    rules = project.metadata.verification
    tx.hosts.set_standing(host.id, after_valid(standing_of(host), rules, credit))


def _convict(context: CaseContext, assignment: Assignment, decision: Valid) -> None:
    """Judge a result as wrong; its host loses its record and the credit that is not ripe yet."""
    tx, unit, now = context.tx, context.unit, context.now
    judgement = Judgement(Verdict.INVALID, 0.0, None, decision.against)
    taken_back = assignment.credit if assignment.state == AssignmentState.VALID else 0.0
    tx.assignments.judge(assignment, AssignmentEvent.DISAGREED, judgement)
    host = tx.hosts.get(context.hosts[assignment.id].id)
    if host.trusted:  # the operator vouches for it, and decides what to do
        return
    taken_back += tx.assignments.take_back_credit(host.id, now)
    rules = context.project.metadata.verification
    standing = after_invalid(standing_of(host), rules, taken_back, now)
    tx.hosts.set_standing(host.id, standing)
    detail = {"assignment": assignment.id, "taken_back": taken_back}
    tx.events.add(unit.project, now, "convicted", unit=unit.id, host=host.id, **detail)
    if standing.bans > host.bans:
        tx.assignments.end_leases(host.id, now)
        ban: dict[str, Any] = {"until": standing.banned_until, "reason": standing.ban_reason}
        tx.events.add(unit.project, now, "banned", host=host.id, **ban)


def _draw_audit(context: CaseContext, decision: Valid) -> None:
    """Let another host silently do the unit of a proven host again, if the draw says so."""
    if len(decision.agreeing) != 1 or len(context.results) != 1:
        return
    rate, secret = context.project.metadata.verification.audit_rate, context.deps.secret
    if context.hosts[decision.canonical].trusted or not audit_drawn(secret, context.unit.id, rate):
        return
    alone = context.project.active_accounts < 2  # no other volunteer could take it
    trusted_only = alone or audit_is_trusted(secret, context.unit.id)
    _add(context, Purpose.AUDIT, trusted_only=trusted_only)


def _add(
    context: CaseContext, purpose: Purpose, *, trusted_only: bool, trusted_from: float = 0.0
) -> None:
    """Add an assignment of the unit, unless one is outstanding."""
    tx, unit = context.tx, context.unit
    if any(found.state in _OUTSTANDING for found in tx.assignments.of_unit(unit.id)):
        return
    seen_since = context.now - _TRUSTED_SEEN_SECONDS
    new = NewAssignment(
        unit=unit.id,
        purpose=purpose,
        created_at=context.now,
        trusted_only=trusted_only and tx.hosts.has_trusted(unit.project, seen_since),
        trusted_from=trusted_from,
        for_class=_confirming_class(context),
    )
    tx.assignments.add(new)


def _confirming_class(context: CaseContext) -> str:
    """Return the determinism class that must confirm the first result; empty: any can.

    A class without a voucher never confirms: a liar's calibration makes one of its own, and its
    units would wait forever for a second host of it.
    """
    first = context.hosts[context.results[0].id]
    found = context.tx.calibrations.find_class(context.unit.project, first.determinism_class)
    return found.digest if found is not None and found.isolated and found.vouched else ""
