"""When two results of a unit agree, nearly agree, or differ; and how that follows the training.

Honest results of one unit differ by rounding, a lie by more. Between the two lies a band where a
distance proves nothing: an honest PC of a kind that was not measured yet, or a model that has
become more sensitive since. There another opinion is asked for, and no host is found wrong.

How far apart honest PCs are changes while a model learns: the tolerance that was measured at
version 0 is too small once the loss is nearly 0 and gradients are rounding noise. So the
tolerance follows recent pairs of results, within the ceiling that the researcher has signed.

The limit of near misses depends on who is compared. Two PCs of one kind (the same determinism
class and runtime) hardly differ, so there it is `NEAR_RATIO` tolerances. PCs of different kinds
were measured 1.3 apart on a converged model, farther than a lie that sends zeros: so between two
kinds a mismatch is a verdict only while recent pairs of these kinds show that they are close.
Nothing wrong gets in for that: a result that is not confirmed does not count, whatever the reason.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from enum import StrEnum
from statistics import median
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Record
from pleb_coordinator.core.voices import identifies

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pleb_shared.protocol.project import Verification

__all__ = [
    "GROSS",
    "NEAR_RATIO",
    "RECENT_PAIRS",
    "Closeness",
    "ConfirmedPair",
    "Tolerance",
    "pair",
    "tolerance_of",
]

NEAR_RATIO: Final = 3.0
"""Up to this many tolerances a mismatch is a near miss. The largest distances of honest PCs were
measured at about this multiple of the usual ones (`docs/trust.md`)."""
GROSS: Final = 0.5
"""Up to this distance a mismatch of two kinds of PCs is a near miss in any case. Zeros are 1 away,
a flipped sign 2, random numbers and another shard's result 1 to 1.4, half the steps .6 to 1."""
RECENT_PAIRS: Final = 256
"""How many of a project's newest pairs are kept."""

_TAIL: Final = 10.0
"""Between two kinds of PCs the next largest distance was up to 7 times the largest so far."""
_MARGIN: Final = 1.5
"""Units differ in how sensitive they are: the tolerance is this much above the spread."""
_VOICES: Final = 3
"""With fewer independent hosts of a kind, one liar among them would set the spread."""
_PAIRS: Final = 8
"""With fewer pairs of a kind, their spread is not known."""
_QUANTILE: Final = 0.9
"""Of one host's distances: a rare large one is a near miss, not the host's usual distance."""


class Closeness(StrEnum):
    """What a distance says about two results."""

    AGREE = "agree"
    NEAR = "near"
    """They do not confirm each other, but neither is wrong for that: another opinion is needed."""
    FAR = "far"


class ConfirmedPair(Record, frozen=True):
    """How far apart an anchor's result was from that of a trusted or proven host.

    Both hosts are trusted or proven, neither chose the other (a draw did), they are independent
    (`core.voices`), and they were not far apart: so no liar can make pairs at will, nor large ones.
    """

    version: int
    account: str
    """Of the host that was compared with the anchor."""
    network: str
    own_class: str
    """Its determinism class."""
    anchor_class: str
    distance: float


class Tolerance(Record, frozen=True):
    """The limits that are in force."""

    agree: float
    """Up to it two results agree."""
    near: float
    """Up to it a mismatch of two hosts of the same kind proves nothing."""
    near_unlike: dict[tuple[str, str], float]
    """The same for hosts of two kinds, by their sorted determinism classes; of those that are
    missing too little is known to call any mismatch a lie."""

    def compare(self, distance: float, classes: tuple[str, str], *, alike: bool) -> Closeness:
        """Return what the distance of two results says.

        Args:
            distance: infinite if a number is not finite, which is far between any two hosts.
            classes: the determinism classes of the two hosts.
            alike: whether the hosts are of one kind: class and runtime are the same.
        """
        if distance <= self.agree:
            return Closeness.AGREE
        first, second = sorted(classes)
        near = self.near if alike else self.near_unlike.get((first, second), sys.float_info.max)
        return Closeness.NEAR if distance <= near else Closeness.FAR


def pair(first: str, second: str) -> tuple[str, str]:
    """Return the key of two digests in a table of distances."""
    return (first, second) if first < second else (second, first)


def tolerance_of(
    rules: Verification, calibrated: float, pairs: Sequence[ConfirmedPair]
) -> Tolerance:
    """Return the tolerance in force.

    Args:
        rules: the researcher's own tolerance, and the ceiling that nothing raises it over.
        calibrated: what the fleet's calibration units raised it to (`core.calibration`); 0: not.
        pairs: recent pairs of results, in any order.
    """
    kinds: dict[tuple[str, str], list[ConfirmedPair]] = defaultdict(list)
    for pair in pairs:
        first, second = sorted((pair.own_class, pair.anchor_class))
        kinds[first, second].append(pair)
    known = {classes: members for classes, members in kinds.items() if len(members) >= _PAIRS}
    spread = max(map(_spread, known.values()), default=0.0)
    agree = min(rules.tolerance_ceiling, max(rules.tolerance, calibrated, _MARGIN * spread))
    near = max(NEAR_RATIO * agree, min(GROSS, NEAR_RATIO * spread))
    unlike = {
        classes: max(near, GROSS, _TAIL * max(pair.distance for pair in members))
        for classes, members in known.items()
    }
    return Tolerance(agree=agree, near=near, near_unlike=unlike)


def _spread(pairs: Sequence[ConfirmedPair]) -> float:
    """Return how far apart the hosts of two classes usually are; 0 while too few hosts say so.

    It is the median over hosts of each host's 90 % quantile. So a liar widens nothing unless most
    proven hosts of a class are liars, and a class of few honest hosts counts as much as a class of
    many.
    """
    hosts: dict[str, list[float]] = defaultdict(list)
    for pair in pairs:
        hosts[pair.account].append(pair.distance)
    networks = {pair.network if identifies(pair.network) else pair.account for pair in pairs}
    if min(len(hosts), len(networks)) < _VOICES:
        return 0.0
    return median(_quantile(distances) for distances in hosts.values())


def _quantile(distances: Collection[float]) -> float:
    """Return the smallest of the distances that 90 % of them do not exceed."""
    return sorted(distances)[math.ceil(_QUANTILE * len(distances)) - 1]
