"""How long a round will go on, and how many local steps fit into that.

A round is made of its first `quorum` verified units. Work still running then is wasted, and a
host that waits for the others wastes as much. So the last units of a round are shortened
to end together with it: guided self-scheduling (Polychronopoulos and Kuck 1987) of units that can
be cut at any local step.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Record
from pleb_shared.protocol.chunk import FULL

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "InHand",
    "RoundAhead",
    "due_seconds",
    "fitting_steps",
    "is_late",
    "seconds_left",
    "whole_unit",
]

_LATE: Final = 2.0
"""A unit that takes this many times its expected time is not waited for: its PC may be off."""
_LATE_SECONDS: Final = 60.0
_LONG: Final = 1.4
"""Times the median of the last rounds: a longer round is made of shorter units."""
_FEWEST_ROUNDS: Final = 5
_PARTS: Final = 16
"""Units are shortened to multiples of this part of a whole one."""

_ROUNDING: Final = 1e-6
"""Of a step: a whole unit fits into its own time."""


class InHand(Record, frozen=True):
    """A unit that a host is computing."""

    unit: int
    host: int
    local_steps: int
    issued_at: float
    seconds_per_step: float
    chunk: str = FULL

    def seconds_left(self, now: float) -> float:
        """Return how long it should still take."""
        return max(0.0, self.issued_at + self.seconds_per_step * self.local_steps - now)


class RoundAhead(Record, frozen=True):
    """An open round, as far as its end depends on it."""

    needed: int
    """Verified units that it lacks."""
    local_steps: int
    """Of a whole unit."""
    in_hand: tuple[InHand, ...]
    """First tries that hosts compute; of very many a sample."""
    before: float = 0.0
    """Steps per second that came into the last version: while a round is young, few have asked."""
    due_seconds: float = math.inf
    """When it should have its quorum, from now, so that it takes hardly longer than usual."""
    every: int = 1
    """For so many first tries one is in `in_hand`."""


def is_late(found: InHand, now: float) -> bool:
    """Whether a unit's host seems to be away."""
    expected = found.seconds_per_step * found.local_steps
    return now - found.issued_at > _LATE * expected + _LATE_SECONDS


def seconds_left(ahead: RoundAhead, own_seconds_per_step: float, now: float) -> float:
    """Return how long it takes until the round has its quorum, if all who compute end together.

    Units that are late are not counted on. The host that asks is counted among those who compute.
    """
    alive = [found for found in ahead.in_hand if not is_late(found, now)]
    rests = sorted(found.seconds_left(now) for found in alive)
    steps = ahead.every * sum(found.seconds_left(now) / found.seconds_per_step for found in alive)
    others = ahead.every * sum(1 / found.seconds_per_step for found in alive)
    speed = 1 / own_seconds_per_step + others
    more = max(0, ahead.needed - ahead.every * len(alive))
    balanced = (more * ahead.local_steps + steps) / max(speed, ahead.before)
    awaited = rests[: max(0, math.ceil(ahead.needed / ahead.every))]
    return max(balanced if ahead.needed > 0 else 0.0, awaited[-1] if awaited else 0.0)


def due_seconds(lengths: Sequence[float], opened_at: float, now: float) -> float:
    """Return in how many seconds an open round becomes unusually long; infinity: nobody knows.

    `lengths` are those of the last rounds, in seconds.
    """
    if len(lengths) < _FEWEST_ROUNDS:
        return math.inf
    usual: float = statistics.median(lengths)
    return opened_at + _LONG * usual - now


def whole_unit(ahead: RoundAhead, seconds: float, shortest: float) -> int:
    """Return the most steps of a unit now, where `seconds` are left with whole units.

    With fewer hosts than usual (by night, at weekends) a round of whole units would take long; it
    is made of shorter ones instead, which are as many samples per second.
    """
    share = 1.0 if seconds <= 0 else ahead.due_seconds / seconds
    return max(1, math.ceil(ahead.local_steps * min(1.0, max(shortest, share))))


def fitting_steps(
    seconds: float, seconds_per_step: float, most: int, shortest: float, cap: int | None = None
) -> int | None:
    """Return how many local steps a host does in that time, at most `most`.

    Args:
        seconds: that are left.
        seconds_per_step: of the host.
        most: steps of a whole unit.
        shortest: the least part of a whole unit.
        cap: what no unit exceeds for now; None: `most`.

    Returns:
        None: not even the shortest unit fits.
    """
    part = max(1, most // _PARTS)
    least = max(1, math.ceil(most * shortest))
    steps = int(seconds / seconds_per_step + _ROUNDING) // part * part
    if steps < least:
        return least if seconds / seconds_per_step + _ROUNDING >= least else None
    return max(least, min(most if cap is None else cap, steps))
