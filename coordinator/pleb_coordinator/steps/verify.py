"""verify: compare the results of a unit, and decide which count.

What follows from a decision for units and hosts is in `steps.verdict`.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.quorum import (
    Decision,
    NeedsAnother,
    Result,
    Undecided,
    Valid,
    decide,
    pair,
)
from pleb_coordinator.core.reputation import is_proven
from pleb_coordinator.steps.verdict import CaseContext, ask_another, note_quorum, record_verdicts
from pleb_shared.tensors.distance import delta_norm, distances
from pleb_shared.tensors.format import delta_format

if TYPE_CHECKING:
    from collections.abc import Collection

    from pleb_coordinator.core.records import Assignment, Host, Project, StoredDelta, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["Case", "Findings", "commit", "compute", "find"]

_COUNTED: Final = {AssignmentState.REPORTED, AssignmentState.VALID}
"""Results that are compared: those without a verdict, and those that a new one may refute."""
_FEW_NORMS: Final = 3
"""With fewer norms in the round, their median says too little about the next one."""


@dataclass(frozen=True)
class Case:
    """A unit with results that were not compared yet."""

    project: Project
    unit: UnitRow
    results: tuple[Assignment, ...]
    hosts: dict[int, Host]
    """By assignment."""
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


def find(tx: Transaction, _: Deps, project: Project, claimed: Collection[str]) -> Case | None:
    """Return the next unit to look at, with all its results; None: nothing is due."""
    # one more than are claimed, so that one is left if all of those are due
    due = tx.units.due(project.id, len(claimed) + 1)
    unit = next((unit for unit in due if str(unit.id) not in claimed), None)
    if unit is None:
        return None
    results = tuple(found for found in tx.assignments.of_unit(unit.id) if found.state in _COUNTED)
    hosts = {found.id: tx.hosts.get(found.host) for found in results if found.host is not None}
    deltas = {}
    for digest in dict.fromkeys(found.digest for found in results):
        holder = tx.assignments.with_delta(unit.id, digest)
        stored = None if holder is None else tx.assignments.delta(holder)
        if stored is not None:
            deltas[digest] = stored
    return Case(project, unit, results, hosts, deltas)


def compute(deps: Deps, case: Case) -> Findings:
    """Return norms and distances of the decoded deltas. Equal digests are decoded once."""
    encoding = delta_format(case.project.metadata, case.unit)
    decoded = {
        digest: encoding.decode(deps.blobs.delta(stored)) for digest, stored in case.deltas.items()
    }
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
    """Decide, and record what follows.

    Returns:
        False: another result has come meanwhile, or another process was first.
    """
    if not tx.units.looked_at(case.unit.id, case.unit.revision):
        return False
    now = deps.clock()
    unit = tx.units.get(case.unit.id)
    for result in case.results:
        if result.norm is None and result.digest in findings.norms:
            tx.assignments.set_norm(result.id, findings.norms[result.digest])
    # after the norms are stored: an audited unit's own norm is one of the round's
    norms = tx.assignments.norms(unit.project, unit.epoch, unit.version)
    decision = decide(
        [_result(case, found, findings, norms) for found in case.results],
        findings.apart,
        case.project.effective_tolerance,
    )
    _log(tx, now, case, findings, decision)
    context = CaseContext(tx, deps, case.project, unit, case.results, case.hosts, now)
    match decision:
        case Valid():
            record_verdicts(context, decision)
        case NeedsAnother():
            ask_another(context, decision)
        case Undecided():
            pass
    note_quorum(context)
    return True


def _result(case: Case, found: Assignment, findings: Findings, norms: list[float]) -> Result:
    """Return a result as `decide` sees it.

    A proven host counts like a new one, whose result needs a second one, if its delta's norm is
    outside of the band [median / r, r median] of the round's norms.
    """
    host = case.hosts[found.id]
    rules = case.project.metadata.verification
    norm = findings.norms.get(found.digest)
    in_band = True
    if norm is not None and len(norms) >= _FEW_NORMS:
        median = statistics.median(norms)
        in_band = median / rules.norm_ratio <= norm <= median * rules.norm_ratio
    return Result(
        assignment=found.id,
        account=found.account,
        network=found.network,
        trusted=host.trusted,
        proven=is_proven(host, rules) and in_band,
        digest=found.digest,
        team=host.team,
    )


def _log(tx: Transaction, now: float, case: Case, findings: Findings, decision: Decision) -> None:
    """Record each result, how far apart they are, and the decision."""
    tx.events.add(
        case.project.id,
        now,
        "verified",
        unit=case.unit.id,
        decision=type(decision).__name__,
        reason=decision.reason,
        results=[
            {"assignment": found.id, "host": found.host, "digest": found.digest}
            for found in case.results
        ],
        distances=[[*names, distance] for names, distance in findings.apart.items()],
        tolerance=case.project.effective_tolerance,
        norms=findings.norms,
    )
