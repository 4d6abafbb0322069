"""What the fleet's calibration units show: the tolerance, and which classes are isolated.

Every host runs the same few steps; hosts whose fp32 results are equal to the bit form a
*determinism class*. The distances between classes, measured on results encoded as deltas are,
show how far honest hosts differ. They raise the project's tolerance, but a class counts only
when a trusted host or two accounts of different networks vouch for it (else one liar could
widen it), and only up to the researcher's ceiling.

The *main* class is that of the trusted hosts, else the one that most accounts share. A class
farther from it than the ceiling is *isolated*: its hosts cannot be compared with the others.
They get work only once their class is vouched for, and their replicas, audits and deciders go
to hosts of the same class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.quorum import pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pleb_coordinator.core.records import CalibrationClass
    from pleb_shared.protocol.project import Verification

__all__ = ["isolated_classes", "raised_tolerance"]

_MARGIN: Final = 2.0
"""Calibrations are short: results of longer units may differ by this factor more."""


def raised_tolerance(
    classes: Sequence[CalibrationClass],
    distances: Mapping[tuple[str, str], float],
    rules: Verification,
) -> float:
    """Return the tolerance, between the researcher's own and the ceiling."""
    vouched = {found.digest for found in classes if found.vouched}
    within = [
        distance
        for (first, second), distance in distances.items()
        if first in vouched and second in vouched and distance <= rules.tolerance_ceiling
    ]
    raised = _MARGIN * max(within, default=0.0)
    return min(rules.tolerance_ceiling, max(rules.tolerance, raised))


def isolated_classes(
    classes: Sequence[CalibrationClass],
    distances: Mapping[tuple[str, str], float],
    rules: Verification,
) -> set[str]:
    """Return the classes too far from the main one; none while no class is vouched for.

    So the first host of a project cannot exclude the second one, whatever it computes, and
    two accounts of one liar cannot exclude the operator's own hosts.
    """
    vouched = [found for found in classes if found.vouched]
    if not vouched:
        return set()
    main = max(vouched, key=lambda found: (found.trusted, found.accounts, -found.first_at))
    return {
        found.digest
        for found in classes
        if distances.get(pair(main.digest, found.digest), 0.0) > rules.tolerance_ceiling
    }
