"""What the fleet's calibration units show: the tolerance, and which classes are isolated.

Every host runs the same few steps; hosts whose fp32 results are equal to the bit form a
*determinism class*. The distances between classes, measured on results encoded as deltas are,
show how far honest hosts differ, before any of them has done a unit.

They raise the project's tolerance, but only up to the researcher's ceiling, and only those of
classes to which a trusted host belongs, or a quarter of all voices and at least five: a
calibration is made in a minute under any name, so whoever has few names widens nothing. What
proven hosts' units show later counts in `core.tolerance`.

The *main* class is that of the trusted hosts, else the one that most independent voices share. A
class farther from it than the tolerance is *isolated*: its hosts' results cannot be confirmed by
the others. It gets work only once a trusted host belongs to it (two accounts of one liar would
otherwise confirm each other's lies), and only hosts of the class confirm one another then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.tolerance import pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pleb_coordinator.core.records import CalibrationClass
    from pleb_shared.protocol.project import Verification

__all__ = ["isolated_classes", "raised_tolerance"]

_MARGIN: Final = 2.0
"""Calibrations are short: results of longer units may differ by this factor more."""
_WIDENING_VOICES: Final = 5
_WIDENING_SHARE: Final = 0.25


def raised_tolerance(
    classes: Sequence[CalibrationClass],
    distances: Mapping[tuple[str, str], float],
    rules: Verification,
) -> float:
    """Return the tolerance, between the researcher's own and the ceiling."""
    enough = max(_WIDENING_VOICES, _WIDENING_SHARE * sum(found.accounts for found in classes))
    widening = {found.digest for found in classes if found.trusted or found.accounts >= enough}
    within = [
        distance
        for (first, second), distance in distances.items()
        if first in widening and second in widening and distance <= rules.tolerance_ceiling
    ]
    raised = _MARGIN * max(within, default=0.0)
    return min(rules.tolerance_ceiling, max(rules.tolerance, raised))


def isolated_classes(
    classes: Sequence[CalibrationClass],
    distances: Mapping[tuple[str, str], float],
    tolerance: float,
) -> set[str]:
    """Return the classes farther from the main one than `tolerance`, the one in force.

    None is, while the main class is one volunteer's: the first host of a project cannot exclude
    the second one, whatever it computes. Any number of volunteers cannot exclude a trusted host.
    """
    leading = [found for found in classes if found.leads]
    if not leading:
        return set()
    main = max(leading, key=lambda found: (found.trusted, found.accounts, -found.first_at))
    return {
        found.digest
        for found in classes
        if distances.get(pair(main.digest, found.digest), 0.0) > tolerance
    }
