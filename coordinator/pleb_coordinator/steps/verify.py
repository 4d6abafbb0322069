"""verify: results of the same unit are compared; what is decided has consequences for hosts."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentEvent, AssignmentState
from pleb_coordinator.core.quorum import (
    Decision,
    NeedsAnother,
    Result,
    Undecided,
    Valid,
    decide,
    pair,
)
from pleb_coordinator.core.records import (
    Assignment,
    Host,
    NewAssignment,
    Project,
    Purpose,
    StoredDelta,
    UnitRow,
)
from pleb_coordinator.core.reputation import (
    AUDIT_WINDOW_SECONDS,
    after_invalid,
    after_valid,
    audit_drawn,
    audit_is_trusted,
    is_proven,
    standing_of,
)
from pleb_coordinator.core.rounds import quorum_stands
from pleb_coordinator.core.unit_state import UnitEvent, UnitState
from pleb_coordinator.store.assignments import Judgement
from pleb_shared.protocol.messages import Verdict
from pleb_shared.protocol.reasons import ReasonCode, because
from pleb_shared.tensors.distance import delta_norm, distances
from pleb_shared.tensors.format import delta_format

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction
    from pleb_shared.tensors.layout import Tensors

__all__ = ["Case", "Findings", "commit", "compute", "find"]

_COUNTED: Final = {AssignmentState.REPORTED, AssignmentState.VALID}
_OUTSTANDING: Final = {
    AssignmentState.UNSENT,
    AssignmentState.LEASED,
    AssignmentState.UPLOADING,
}
_TRUSTED_AROUND_SECONDS: Final = 3600.0
_FEW_NORMS: Final = 3
"""With fewer norms in the round there is no band yet."""


@dataclass(frozen=True)
class Case:
    """A unit with results that nobody has looked at."""

    project: Project
    unit: UnitRow
    results: tuple[Assignment, ...]
    hosts: dict[int, Host]
    deltas: dict[str, StoredDelta]
    """By digest."""

    @property
    def key(self) -> str:
        """Name of this work among all cases."""
        return str(self.unit.id)


@dataclass(frozen=True)
class Findings:
    """What the bytes say."""

    norms: dict[str, float]
    """L2 norm of the decoded delta, by digest."""
    apart: dict[tuple[str, str], float]
    """Largest distance over all tensors, by `pair` of digests."""


@dataclass(frozen=True)
class _Desk:
    tx: Transaction
    deps: Deps
    case: Case
    unit: UnitRow
    now: float


def find(tx: Transaction, _: Deps, project: Project, claimed: Collection[str]) -> Case | None:
    """Return the next unit to look at, with all its results; None: nothing is due."""
    # one more than are claimed, so that one is left if all of those are due
    due = tx.units.due(project.id, len(claimed) + 1)
    unit = next((unit for unit in due if str(unit.id) not in claimed), None)
    if unit is None:
        return None
    results = tuple(found for found in tx.assignments.of_unit(unit.id) if found.state in _COUNTED)
    hosts = {found.id: tx.hosts.get(found.host) for found in results if found.host is not None}
    return Case(project, unit, results, hosts, dict(_deltas(tx, unit, results)))


def compute(deps: Deps, case: Case) -> Findings:
    """Return norms and distances.

    Reads and decodes the deltas, so it is done outside of transactions. Equal digests are
    decoded once.
    """
    decoded = {digest: _decoded(deps, case, stored) for digest, stored in case.deltas.items()}
    encoding = delta_format(case.project.metadata, case.unit)
    return Findings(
        {digest: delta_norm(tensors, encoding.model) for digest, tensors in decoded.items()},
        {
            pair(first, second): max(
                distances(decoded[first], decoded[second], encoding).values(), default=0.0
            )
            for first, second in combinations(decoded, 2)
        },
    )


def commit(tx: Transaction, deps: Deps, case: Case, findings: Findings) -> bool:
    """Draw the consequences. False: another result has come, or somebody else was first."""
    if not tx.units.looked_at(case.unit.id, case.unit.revision):
        return False
    desk = _Desk(tx, deps, case, tx.units.get(case.unit.id), deps.clock())
    for result in case.results:
        if result.norm is None and result.digest in findings.norms:
            tx.assignments.set_norm(result.id, findings.norms[result.digest])
    decision = decide(
        [_result(desk, found, findings) for found in case.results],
        findings.apart,
        case.project.effective_tolerance,
    )
    _log(desk, decision, findings)
    match decision:
        case Valid():
            _decided(desk, decision)
        case NeedsAnother():
            _ask_another(desk, decision)
        case Undecided():
            pass
    _note_quorum(desk)
    return True


def _deltas(
    tx: Transaction, unit: UnitRow, results: Sequence[Assignment]
) -> Iterator[tuple[str, StoredDelta]]:
    for digest in dict.fromkeys(found.digest for found in results):
        name = tx.assignments.with_delta(unit.id, digest)
        stored = None if name is None else tx.assignments.delta(name)
        if stored is not None:
            yield digest, stored


def _decoded(deps: Deps, case: Case, stored: StoredDelta) -> Tensors:
    return delta_format(case.project.metadata, case.unit).decode(deps.blobs.delta(stored))


def _result(desk: _Desk, found: Assignment, findings: Findings) -> Result:
    """Return a result as `decide` sees it.

    A host whose delta is much longer or shorter than the round's is believed only with a
    second one, however proven it is.
    """
    host = desk.case.hosts[found.id]
    rules = desk.case.project.metadata.verification
    norm = findings.norms.get(found.digest)
    return Result(
        assignment=found.id,
        account=found.account,
        network=found.network,
        trusted=host.trusted,
        proven=is_proven(host, rules) and _in_band(desk, norm, rules.norm_ratio),
        digest=found.digest,
    )


def _in_band(desk: _Desk, norm: float | None, ratio: float) -> bool:
    unit = desk.unit
    norms = desk.tx.assignments.norms(unit.project, unit.epoch, unit.version)
    if norm is None or len(norms) < _FEW_NORMS:
        return True
    median = statistics.median(norms)
    return median / ratio <= norm <= median * ratio


def _decided(desk: _Desk, decision: Valid) -> None:
    unit, tx = desk.unit, desk.tx
    if unit.state in {UnitState.OPEN, UnitState.LATE}:
        tx.units.move(unit, UnitEvent.DECIDED, desk.now, _canonical(desk, decision))
    elif unit.canonical in decision.disagreeing:
        _refute(desk, decision)
    others = (Purpose.PRIMARY, Purpose.REPLICA, Purpose.DECIDER)
    tx.assignments.cancel_unsent(unit.id, others)
    for assignment in desk.case.results:
        if assignment.id in decision.disagreeing:
            _convict(desk, assignment, decision)
        elif assignment.state == AssignmentState.REPORTED:
            _acquit(desk, assignment, decision)
    _draw_audit(desk, decision)


def _refute(desk: _Desk, decision: Valid) -> None:
    """An audit proved the canonical result wrong.

    Before the round closes the right result takes its place; later the delta stays, since
    taking it out again with momentum was measured to do more harm.
    """
    desk.tx.units.move(desk.unit, UnitEvent.REFUTED, desk.now, desk.unit.canonical)
    if desk.unit.state != UnitState.APPLIED:
        reopened = desk.tx.units.get(desk.unit.id)
        desk.tx.units.move(reopened, UnitEvent.DECIDED, desk.now, _canonical(desk, decision))


def _canonical(desk: _Desk, decision: Valid) -> int:
    """Return the canonical result, or one equal to the bit whose bytes are here."""
    digests = {found.id: found.digest for found in desk.case.results}
    stored = desk.tx.assignments.with_delta(desk.unit.id, digests[decision.canonical])
    return decision.canonical if stored is None else stored


def _acquit(desk: _Desk, assignment: Assignment, decision: Valid) -> None:
    project = desk.case.project
    credit = float(project.facts.flops_per_step * desk.unit.local_steps)
    late = desk.unit.state in {UnitState.LATE, UnitState.CREDITED}
    verdict = Verdict.LATE if late else Verdict.VALID
    reason = because(ReasonCode.TOO_LATE) if late else decision.reason
    judgement = Judgement(verdict, credit, desk.now + AUDIT_WINDOW_SECONDS, reason)
    desk.tx.assignments.judge(assignment, AssignmentEvent.AGREED, judgement)
    # read again: one host may have several of the unit's results
    host = desk.tx.hosts.get(desk.case.hosts[assignment.id].id)
    rules = project.metadata.verification
    desk.tx.hosts.set_standing(host.id, after_valid(standing_of(host), rules, credit))


def _convict(desk: _Desk, assignment: Assignment, decision: Valid) -> None:
    judgement = Judgement(Verdict.INVALID, 0.0, None, decision.against)
    taken_back = assignment.credit if assignment.state == AssignmentState.VALID else 0.0
    desk.tx.assignments.judge(assignment, AssignmentEvent.DISAGREED, judgement)
    host = desk.tx.hosts.get(desk.case.hosts[assignment.id].id)
    if host.trusted:
        return
    taken_back += desk.tx.assignments.take_back_credit(host.id, desk.now)
    rules = desk.case.project.metadata.verification
    standing = after_invalid(standing_of(host), rules, taken_back, desk.now)
    desk.tx.hosts.set_standing(host.id, standing)
    unit = desk.unit
    desk.tx.events.add(
        unit.project,
        desk.now,
        "convicted",
        unit=unit.id,
        host=host.id,
        assignment=assignment.id,
        taken_back=taken_back,
    )
    if standing.bans > host.bans:
        desk.tx.assignments.end_leases(host.id, desk.now)
        desk.tx.events.add(
            unit.project,
            desk.now,
            "banned",
            host=host.id,
            until=standing.banned_until,
            reason=standing.ban_reason,
        )


def _ask_another(desk: _Desk, decision: NeedsAnother) -> None:
    """Add a replica or decider, unless one more result is on its way already.

    A first try that nobody has begun (its unit's lease had run out, and the result came
    after all) is not needed any more.
    """
    desk.tx.assignments.cancel_unsent(desk.unit.id, (Purpose.PRIMARY,))
    assignments = desk.tx.assignments.of_unit(desk.unit.id)
    if any(found.state in _OUTSTANDING for found in assignments):
        return
    wait = desk.case.project.metadata.verification.replica_wait_seconds
    replica = not decision.disagreement
    new = NewAssignment(
        unit=desk.unit.id,
        purpose=Purpose.REPLICA if replica else Purpose.DECIDER,
        created_at=desk.now,
        trusted_only=decision.trusted_only and _trusted_around(desk),
        trusted_from=desk.now + wait if replica else 0.0,
        for_class=_own_class(desk),
    )
    desk.tx.assignments.add(new)


def _draw_audit(desk: _Desk, decision: Valid) -> None:
    """Let somebody else do the unit of a proven host silently again, if the draw says so."""
    results = {found.id: found for found in desk.case.results}
    if len(decision.agreeing) != 1 or decision.disagreeing or len(results) != 1:
        return
    host = desk.case.hosts[decision.canonical]
    rate = desk.case.project.metadata.verification.audit_rate
    if host.trusted or not audit_drawn(desk.deps.secret, desk.unit.id, rate):
        return
    assignments = desk.tx.assignments.of_unit(desk.unit.id)
    if any(found.state in _OUTSTANDING for found in assignments):
        return
    alone = desk.case.project.active_accounts < 2
    wanted = alone or audit_is_trusted(desk.deps.secret, desk.unit.id)
    new = NewAssignment(
        unit=desk.unit.id,
        purpose=Purpose.AUDIT,
        created_at=desk.now,
        trusted_only=wanted and _trusted_around(desk),
        for_class=_own_class(desk),
    )
    desk.tx.assignments.add(new)


def _own_class(desk: _Desk) -> str:
    """Return the class that must confirm the first result; empty: any can.

    A class that nobody vouches for never confirms: a liar's calibration makes one of its own,
    and its units would wait for a second host of it for ever.
    """
    first = desk.case.hosts[desk.case.results[0].id]
    found = desk.tx.calibrations.find_class(desk.unit.project, first.determinism_class)
    return found.digest if found is not None and found.isolated and found.vouched else ""


def _trusted_around(desk: _Desk) -> bool:
    return desk.tx.hosts.has_trusted(desk.unit.project, desk.now - _TRUSTED_AROUND_SECONDS)


def _note_quorum(desk: _Desk) -> None:
    """Start or stop the clock of the grace window."""
    unit = desk.unit
    row = desk.tx.rounds.get(unit.project, unit.epoch, unit.version)
    if row is None or row.closed_at is not None:
        return
    if quorum_stands(row) != (row.quorum_at is not None):
        desk.tx.rounds.set_quorum_at(row, desk.now if quorum_stands(row) else None)


def _log(desk: _Desk, decision: Decision, findings: Findings) -> None:
    """Write down who said what, how far apart they were, and what follows."""
    unit = desk.unit
    desk.tx.events.add(
        unit.project,
        desk.now,
        "verified",
        unit=unit.id,
        decision=type(decision).__name__,
        reason=decision.reason,
        results=[
            {"assignment": found.id, "host": found.host, "digest": found.digest}
            for found in desk.case.results
        ],
        distances=[[*names, distance] for names, distance in findings.apart.items()],
        tolerance=desk.case.project.effective_tolerance,
        norms=findings.norms,
    )
