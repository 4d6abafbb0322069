"""tell: collect the verdicts on a host's earlier results, each once, and what they rest on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.messages import Evidence, UnitVerdict, Verdict
from pleb_shared.protocol.reasons import reason_sentence

if TYPE_CHECKING:
    from pleb_coordinator.core.records import Assignment, Host, Project
    from pleb_coordinator.store.transaction import Transaction

__all__ = ["take_verdicts", "why_banned"]

_NO_CONTACT: Final = "Ask the project's operator."


def take_verdicts(tx: Transaction, host: Host) -> list[UnitVerdict]:
    """Return verdicts that the host has not received, and mark them as sent.

    In the same transaction as the reply that carries them: a reply that is lost is stored,
    and asked for again with the same sequence.
    """
    return [
        UnitVerdict(
            assignment=assignment.id,
            verdict=assignment.verdict,
            credit=assignment.credit,
            reason=assignment.reason,
            unit=assignment.unit,
            evidence=_evidence(tx, assignment),
        )
        for assignment in tx.assignments.take_verdicts(host.id, LIMITS.reports_per_request)
        if assignment.verdict is not None
    ]


def why_banned(tx: Transaction, project: Project, host: Host) -> str:
    """Return why a host is banned, what the last verdict rests on, and whom it may ask.

    It is refused before it could receive that verdict, so this is the only place to tell it.
    """
    sentences = ["This host is banned."]
    if host.ban_reason is not None:
        sentences.append(_ended(reason_sentence(host.ban_reason)))
        unit = host.ban_reason.values.get("unit")
        if isinstance(unit, int):
            sentences += [_about(tx, found) for found in _wrong_results(tx, unit, host)[-1:]]
    contact = project.metadata.contact
    sentences.append(f"Ask the project's operator: {contact}" if contact else _NO_CONTACT)
    return " ".join(filter(None, sentences))


def _wrong_results(tx: Transaction, unit: int, host: Host) -> list[Assignment]:
    return [
        found
        for found in tx.assignments.of_unit(unit)
        if found.host == host.id and found.verdict is Verdict.INVALID
    ]


def _about(tx: Transaction, assignment: Assignment) -> str:
    """Return why a result was refused, and the evidence."""
    reason = "" if assignment.reason is None else _ended(reason_sentence(assignment.reason))
    evidence = _evidence(tx, assignment)
    if evidence is None:
        return reason
    return (
        f"{reason} It is {evidence.distance:.3g} from the result that counts; the tolerance is "
        f"{evidence.tolerance:.3g}."
    )


def _ended(sentence: str) -> str:
    """Return a sentence with its full stop: an operator's own words may have none."""
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _evidence(tx: Transaction, assignment: Assignment) -> Evidence | None:
    """Return how far a wrong result is from the canonical one; None: it was not compared with it.

    Not of near misses: a liar could learn to stay just under the tolerance, at no cost.
    """
    if assignment.verdict is not Verdict.INVALID:
        return None
    unit = tx.units.get(assignment.unit)
    digests = {found.id: found.digest for found in tx.assignments.of_unit(unit.id)}
    pair = {assignment.digest, digests.get(unit.canonical or 0)}
    for event in reversed(tx.events.of_unit(unit.id)):
        if event.kind != "verified":
            continue
        for first, second, distance in event.detail["distances"]:
            tolerance = event.detail["tolerance"]
            # JSON has no infinity: what is not finite is stored as null
            if {first, second} == pair and None not in {distance, tolerance}:
                return Evidence(distance=distance, tolerance=tolerance)
    return None
