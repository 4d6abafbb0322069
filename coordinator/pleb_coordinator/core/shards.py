"""Which of the units that a host may have are on shards that it is likely to have.

A host gets such a unit a few places before its turn, so it downloads less. Only first tries are
chosen so, among few: checks go to whom the lot says, whatever they have. So a unit on shards that
its host has is less often a check than others, and the host knows it. That is made up for: what
came out of its turn is checked as if its host knew that it is no check
(`reputation.rate_out_of_turn`). What a host has is what it was given, so nothing that it says
changes what it gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from pleb_shared.protocol.unit import UnitKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pleb_coordinator.core.records import Assignment, UnitRow

__all__ = ["SHARDS_KEPT", "missing_shards", "pick", "with_shards"]

SHARDS_KEPT: Final = 64
"""Units whose shards are remembered of each host."""


def missing_shards(unit: UnitRow, had: Sequence[int], shards: int) -> int:
    """Return how many of a unit's shards none of the host's last units had.

    `had` are the first shards of units as long as this one, on a list of `shards` that wraps.
    """
    if unit.shard_first in had:
        return 0
    if unit.shard_count == 1:
        return 1
    apart = ((unit.shard_first - first) % shards for first in had)
    nearest = min((min(places, shards - places) for places in apart), default=unit.shard_count)
    return min(unit.shard_count, nearest)


def pick(
    candidates: Sequence[tuple[Assignment, UnitRow]], count: int, had: Sequence[int], shards: int
) -> list[tuple[Assignment, UnitRow]]:
    """Return `count` of the candidates, those first of whose shards the host lacks the fewest.

    Those that would not have been among the first `count` are marked.
    """
    order = sorted(
        range(len(candidates)),
        key=lambda place: missing_shards(candidates[place][1], had, shards),
    )
    return [
        (assignment if place < count else replace(assignment, out_of_turn=True), unit)
        for place in order[:count]
        for assignment, unit in [candidates[place]]
    ]


def with_shards(had: Sequence[int], given: Sequence[UnitRow]) -> list[int]:
    """Return the first shards of a host's last units, now that it was given these."""
    train = (unit.shard_first for unit in reversed(given) if unit.kind is UnitKind.TRAIN)
    return list(dict.fromkeys([*train, *had]))[:SHARDS_KEPT]
