"""Milestones of what a PC has contributed: said on a page that is looked at, and nowhere else."""

from __future__ import annotations

from typing import Final

from pleb_agent.core.sentence import Sentence, say

__all__ = ["milestones"]

_UNITS: Final = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
_DAYS: Final = (7, 30, 100, 365, 1_000)
_VERSIONS: Final = (10, 100, 1_000)


def milestones(units: int, days: int, versions: int) -> list[Sentence]:
    """Return what has been reached: of each kind the last one only.

    units: accepted ones. days: on which a unit was accepted. versions: that are proven to have
    units of this PC.
    """
    found = []
    if reached := _last(_UNITS, units):
        found.append(
            say("The first unit was accepted.")
            if reached == 1
            else say("{count} units were accepted.", count=reached)
        )
    if reached := _last(_DAYS, days):
        found.append(say("Units were accepted on {count} days.", count=reached))
    if reached := _last(_VERSIONS, versions):
        found.append(say("{count} versions are proven to have your work.", count=reached))
    return found


def _last(steps: tuple[int, ...], value: int) -> int:
    return max((step for step in steps if step <= value), default=0)
