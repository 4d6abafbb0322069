"""Whose result of a unit counts, whose is wrong, and what is needed to know.

An *anchor* is a trusted host, or a proven host of other people than those it is compared with. A
result counts only with one:

- A trusted host's result counts at once, and so does a proven author's unless it is held.
- Otherwise it counts when an anchor agrees and nobody disagrees. New hosts that agree with one
  another prove nothing, however many they are.
- While results differ, none counts. A trusted host decides; without one, proven hosts drawn by lot
  do, once a side leads by two voices.
- In a project without a single anchor, one exam goes to the whole fleet, and a large lead counts.
- What was trained on its host's own data counts alone, since nobody else has them: such results are
  not anchored, and what bounds them is how they are combined.

Results *agree* within the tolerance. Between the tolerance and three times that they are *near*:
a reason to ask another host, never to convict one. `decide` is a pure function of what is known
now: it gives the same answer whichever process asks it, and however often.
"""

from __future__ import annotations

from enum import StrEnum
from itertools import combinations
from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pleb_coordinator.core.records import Counting, Record
from pleb_coordinator.core.tolerance import Closeness, Tolerance, pair
from pleb_coordinator.core.voices import Party, independent, voices
from pleb_shared.protocol.reasons import Reason, ReasonCode, because

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


__all__ = ["Case", "Decision", "Fleet", "Need", "Weight", "Word", "decide", "needed_pairs"]

EXAM_AGREEING: Final = 3
"""Results that agree, the anchor's among them, before an exam counts on a volunteer's word."""
LEAD: Final = 2
"""Proven voices by which a side must lead in a dispute that no trusted host decides."""
MOST_DECIDERS: Final = 5
"""Proven hosts that are drawn for one dispute; then it waits."""
TRUSTED_QUEUE: Final = 3
"""Disputes that wait for each trusted host; with more, proven hosts are drawn."""
DOUBTED_BY: Final = 3
"""So many volunteers that agree against one trusted result have it computed twice."""
FLEET_ANSWERED: Final = 0.75
"""Part of the hosts with a fleet's exam that must have answered: lies come faster than work."""
FLEET_VOICES: Final = 5
"""Voices that a fleet's exam needs, or as many as there are."""


class Weight(StrEnum):
    """What a host's word weighs at the moment."""

    TRUSTED = "trusted"
    PROVEN = "proven"
    NEW = "new"
    """New, or not proven any more, or suspended, or banned."""


class Need(StrEnum):
    """What a unit needs next."""

    CHECK = "check"
    """A result of an anchor."""
    DECIDER = "decider"
    """Results differ: a result of a trusted host, or of a proven one drawn by lot."""
    TRUSTED_DECIDER = "trusted_decider"
    """Results differ: a result of a trusted host."""
    LATER = "later"
    """Enough hosts were asked: another one later, or a trusted host with time."""


class Word(Record, frozen=True):
    """One host's result of the unit."""

    assignment: int
    party: Party
    weight: Weight
    digest: str
    author: bool = False
    """Whether it is the first try."""
    determinism_class: str = ""
    """The host's."""
    runtime: str = ""


class Fleet(Record, frozen=True):
    """What a decision needs to know about the hosts of the project."""

    trusted: int
    """Trusted hosts seen lately."""
    proven: int
    active: int
    """Accounts that asked for work lately."""
    disputes_waiting: int
    """Disputes in the trusted hosts' queue."""


class Case(Record, frozen=True):
    """A unit with its results, oldest first."""

    counting: Counting
    words: tuple[Word, ...]
    outstanding: tuple[Weight, ...]
    """The hosts that hold a copy and have not answered."""
    decided: bool
    deciders_asked: int
    """Results of proven hosts that were asked for by lot in this dispute."""
    waited: bool
    """Whether a fleet's exam was open for one and a quarter median unit times."""


class Decision(Record, frozen=True):
    """What follows for the unit."""

    reason: Reason
    canonical: int | None = None
    """The result that counts; None: none does yet."""
    agreeing: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    """Proven wrong by the canonical result."""
    near: tuple[int, ...] = ()
    """Neither confirmed nor refuted by it."""
    doubtful: tuple[int, ...] = ()
    """Of these, results so far from it that only the kind of their PC may excuse them."""
    by_trusted: bool = False
    """Whether a trusted host computed the canonical result."""
    disputed: bool = False
    """Results differ; none counts for now."""
    need: Need | None = None


def needed_pairs(case: Case) -> list[tuple[str, str]]:
    """Return the pairs of digests whose distance `decide` wants to know.

    Results are compared with those that have weight, so a flood of newcomers' lies costs one
    comparison each. Only in a fleet's exam, when it can be decided, all are compared.
    """
    if case.counting is Counting.OWN:
        return []
    digests = list(dict.fromkeys(word.digest for word in case.words))
    if case.counting is Counting.FLEET and _fleet_ready(case):
        return [pair(*two) for two in combinations(digests, 2)]
    weighty = {word.digest for word in case.words if word.weight is not Weight.NEW or word.author}
    return [
        pair(first, second)
        for first, second in combinations(digests, 2)
        if first in weighty or second in weighty
    ]


def decide(
    case: Case, apart: Mapping[tuple[str, str], float], tolerance: Tolerance, fleet: Fleet
) -> Decision:
    """Return what follows from the results of a unit.

    `apart` holds the distances of the `needed_pairs`. Of a pair that is missing, the bytes are not
    here any more: its results are near, so that neither confirms nor refutes the other.
    """
    if not case.words:
        return Decision(because(ReasonCode.NO_RESULT), need=_exam_needs(case))
    if case.counting is Counting.OWN:  # however far apart: others' data are others
        alone = _Table(case.words, {}, tolerance)
        return alone.settled(case.words[0], because(ReasonCode.OWN_DATA))
    table = _Table(case.words, apart, tolerance)
    if any(word.weight is Weight.TRUSTED for word in case.words):
        return _by_trusted(case, table)
    if case.counting is Counting.FLEET:
        return _by_fleet(case, table, fleet)
    weighty = [word for word in case.words if word.weight is Weight.PROVEN or word.author]
    if not all(table.agree(one, other) for one in weighty for other in case.words):
        return _by_proven(case, table, fleet)
    return _unopposed(case, table)


class _Table:
    """Results and how close they are."""

    def __init__(
        self,
        words: Sequence[Word],
        apart: Mapping[tuple[str, str], float],
        tolerance: Tolerance,
    ) -> None:
        self.words = words
        self._apart = apart
        self._tolerance = tolerance

    def closeness(self, one: Word, other: Word) -> Closeness:
        if one.digest == other.digest:
            return Closeness.AGREE
        distance = self._apart.get(pair(one.digest, other.digest))
        if distance is None:
            return Closeness.NEAR
        classes = (one.determinism_class, other.determinism_class)
        alike = classes[0] == classes[1] and one.runtime == other.runtime
        return self._tolerance.compare(distance, classes, alike=alike)

    def _doubtful(self, one: Word, other: Word) -> bool:
        distance = self._apart.get(pair(one.digest, other.digest))
        return distance is not None and distance > self._tolerance.near

    def agree(self, one: Word, other: Word) -> bool:
        return self.closeness(one, other) is Closeness.AGREE

    def side(self, center: Word, against: Word | None = None) -> list[Word]:
        """Return the results that agree with `center` and not with `against`."""
        return [
            word
            for word in self.words
            if self.agree(center, word) and (against is None or not self.agree(against, word))
        ]

    def best(self, weight: Weight | None) -> tuple[Word, int, int]:
        """Return the center of the strongest side, its voices, and those of the next one.

        Only hosts of that weight have a voice; None: all have. The older one of equals wins.
        """
        strength = [_voices(self.side(center), weight) for center in self.words]
        first = max(range(len(self.words)), key=lambda i: (strength[i], -i))
        center = self.words[first]
        rivals = [other for other in self.words if not self.agree(center, other)]
        rival = max((_voices(self.side(one, center), weight) for one in rivals), default=0)
        return center, strength[first], rival

    def settled(self, center: Word, reason: Reason, *, by_trusted: bool = False) -> Decision:
        """Return the decision that `center` counts, with what that says of each result."""
        found: dict[Closeness, list[int]] = {closeness: [] for closeness in Closeness}
        for word in self.words:
            found[self.closeness(center, word)].append(word.assignment)
        return Decision(
            reason=reason,
            canonical=center.assignment,
            agreeing=tuple(found[Closeness.AGREE]),
            near=tuple(found[Closeness.NEAR]),
            doubtful=tuple(
                word.assignment
                for word in self.words
                if word.assignment in found[Closeness.NEAR] and self._doubtful(center, word)
            ),
            wrong=tuple(found[Closeness.FAR]),
            by_trusted=by_trusted,
        )


def _voices(words: Sequence[Word], weight: Weight | None) -> int:
    return voices([word.party for word in words if weight in (None, word.weight)])


def _anchor_outstanding(case: Case) -> bool:
    return any(weight is not Weight.NEW for weight in case.outstanding)


def _by_trusted(case: Case, table: _Table) -> Decision:
    """A trusted host's word decides; against many that agree it is computed twice first."""
    trusted = [word for word in case.words if word.weight is Weight.TRUSTED]
    center = max(trusted, key=lambda word: sum(table.agree(word, other) for other in trusted))
    same = sum(table.agree(center, word) for word in trusted)
    others = [word for word in case.words if not table.agree(center, word)]
    against = max((_voices(table.side(one, center), None) for one in others), default=0)
    support = _voices(table.side(center), None) - 1
    doubted = same < len(trusted) or (against >= DOUBTED_BY and against > support)
    if not doubted or (same >= LEAD and 2 * same > len(trusted)):
        code = ReasonCode.TRUSTED_HOST_AGREES if others else ReasonCode.TRUSTED_RESULT
        return table.settled(center, because(code), by_trusted=True)
    need = None if Weight.TRUSTED in case.outstanding else Need.TRUSTED_DECIDER
    return Decision(because(ReasonCode.COMPUTED_TWICE, count=against), disputed=True, need=need)


def _by_proven(case: Case, table: _Table, fleet: Fleet) -> Decision:
    """Proven hosts disagree with somebody, and no trusted host has computed the unit."""
    center, ours, theirs = table.best(Weight.PROVEN)
    if ours - theirs >= LEAD:
        reason = because(ReasonCode.MAJORITY_AGREES, agreeing=ours, hosts=ours + theirs)
        return table.settled(center, reason)
    if _anchor_outstanding(case):
        need = None
    elif fleet.trusted and fleet.disputes_waiting < TRUSTED_QUEUE * fleet.trusted:
        need = Need.TRUSTED_DECIDER
    else:
        need = Need.DECIDER if case.deciders_asked < MOST_DECIDERS else Need.LATER
    return Decision(because(ReasonCode.RESULTS_DIFFER), disputed=True, need=need)


def _fleet_ready(case: Case) -> bool:
    asked = len(case.words) + len(case.outstanding)
    return case.waited and len(case.words) >= FLEET_ANSWERED * asked


def _by_fleet(case: Case, table: _Table, fleet: Fleet) -> Decision:
    """Nobody can be an anchor yet: a large lead among all hosts counts, once the slow answered."""
    waiting = Decision(because(ReasonCode.FLEET_EXAM))
    if not _fleet_ready(case):
        return waiting
    center, ours, theirs = table.best(None)
    enough = min(FLEET_VOICES, max(2, fleet.active))
    lead = max(1, min(FLEET_VOICES - 1, fleet.active - 2))
    if ours < enough or ours - theirs < lead:
        return waiting
    return table.settled(center, because(ReasonCode.HOSTS_AGREE, count=ours))


def _exam_needs(case: Case) -> Need | None:
    """An exam needs one anchor, and another one if that one has not answered."""
    lacks = case.counting is Counting.EXAM and not _anchor_outstanding(case)
    return Need.CHECK if lacks else None


def _unopposed(case: Case, table: _Table) -> Decision:
    """All results that have weight agree with all others."""
    author = next((word for word in case.words if word.author), None)
    proven = [word for word in case.words if word.weight is Weight.PROVEN]
    if author is None:
        enough = voices([word.party for word in case.words]) >= EXAM_AGREEING
        if proven and (case.decided or enough or Weight.NEW not in case.outstanding):
            settled = table.settled(
                proven[0], because(ReasonCode.HOSTS_AGREE, count=len(case.words))
            )
            return replace(settled, agreeing=_confirmed(case.words, proven))
        reason = because(ReasonCode.NEW_HOST)
        return Decision(reason, need=None if proven else _exam_needs(case))
    anchors = [word for word in proven if independent(word.party, author.party)]
    check = None if _anchor_outstanding(case) else Need.CHECK
    alone = author.weight is Weight.PROVEN and case.counting in _COUNTS_ALONE
    if alone and not anchors:
        settled = table.settled(author, because(ReasonCode.PROVEN_RESULT))
        return replace(settled, need=check if case.counting is Counting.CHECKED else None)
    if voices([word.party for word in anchors]) >= (LEAD if case.counting is Counting.FAST else 1):
        agreeing = len(table.side(author))
        return table.settled(author, because(ReasonCode.HOSTS_AGREE, count=agreeing))
    code = _HELD.get(case.counting, ReasonCode.NEW_HOST)
    return Decision(because(code), need=check)


def _confirmed(words: Sequence[Word], anchors: Sequence[Word]) -> tuple[int, ...]:
    """Return the results that an anchor of another voice confirms, and the anchors' own."""
    return tuple(
        word.assignment
        for word in words
        if word in anchors or any(independent(word.party, anchor.party) for anchor in anchors)
    )


_COUNTS_ALONE: Final = {Counting.AUTHOR, Counting.CHECKED}
_HELD: Final = {Counting.HELD: ReasonCode.HELD, Counting.FAST: ReasonCode.TOO_FAST}
"""Why a proven author's result does not count yet."""
