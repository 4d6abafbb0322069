"""What follows from a decision of `verify`, for the unit, its results and their hosts.

- A result counts: the unit is decided; hosts that agree get credit and a longer record, those
  that are proven wrong are convicted (`steps.conviction`).
- Results differ: none counts until it is known which is right.
- One more result is needed: a trusted host is asked, or a proven one drawn by lot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.chunks import flops_of_chunk, whole_steps
from pleb_coordinator.core.counting import Need
from pleb_coordinator.core.records import Counting, Purpose, SpotCheck
from pleb_coordinator.core.reputation import (
    AUDIT_WINDOW_SECONDS,
    after_near_miss,
    after_valid,
    fastest_step,
    standing_of,
)
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.steps.anchor import ask_anchor, ask_proven, ask_trusted
from pleb_coordinator.steps.conviction import convict, doubt, pardon, suspend
from pleb_coordinator.steps.files import remove_delta
from pleb_coordinator.steps.lookback import watch_versions
from pleb_coordinator.store.assignments import Judgement
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import ReasonCode, because

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pleb_coordinator.core.counting import Decision, Fleet
    from pleb_coordinator.core.records import Assignment, Host, Project, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["CaseContext", "apply_decision"]

_RETRY_SECONDS: Final = 30.0
"""After this time an anchor is looked for again."""
_LATER_SECONDS: Final = 900.0
"""After this time one more host is drawn for a dispute that five could not decide."""
_FLEET_SECONDS: Final = 5.0
_REFUTED: Final[dict[str, ReasonCode]] = {
    ReasonCode.MAJORITY_AGREES: ReasonCode.MAJORITY_DISAGREES,
}
"""The reason of results that are wrong, by that of those that are right."""


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
    fleet: Fleet
    now: float
    any_unsent: bool = True
    """Whether a copy of the unit may wait for a host."""


def apply_decision(context: CaseContext, decision: Decision) -> None:
    """Record what follows from the decision."""
    tx, unit = context.tx, context.unit
    if unit.version < context.project.oldest_accepted:
        _apply_late(context, decision)
        return
    if decision.canonical is not None:
        _settle(context, decision)
    elif decision.disputed:
        if unit.state in {UnitState.VALID, UnitState.CREDITED}:
            tx.units.move(unit, UnitEvent.DISPUTED, context.now, None)
        if not unit.disputed:
            tx.units.set_dispute(unit.id, disputed=True, deciders=unit.deciders)
    _ask(context, decision)
    _note_quorum(context)


def _apply_late(context: CaseContext, decision: Decision) -> None:
    """Judge results of a version for which nothing can be computed any more.

    They are compared with the one that counts. What that does not confirm or refute counts neither
    for nor against its host.
    """
    tx, unit = context.tx, context.unit
    judged = {*decision.agreeing, *decision.wrong}
    if decision.canonical is not None and (unit.canonical is None or unit.canonical in judged):
        _settle(context, replace(decision, near=(), doubtful=()))
    elif unit.disputed:
        tx.units.set_dispute(unit.id, disputed=False, deciders=0)
    if unit.look_at is not None:
        tx.units.set_look_at(unit.id, None)
    for result in tx.assignments.reported(unit.id):
        tx.assignments.set_aside(result, because(ReasonCode.NOT_CONFIRMED))
    round_ = tx.rounds.get(unit.project, unit.epoch, unit.version)
    if round_ is not None and round_.swept_at is not None:
        counts = tx.units.get(unit.id).canonical
        for result in context.results:
            if result.state is AssignmentState.REPORTED and result.id != counts:
                remove_delta(tx, context.deps, result.id)


def _settle(context: CaseContext, decision: Decision) -> None:
    """Decide the unit, and judge all its results."""
    tx, unit = context.tx, context.unit
    _move_unit(context, decision)
    if unit.disputed:
        tx.units.set_dispute(unit.id, disputed=False, deciders=0)
    over = [Purpose.PRIMARY, Purpose.DECIDER]
    if decision.by_trusted:
        over += [Purpose.CHECK, Purpose.APPEAL, Purpose.SPOT_CHECK]
        tx.units.set_spot_check(unit.id, SpotCheck.DONE)
    elif len(decision.agreeing) > 1 and unit.spot_check is SpotCheck.NONE:
        tx.units.set_spot_check(unit.id, SpotCheck.POSSIBLE)
    if context.any_unsent:
        tx.assignments.cancel_unsent(unit.id, over)
    for assignment in context.results:
        if assignment.id in decision.wrong:
            _refute(context, assignment, decision)
        elif assignment.id in decision.agreeing:
            _accept(context, assignment, decision)
        elif assignment.id in decision.near:
            if assignment.id in decision.doubtful:
                _doubt(context, assignment, decision)
            _near_miss(context, assignment)


def _move_unit(context: CaseContext, decision: Decision) -> None:
    """Give the unit its canonical result, or a right one in place of a wrong one."""
    tx, unit, now = context.tx, context.unit, context.now
    canonical = _canonical(context, decision)
    if unit.state in {UnitState.OPEN, UnitState.LATE}:
        tx.units.move(unit, UnitEvent.DECIDED, now, canonical)
        alarm = tx.hosts.alarm(unit.project)
        tx.hosts.put_alarm(replace(alarm, counted=alarm.counted + 1))
    elif unit.canonical in decision.wrong and unit.state != UnitState.DISPROVED:
        # Before the round closes the right result takes the wrong one's place. Later the delta
        # stays: taking it out again with momentum was measured to do more harm.
        tx.units.move(unit, UnitEvent.REFUTED, now, unit.canonical)
        if unit.state != UnitState.APPLIED:
            tx.units.move(tx.units.get(unit.id), UnitEvent.DECIDED, now, canonical)
        else:
            watch_versions(tx, tx.projects.get(unit.project))


def _canonical(context: CaseContext, decision: Decision) -> int:
    """Return the canonical result, or one equal to the bit whose delta is stored."""
    digests = {found.id: found.digest for found in context.results}
    canonical = decision.canonical or 0
    stored = context.tx.assignments.with_delta(context.unit.id, digests[canonical])
    return canonical if stored is None else stored


def _accept(context: CaseContext, assignment: Assignment, decision: Decision) -> None:
    """Give a result its credit: the FLOPs of its steps, counted from the graph."""
    tx, project, unit = context.tx, context.project, context.unit
    credit = float(flops_of_chunk(project.facts, unit.chunk) * unit.local_steps)
    late = unit.state in {UnitState.LATE, UnitState.CREDITED}
    verdict = Verdict.LATE if late else Verdict.VALID
    reason = because(ReasonCode.TOO_LATE) if late else decision.reason
    judgement = Judgement(verdict, credit, context.now + AUDIT_WINDOW_SECONDS, reason)
    if assignment.state == AssignmentState.REPORTED:
        tx.assignments.judge(assignment, AssignmentEvent.AGREED, judgement)
        # read again: one host may have several of the unit's results
        host = tx.hosts.get(context.hosts[assignment.id].id)
        standing = after_valid(
            standing_of(host),
            project.metadata.verification,
            credit,
            proves=unit.counting is not Counting.OWN,
        )
        confirmed = decision.by_trusted or len(decision.agreeing) > 1
        if confirmed and assignment.issued_at is not None and assignment.reported_at is not None:
            elapsed = assignment.reported_at - assignment.issued_at
            fastest = fastest_step(
                host.fastest_step_seconds,
                elapsed,
                whole_steps(unit, project.facts),
                proven=host.proven,
            )
            tx.hosts.set_fastest(host.id, fastest)
        if standing.proven and not host.proven and not host.trusted:
            tx.events.add(unit.project, context.now, "proven", unit=unit.id, host=host.id)
        tx.hosts.set_standing(host.id, standing)
    if decision.by_trusted:
        pardon(tx, context.now, assignment, judgement)


def _refute(context: CaseContext, assignment: Assignment, decision: Decision) -> None:
    """Judge a result as wrong: its host is convicted, or suspended until a trusted host looks."""
    if assignment.state == AssignmentState.INVALID:
        return  # convicted for it before, on volunteers' word
    if not context.project.metadata.verification.comparable:
        _near_miss(context, assignment)
        return
    host = context.tx.hosts.get(context.hosts[assignment.id].id)
    has_record = host.proven or host.suspended_by is not None
    if has_record and not decision.by_trusted and context.fleet.trusted:
        if host.suspended_by is None:
            suspend(context.tx, context.now, assignment)
        return
    fallback = ReasonCode.TRUSTED_HOST_DISAGREES if decision.by_trusted else None
    code = _REFUTED.get(decision.reason.code, fallback)
    if code is ReasonCode.MAJORITY_DISAGREES:
        reason = because(code, **decision.reason.values)
    elif code is not None:
        reason = because(code)
    else:
        count = len(decision.agreeing)
        reason = because(ReasonCode.MAJORITY_DISAGREES, agreeing=count, hosts=len(context.results))
    convict(context.tx, context.now, assignment, reason, by_trusted=decision.by_trusted)


def _near_miss(context: CaseContext, assignment: Assignment) -> None:
    """Let a result count neither for nor against its host, which is checked more from now on."""
    tx = context.tx
    if assignment.state != AssignmentState.REPORTED:
        return
    tx.assignments.set_aside(assignment, because(ReasonCode.NEAR_MISS))
    host = tx.hosts.get(context.hosts[assignment.id].id)
    if not host.trusted:
        rules = context.project.metadata.verification
        tx.hosts.set_standing(host.id, after_near_miss(standing_of(host), rules))


def _doubt(context: CaseContext, assignment: Assignment, decision: Decision) -> None:
    """Let the host start anew; on volunteers' word only where no trusted host is around."""
    if decision.by_trusted or not context.fleet.trusted:
        doubt(context.tx, context.now, assignment)


def _ask(context: CaseContext, decision: Decision) -> None:
    """Ask for the result that is needed; if no host can give it, look again later."""
    unit, project = context.unit, context.project
    if (unit.epoch, unit.version) <= (project.epoch, project.oldest_accepted):
        return  # agents refuse it by now
    look_at = _asked(context, decision)
    if look_at != unit.look_at:
        context.tx.units.set_look_at(unit.id, look_at)


def _asked(context: CaseContext, decision: Decision) -> float | None:
    """Ask for the result that is needed; return when to look again, None: when it has come."""
    tx, deps, project, unit = context.tx, context.deps, context.project, context.unit
    retry_at = context.now + _RETRY_SECONDS
    match decision.need:
        case Need.CHECK:
            exam = unit.counting is Counting.EXAM
            tx.assignments.cancel_unsent(unit.id, (Purpose.PRIMARY,))
            return None if ask_anchor(tx, deps, project, unit, exam=exam) else retry_at
        case Need.TRUSTED_DECIDER:
            ask_trusted(tx, context.now, unit, Purpose.DECIDER)
        case Need.DECIDER:
            if not ask_proven(tx, deps, project, unit, Purpose.DECIDER):
                return retry_at
            tx.units.set_dispute(unit.id, disputed=True, deciders=unit.deciders + 1)
        case Need.LATER:
            tx.units.set_dispute(unit.id, disputed=True, deciders=unit.deciders - 1)
            return context.now + _LATER_SECONDS
        case None if unit.counting is Counting.FLEET and decision.canonical is None:
            return context.now + _FLEET_SECONDS
    return None


def _note_quorum(context: CaseContext) -> None:
    """Start or stop the clock of the round's grace window."""
    unit, rounds = context.unit, context.tx.rounds
    row = rounds.get(unit.project, unit.epoch, unit.version)
    if row is None or row.closed_at is not None:
        return
    if row.has_quorum != (row.quorum_at is not None):
        rounds.set_quorum_at(row, context.now if row.has_quorum else None)
