"""When two results of a unit agree, nearly agree, or differ.

Honest results of one unit differ by rounding, a lie by more. Between the two lies a band where a
distance proves nothing: an honest PC of a kind that was not measured yet, or a model that has
become more sensitive since. There another opinion is asked for, and no host is found wrong.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["NEAR_RATIO", "Closeness", "compare"]

NEAR_RATIO: Final = 3.0
"""Up to this many tolerances a mismatch is a near miss. Honest PCs of one kind of model differ by
about this factor among themselves (`docs/trust.md`)."""


class Closeness(StrEnum):
    """What a distance says about two results."""

    AGREE = "agree"
    NEAR = "near"
    """They do not confirm each other, but neither is wrong for that: another opinion is needed."""
    FAR = "far"


def compare(distance: float, tolerance: float) -> Closeness:
    """Return what the distance of two results (`tensors.distance`) says at that tolerance.

    An infinite distance (a number is not finite) is far; so is NaN, which no distance is.
    """
    if distance <= tolerance:
        return Closeness.AGREE
    if distance <= NEAR_RATIO * tolerance:
        return Closeness.NEAR
    return Closeness.FAR
