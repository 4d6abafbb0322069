"""How long a round will go on, and how many local steps fit into that.

A round is made of its first `quorum` verified units. Work still running then is wasted, and a
host that waits for the others wastes as much. So the last units of a round are shortened
to end together with it: guided self-scheduling (Polychronopoulos and Kuck 1987) of units that can
be cut at any local step.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Record
from pleb_shared.protocol.chunk import FULL

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "InHand",
    "RoundAhead",
    "RoundsAhead",
    "due_by",
    "fitting_steps",
    "is_late",
    "round_ahead",
    "seconds_left",
    "usual_seconds",
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
_FRESH_PART: Final = 1 / 32
"""A round is looked at again when this part of its units in hand has changed."""
_FRESH_TIME: Final = 0.01
"""And after this part of the time that its units take."""

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

    @property
    def ends_at(self) -> float:
        """When it should be finished."""
        return self.issued_at + self.seconds_per_step * self.local_steps

    def seconds_left(self, now: float) -> float:
        """Return how long it should still take."""
        return max(0.0, self.ends_at - now)


class RoundAhead(Record, frozen=True):
    """An open round as it was at a moment, as far as its end depends on it.

    Only what is asked for with each request is kept of the units in hand: `round_ahead` makes it.
    """

    at: float
    """When the units in hand were looked at."""
    needed: int
    """Verified units that it lacks."""
    local_steps: int
    """Of a whole unit."""
    steps_left: float
    """Of all first tries that hosts compute, but for late ones."""
    steps_per_second: float
    """Of these hosts together."""
    ends: tuple[float, ...]
    """When these first tries should end, soonest first; of very many a sample."""
    in_one_hand: tuple[InHand, ...]
    """First tries of units that one host computes, late ones too; what should end last is first."""
    before: float = 0.0
    """Steps per second that came into the last version: while a round is young, few have asked."""
    due_by: float = math.inf
    """When it should have its quorum, so that it takes hardly longer than usual."""
    every: int = 1
    """For so many first tries one was looked at."""
    fresh_seconds: float = 0.0
    """How long this is nearly right, if no host begins or ends a unit."""


def round_ahead(
    in_hand: Sequence[InHand],
    now: float,
    *,
    needed: int,
    local_steps: int,
    before: float = 0.0,
    due_by: float = math.inf,
    every: int = 1,
) -> RoundAhead:
    """Return what a round's end depends on, from the first tries that hosts compute `now`."""
    alive = [found for found in in_hand if not is_late(found, now)]
    steps = sum(found.seconds_left(now) / found.seconds_per_step for found in alive)
    copies = Counter(found.unit for found in in_hand)
    lengths = [found.seconds_per_step * found.local_steps for found in alive]
    return RoundAhead(
        at=now,
        needed=needed,
        local_steps=local_steps,
        steps_left=every * steps,
        steps_per_second=every * sum(1 / found.seconds_per_step for found in alive),
        ends=tuple(sorted(found.ends_at for found in alive)),
        in_one_hand=tuple(
            sorted(
                (found for found in in_hand if copies[found.unit] == 1),
                key=lambda found: -found.ends_at,
            )
        ),
        before=before,
        due_by=due_by,
        every=every,
        fresh_seconds=_FRESH_TIME * statistics.fmean(lengths) if lengths else 0.0,
    )


@dataclass
class _Known:
    version: tuple[int, int]
    ahead: RoundAhead
    valid: int
    changes: int = 0


class RoundsAhead:
    """What a process remembers of open rounds: else each request would read all units in hand.

    A round is looked at again as soon as that hardly adds to what requests cost. Of a small one
    that is after each change; what a large one's end is taken for is off by a few percent at most.
    """

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def find(
        self, project: int, version: tuple[int, int], valid: int, now: float
    ) -> RoundAhead | None:
        """Return the round of a project's `version` (epoch, number); None: look at it again.

        `valid`: how many of its units are verified by now.
        """
        known = self._known.get(project)
        if known is None or known.version != version:
            return None
        found = known.ahead
        changes = known.changes + abs(valid - known.valid)
        few = changes <= _FRESH_PART * len(found.ends) * found.every
        return found if few and 0 <= now - found.at < found.fresh_seconds else None

    def keep(self, project: int, version: tuple[int, int], valid: int, ahead: RoundAhead) -> None:
        """Remember a round that was looked at now."""
        self._known[project] = _Known(version, ahead, valid)

    def note_given(self, project: int) -> None:
        """A host was given a first try of the project's open round."""
        if (known := self._known.get(project)) is not None:
            known.changes += 1


def is_late(found: InHand, now: float) -> bool:
    """Whether a unit's host seems to be away."""
    expected = found.seconds_per_step * found.local_steps
    return now - found.issued_at > _LATE * expected + _LATE_SECONDS


def seconds_left(ahead: RoundAhead, own_seconds_per_step: float, now: float) -> float:
    """Return how long it takes until the round has its quorum, if all who compute end together.

    Units that are late are not counted on. The host that asks is counted among those who compute.
    """
    steps = max(0.0, ahead.steps_left - (now - ahead.at) * ahead.steps_per_second)
    speed = 1 / own_seconds_per_step + ahead.steps_per_second
    more = max(0, ahead.needed - ahead.every * len(ahead.ends))
    balanced = (more * ahead.local_steps + steps) / max(speed, ahead.before)
    awaited = ahead.ends[: max(0, math.ceil(ahead.needed / ahead.every))]
    rest = awaited[-1] - now if awaited else 0.0
    return max(0.0, balanced if ahead.needed > 0 else 0.0, rest)


def usual_seconds(lengths: Sequence[float]) -> float:
    """Return how long a round usually takes, from those of the last rounds; infinity: unknown."""
    return statistics.median(lengths) if len(lengths) >= _FEWEST_ROUNDS else math.inf


def due_by(usual: float, opened_at: float) -> float:
    """Return when an open round becomes longer than the `usual` seconds by too much."""
    return opened_at + _LONG * usual


def whole_unit(ahead: RoundAhead, seconds: float, shortest: float, now: float) -> int:
    """Return the most steps of a unit now, where `seconds` are left with whole units.

    With fewer hosts than usual (by night, at weekends) a round of whole units would take long; it
    is made of shorter ones instead, which are as many samples per second.
    """
    share = 1.0 if seconds <= 0 else (ahead.due_by - now) / seconds
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
