"""When results of the same unit agree, and whose result counts.

Equal digests agree. Otherwise two results agree if every tensor of their decoded encodings
lies within the tolerance. The largest group around one result wins. Without disagreement one
trusted or proven host is enough, or two voices. With it, the winners need a trusted host, or
two voices and more than any other group: no result is found wrong because of one host
unless that host is trusted. Hosts of one account, team or network are one voice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from pleb_coordinator.core.records import Record
from pleb_coordinator.core.voices import Party, voices
from pleb_shared.protocol.reasons import Reason, ReasonCode, because

__all__ = ["Decision", "NeedsAnother", "Result", "Undecided", "Valid", "decide", "pair"]

_MOST_VOLUNTEERS: Final = 5
"""After this many results without a majority, only a trusted host can decide."""
_AGAINST: Final[dict[str, ReasonCode]] = {
    ReasonCode.TRUSTED_HOST_AGREES: ReasonCode.TRUSTED_HOST_DISAGREES,
    ReasonCode.MAJORITY_AGREES: ReasonCode.MAJORITY_DISAGREES,
}
"""The losers' reason in a dispute, by the winners'."""


class Result(Record, frozen=True):
    """One host's result of the unit."""

    assignment: int
    account: str
    network: str
    trusted: bool
    proven: bool
    """Whether the host's results count without a second one."""
    digest: str
    team: str = ""


class Valid(Record, frozen=True):
    """One result counts; those that disagree with it are proven wrong."""

    canonical: int
    agreeing: tuple[int, ...]
    disagreeing: tuple[int, ...]
    reason: Reason
    """Why the agreeing results count."""

    @property
    def against(self) -> Reason:
        """Why the disagreeing results do not count."""
        return because(_AGAINST[self.reason.code], **self.reason.values)


class NeedsAnother(Record, frozen=True):
    """One more result is needed."""

    reason: Reason
    disagreement: bool
    """Results differ (a decider is wanted), or one is not enough (a replica is)."""
    trusted_only: bool


class Undecided(Record, frozen=True):
    """There is nothing to decide on."""

    reason: Reason


Decision = Valid | NeedsAnother | Undecided
Distances = Mapping[tuple[str, str], float]


def pair(first: str, second: str) -> tuple[str, str]:
    """Return the key of two digests in a table of distances."""
    return (first, second) if first < second else (second, first)


def decide(results: Sequence[Result], distances: Distances, tolerance: float) -> Decision:
    """Return what follows from `results`, oldest first.

    `distances` holds, for each `pair` of different digests, the largest distance over all
    tensors; a pair that is missing does not agree.
    """
    if not results:
        return Undecided(because(ReasonCode.NO_RESULT))
    groups = [_group(center, results, distances, tolerance) for center in results]
    best = max(range(len(results)), key=lambda i: (_weight(groups[i]), -i))
    winners = groups[best]
    others = [result for result in results if result not in winners]
    if not others:
        return _unopposed(results[best], winners)
    return _opposed(results[best], winners, others, groups)


def _group(
    center: Result, results: Sequence[Result], distances: Distances, tolerance: float
) -> list[Result]:
    return [
        other
        for other in results
        if other.digest == center.digest
        or distances.get(pair(center.digest, other.digest), float("inf")) <= tolerance
    ]


def _unopposed(center: Result, winners: Sequence[Result]) -> Decision:
    if any(result.trusted for result in winners):
        reason = because(ReasonCode.TRUSTED_RESULT)
    elif _voices(winners) >= 2:
        reason = because(ReasonCode.HOSTS_AGREE, count=len(winners))
    elif any(result.proven for result in winners):
        reason = because(ReasonCode.PROVEN_RESULT)
    else:
        reason = because(ReasonCode.NEW_HOST)
        return NeedsAnother(reason, disagreement=False, trusted_only=False)
    return Valid(center.assignment, _ids(winners), (), reason)


def _opposed(
    center: Result,
    winners: Sequence[Result],
    others: Sequence[Result],
    groups: Collection[Sequence[Result]],
) -> Decision:
    losing = [[result for result in group if result in others] for group in groups]
    rivals = [_weight(group) for group in losing if group]
    strongest = max(rivals, default=(0, 0))
    trusted, voices = _weight(winners)
    convinced = trusted > strongest[0] or (
        trusted == strongest[0] and voices >= 2 and voices > strongest[1]
    )
    if convinced and (trusted or voices >= 2):
        if trusted:
            reason = because(ReasonCode.TRUSTED_HOST_AGREES)
        else:
            hosts = voices + len(others)
            reason = because(ReasonCode.MAJORITY_AGREES, agreeing=voices, hosts=hosts)
        return Valid(center.assignment, _ids(winners), _ids(others), reason)
    return NeedsAnother(
        because(ReasonCode.RESULTS_DIFFER),
        disagreement=True,
        trusted_only=len(winners) + len(others) >= _MOST_VOLUNTEERS or trusted > 0,
    )


def _ids(results: Sequence[Result]) -> tuple[int, ...]:
    return tuple(result.assignment for result in results)


def _weight(group: Sequence[Result]) -> tuple[int, int]:
    """Return (trusted hosts, voices)."""
    return sum(result.trusted for result in group), _voices(group)


def _voices(group: Sequence[Result]) -> int:
    """Return how many independent people a group comes from: see `core.voices`."""
    return voices(
        [
            Party(result.assignment, result.account, result.team, frozenset({result.network}))
            for result in group
        ]
    )
