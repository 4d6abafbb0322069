"""verify: compare the results of units that something happened to, and decide what follows.

All results of the unit are looked at together, whoever computed it and for whatever purpose. Equal
digests agree without being decoded; the others are compared as `core.counting.needed_pairs` says.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from msgspec.structs import asdict, replace

from pleb_coordinator.core.assignment_state import AssignmentState
from pleb_coordinator.core.chunks import whole_steps
from pleb_coordinator.core.counting import (
    Case,
    Decision,
    Fleet,
    Weight,
    Word,
    decide,
    needed_pairs,
)
from pleb_coordinator.core.leaning import as_a_lie
from pleb_coordinator.core.records import Counting, Purpose
from pleb_coordinator.core.reputation import (
    audit_drawn,
    audit_rate,
    rate_out_of_turn,
)
from pleb_coordinator.core.suspicion import (
    Features,
    Signal,
    SignalKind,
    Timing,
    Traits,
    features_of,
    scaled,
    signals,
    sketch_key,
)
from pleb_coordinator.core.tolerance import ConfirmedPair, Tolerance, pair, tolerance_of
from pleb_coordinator.core.unit_state import UnitState
from pleb_coordinator.core.voices import independent
from pleb_coordinator.steps.access import blobs_of
from pleb_coordinator.steps.anchor import TRUSTED_SEEN_SECONDS
from pleb_coordinator.steps.lookback import lies_of, remember_lie
from pleb_coordinator.steps.verdict import CaseContext, apply_decision
from pleb_shared.tensors.chunk_view import chunk_view, norms_of_chunk
from pleb_shared.tensors.distance import distances
from pleb_shared.tensors.format import delta_format

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pleb_coordinator.core.leaning import Lie
    from pleb_coordinator.core.records import Assignment, Host, Project, StoredDelta, UnitRow
    from pleb_coordinator.steps import Deps
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["Findings", "UnitResults", "commit", "compute", "find", "find_look", "look"]

_COUNTED: Final = {AssignmentState.REPORTED, AssignmentState.VALID}
"""Results that are compared: those without a verdict, and those that a new one may refute."""
_OUTSTANDING: Final = {
    AssignmentState.UNSENT,
    AssignmentState.LEASED,
    AssignmentState.UPLOADING,
}
_FLEET_UNITS: Final = 1.25
"""Median unit times that a fleet's exam is open, so that fast answers do not outvote slow ones."""
_ACTIVE_SECONDS: Final = 600.0
_TOO_FAST: Final = {SignalKind.HASTE, SignalKind.TIME_CLAIMED}
_DRAWN: Final = {Purpose.CHECK, Purpose.DECIDER, Purpose.APPEAL, Purpose.SPOT_CHECK}
"""Purposes of copies that their hosts did not choose."""
_NORM_GROWTH: Final = 0.75
"""A delta's norm grows with the power of its steps: between .5 (a random walk) and 1 (a line)."""
_ROUNDING_SECONDS: Final = 1.0
"""Added to the time that a result took: of very short units it says nothing."""


@dataclass(frozen=True)
class Reported:
    """A unit with all its results."""

    project: Project
    unit: UnitRow
    results: tuple[Assignment, ...]
    """Oldest first."""
    hosts: dict[int, Host]
    """Of the results, by assignment."""
    case: Case
    any_unsent: bool
    """Whether a copy of the unit waits for a host."""


@dataclass(frozen=True)
class UnitResults(Reported):
    """A unit that `verify` is due for, with what its results are compared by."""

    deltas: dict[str, StoredDelta]
    """By digest: those that have to be decoded."""
    norms: tuple[float, ...]
    """Of the version's tensors, below which a distance is rounding noise; none if nothing is
    compared."""
    recent: list[Traits]
    """Results that counted, which the author's is compared with; none if it need not be."""
    lies: list[Lie]
    """Proven ones, likewise."""

    @property
    def key(self) -> str:
        """Name of this work among all units."""
        return str(self.unit.id)


@dataclass(frozen=True)
class Findings:
    """What the bytes say."""

    features: dict[str, Features]
    """What decoded deltas look like, by digest."""
    apart: dict[tuple[str, str], float]
    """Distances by `pair` of digests, of the pairs that matter."""
    suspicions: tuple[Signal, ...]
    """What is unusual about a first try that nothing was decided about yet."""


def find(
    tx: Transaction, deps: Deps, project: Project, claimed: Collection[str]
) -> UnitResults | None:
    """Return the next unit to look at, with all its results; None: nothing is due."""
    # one more than are claimed, so that one is left if all of those are due
    due = tx.units.due(project.id, len(claimed) + 1)
    unit = next((unit for unit in due if str(unit.id) not in claimed), None)
    if unit is None:
        return None
    found = _read(tx, deps, project, unit)
    author = _suspect(found)
    recent = [] if author is None else tx.comparisons.recent_traits(project.id, unit.epoch)
    lies = [] if author is None else lies_of(tx, project)
    compared = needed_pairs(found.case)
    norms = tx.versions.norms(unit.project, unit.epoch, unit.version) if compared else ()
    deltas = _to_decode(tx, found)
    return UnitResults(**vars(found), deltas=deltas, norms=norms, recent=recent, lies=lies)


def compute(deps: Deps, found: UnitResults) -> Findings:
    """Return norms and distances of the decoded deltas. Equal digests are decoded once."""
    encoding = delta_format(found.project.metadata, found.unit)
    blobs = blobs_of(deps, found.project)
    decoded = {
        digest: encoding.decode(blobs.delta_view(stored, None))
        for digest, stored in found.deltas.items()
    }
    key = sketch_key(deps.secret, found.project.id, found.unit.epoch)
    features = {
        digest: features_of(tensors, encoding.model, key) for digest, tensors in decoded.items()
    }
    apart = {}
    if compared := needed_pairs(found.case):
        norms = norms_of_chunk(found.norms, chunk_view(found.project.metadata, found.unit.chunk))
        apart = {
            pair(first, second): max(
                distances(decoded[first], decoded[second], encoding, norms).values(),
                default=0.0,
            )
            for first, second in compared
            if first in decoded and second in decoded
        }
    return Findings(features, apart, _suspicions(found, features))


def commit(tx: Transaction, deps: Deps, found: UnitResults, findings: Findings) -> bool:
    """Decide, and record what follows.

    Returns:
        False: something has happened to the unit or its hosts meanwhile, or another process was
            first.
    """
    if not tx.units.looked_at(found.unit.id, found.unit.revision):
        return False
    project = tx.projects.get(found.project.id)
    current = _read(tx, deps, project, tx.units.get(found.unit.id))
    missing = set(needed_pairs(current.case)) - set(needed_pairs(found.case))
    if missing or (_suspect(found) is None and _suspect(current) is not None):
        tx.units.make_due(found.unit.id)  # a host was proven meanwhile
        return False
    unit = current.unit
    for result in current.results:
        if result.norm is None and result.digest in findings.features:
            tx.assignments.set_norm(result.id, findings.features[result.digest].norm)
    if unit.state is UnitState.CANCELLED:
        tx.units.set_look_at(unit.id, None)
        return True
    now = deps.clock()
    fleet = _fleet(tx, project, unit, now)
    context = CaseContext(
        tx,
        deps,
        project,
        unit,
        current.results,
        current.hosts,
        fleet,
        now,
        any_unsent=current.any_unsent,
    )
    # without a distance there is nothing that the pairs would change
    recent = tx.comparisons.recent_pairs(project.id, unit.epoch) if findings.apart else []
    tolerance = tolerance_of(project.metadata.verification, project.tolerance, recent)
    counting = _counting(context, current, findings.suspicions)
    if counting != current.case.counting:
        context = dataclasses.replace(context, unit=tx.units.get(unit.id))
    case = replace(current.case, counting=counting)
    decision = decide(case, findings.apart, tolerance, fleet)
    _log(context, findings, decision, tolerance)
    if decision.canonical is not None:
        _learn(context, current, findings, decision)
    apply_decision(context, decision)
    _learn_lies(context, current, findings, decision)
    return True


def find_look(tx: Transaction, deps: Deps, _: None) -> float | None:
    """Return when a unit was to be looked at again, or None if that is yet to come."""
    at = tx.units.next_look()
    return at if at is not None and at <= deps.clock() else None


def look(tx: Transaction, deps: Deps, _: float) -> int:
    """Make units due that were to be looked at by now; return how many."""
    return tx.units.look_now(deps.clock())


def _read(tx: Transaction, deps: Deps, project: Project, unit: UnitRow) -> Reported:
    """Return the unit with its results as `decide` sees them."""
    now, all_of_unit = deps.clock(), tx.assignments.of_unit(unit.id)
    convicted, all_hosts = tx.hosts.convicted_for(unit.id), tx.hosts.of_unit(unit.id)
    parties = tx.hosts.parties(unit.id, all_hosts.values(), now)
    results = tuple(
        found
        for found in all_of_unit
        if found.host in all_hosts
        and (
            found.state in _COUNTED
            or (found.state is AssignmentState.INVALID and found.host in convicted)
        )
    )
    if unit.version < project.oldest_accepted:  # of other results the bytes are gone
        judged = AssignmentState.VALID
        results = tuple(r for r in results if r.state is not judged or r.id == unit.canonical)
    hosts = {found.id: all_hosts[found.host] for found in results if found.host is not None}
    shared = unit.counting in {Counting.EXAM, Counting.FLEET}
    tries = [found.id for found in results if found.purpose is Purpose.PRIMARY]
    author = None if shared or not results else (tries or [results[0].id])[0]
    words = tuple(
        Word(
            assignment=found.id,
            party=parties[hosts[found.id].id],
            weight=_weight(hosts[found.id], now),
            digest=found.digest,
            author=found.id == author,
            determinism_class=hosts[found.id].determinism_class,
            runtime=hosts[found.id].runtime,
        )
        for found in results
    )
    median = project.median_step_seconds * whole_steps(unit, project.facts)
    case = Case(
        counting=unit.counting,
        words=words,
        outstanding=tuple(
            _outstanding_weight(found, all_hosts, now)
            for found in all_of_unit
            if found.state in _OUTSTANDING and found.purpose is not Purpose.PRIMARY
        ),
        decided=unit.state not in {UnitState.OPEN, UnitState.LATE},
        deciders_asked=unit.deciders,
        waited=unit.exam_at is not None and now >= unit.exam_at + _FLEET_UNITS * median,
    )
    any_unsent = any(found.state is AssignmentState.UNSENT for found in all_of_unit)
    return Reported(project, unit, results, hosts, case, any_unsent)


def _to_decode(tx: Transaction, found: Reported) -> dict[str, StoredDelta]:
    """Return by digest the deltas that are compared, and the one whose features are wanted."""
    case = found.case
    wanted = {digest for names in needed_pairs(case) for digest in names}
    weighty = (word for word in case.words if word.author or word.weight is not Weight.NEW)
    if (first := next(weighty, None)) is not None and not case.decided:
        wanted.add(first.digest)
    deltas = {}
    for digest in sorted(wanted):
        holder = tx.assignments.with_delta(found.unit.id, digest)
        stored = None if holder is None else tx.assignments.delta(holder)
        if stored is not None:
            deltas[digest] = stored
    return deltas


def _weight(host: Host, now: float) -> Weight:
    if host.trusted:
        return Weight.TRUSTED
    return Weight.PROVEN if host.proven and host.banned_until <= now else Weight.NEW


def _outstanding_weight(assignment: Assignment, hosts: Mapping[int, Host], now: float) -> Weight:
    if assignment.host is not None:
        return _weight(hosts[assignment.host], now)
    if assignment.trusted_only:
        return Weight.TRUSTED
    return Weight.PROVEN


def _fleet(tx: Transaction, project: Project, unit: UnitRow, now: float) -> Fleet:
    active = project.active_accounts
    if unit.counting is Counting.FLEET:  # counted now and then, and here it has to be right
        active = tx.hosts.fleet(project.id, now - _ACTIVE_SECONDS).active_accounts
    return Fleet(
        trusted=tx.hosts.trusted(project.id, now - TRUSTED_SEEN_SECONDS, unit.memory_bytes),
        proven=project.proven_hosts,
        active=active,
        disputes_waiting=tx.assignments.count_for_trusted(project.id, Purpose.DECIDER),
    )


def _suspect(found: Reported) -> Assignment | None:
    """Return the first try if nothing was decided about it yet and it may count on its own."""
    if found.case.counting is not Counting.UNKNOWN:
        return None
    author = next((word for word in found.case.words if word.author), None)
    if author is None or author.weight is not Weight.PROVEN:
        return None  # a trusted host's word counts, a new host's does not, whatever it looks like
    return next(result for result in found.results if result.id == author.assignment)


def _suspicions(found: UnitResults, features: Mapping[str, Features]) -> tuple[Signal, ...]:
    """Return what is unusual about the first try."""
    result, unit = _suspect(found), found.unit
    if result is None or result.digest not in features:
        return ()
    if result.issued_at is None or result.reported_at is None:
        return ()
    timing = Timing(
        steps=whole_steps(unit, found.project.facts),
        elapsed_seconds=result.reported_at - result.issued_at + _ROUNDING_SECONDS,
        claimed_seconds=result.compute_seconds,
        usual_step_seconds=found.hosts[result.id].fastest_step_seconds,
    )
    traits = _traits(found.project, unit, result, features[result.digest])
    leaning = as_a_lie([traits], found.recent, found.lies)
    return (*signals(traits, found.recent, timing), *leaning.values())


def _traits(project: Project, unit: UnitRow, result: Assignment, features: Features) -> Traits:
    """Return the traits of a result, its norm as if its unit had not been shortened."""
    whole = max(1, project.metadata.training.local_steps) / max(1, unit.local_steps)
    return Traits(
        **asdict(scaled(features, whole**_NORM_GROWTH)),
        unit=unit.id,
        version=unit.version,
        digest=result.digest,
        chunk=unit.chunk,
        loss_first=result.loss_first,
        loss_last=result.loss_last,
    )


def _counting(context: CaseContext, found: Reported, suspicions: tuple[Signal, ...]) -> Counting:
    """Return what makes the unit's result count; it is drawn when the first one has come.

    A proven author's result is checked at the rate of its record, always if something about it is
    suspicious, and held where checks are frequent. An exam is the fleet's while there is no anchor.
    """
    tx, unit, case = context.tx, context.unit, found.case
    if context.project.metadata.data.own is not None:
        if case.counting is not Counting.OWN:
            tx.units.set_counting(unit.id, Counting.OWN, None)
        return Counting.OWN
    author = next((word for word in case.words if word.author), None)
    if case.counting in {Counting.EXAM, Counting.FLEET}:
        anchors = context.fleet.trusted + context.fleet.proven
        anchored = anchors or any(word.weight is not Weight.NEW for word in case.words)
        counting = Counting.EXAM if anchored else Counting.FLEET
        if counting is not case.counting:
            tx.units.set_counting(unit.id, counting, None)
        return counting
    if case.counting is not Counting.UNKNOWN or author is None or author.weight is Weight.TRUSTED:
        return case.counting
    rules, rate = context.project.metadata.verification, None
    if author.weight is Weight.NEW:
        counting = Counting.HELD
    elif any(signal.kind in _TOO_FAST for signal in suspicions):
        counting, rate = Counting.FAST, 1.0
    else:
        record = found.hosts[author.assignment].record
        usual = 1.0 if suspicions else audit_rate(record, tx.hosts.alarm(unit.project), rules)
        given = next(result for result in found.results if result.id == author.assignment)
        rate = rate_out_of_turn(usual) if given.out_of_turn else usual
        drawn = audit_drawn(context.deps.secret, author.assignment, rate)
        held = Counting.HELD if usual >= rules.hold_rate else Counting.CHECKED
        counting = held if drawn else Counting.AUTHOR
    tx.units.set_counting(unit.id, counting, rate)
    return counting


def _learn(context: CaseContext, found: Reported, findings: Findings, decision: Decision) -> None:
    """Remember what results that count look like, and how far apart honest hosts are.

    Looks are kept of all that count, also on a proven host's word alone: the few that others
    confirmed while a round is open are not enough to compare with, and medians bear some lies.
    """
    tx, unit = context.tx, context.unit
    fresh = {result.id for result in found.results if result.state == AssignmentState.REPORTED}
    agreeing = [word for word in found.case.words if word.assignment in decision.agreeing]
    results = {result.id: result for result in found.results}
    canonical = results[decision.canonical or 0]
    features = findings.features.get(canonical.digest)
    if features is not None and not found.case.decided:
        traits = _traits(context.project, unit, canonical, features)
        tx.comparisons.add_traits(unit.project, unit.epoch, canonical.id, traits)
    if not decision.by_trusted and len(agreeing) < 2:
        return
    known = [word for word in found.case.words if word.weight is not Weight.NEW]
    anchors = [word for word in known if results[word.assignment].purpose in _DRAWN]
    for own, anchor in product(known, anchors[:1]):
        same = own.digest == anchor.digest
        apart = 0.0 if same else findings.apart.get(pair(own.digest, anchor.digest))
        if (
            own is anchor
            or apart is None
            or own.assignment in decision.wrong
            or not {own.assignment, anchor.assignment} & fresh
            or not independent(own.party, anchor.party)
        ):
            continue
        confirmed = ConfirmedPair(
            version=unit.version,
            account=own.party.account,
            network=results[own.assignment].network,
            own_class=own.determinism_class,
            anchor_class=anchor.determinism_class,
            distance=apart,
        )
        tx.comparisons.add_pair(unit.project, unit.epoch, confirmed)
        return


def _learn_lies(
    context: CaseContext, found: Reported, findings: Findings, decision: Decision
) -> None:
    """Remember what is wrong about proven hosts' results: new hosts could fill that memory."""
    results = {result.id: result for result in found.results}
    if decision.canonical is None or not context.project.metadata.verification.comparable:
        return
    right = findings.features.get(results[decision.canonical].digest)
    for number in decision.wrong:
        wrong, host = findings.features.get(results[number].digest), found.hosts[number]
        had_record = host.proven or host.suspended_by is not None
        if wrong is not None and right is not None and had_record:
            remember_lie(context.tx, context.project, context.unit, wrong, right)


def _log(
    context: CaseContext,
    findings: Findings,
    decision: Decision,
    tolerance: Tolerance,
) -> None:
    """Record each result, how far apart they are, and the decision."""
    tx, unit = context.tx, context.unit
    tx.events.add(
        unit.project,
        context.now,
        "verified",
        unit=unit.id,
        counting=unit.counting,
        decided=decision.canonical is not None,
        disputed=decision.disputed,
        need=decision.need,
        reason=decision.reason,
        results=[
            {"assignment": found.id, "host": found.host, "digest": found.digest}
            for found in context.results
        ],
        distances=[[*names, distance] for names, distance in findings.apart.items()],
        tolerance=tolerance.agree,
        norms={digest: found.norm for digest, found in findings.features.items()},
        suspicions=[signal.reason for signal in findings.suspicions],
    )
