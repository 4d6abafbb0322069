"""On how many PCs the training shards are: what units of the last rounds were given to whom.

A host keeps a unit's shards until its cache needs the room, and coordinators keep no list of what
each host has. So this is what is likely, not what is known.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pleb_coordinator.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Coverage", "Given", "coverage_of", "rounds_of_a_pass"]


class Given(Record, frozen=True):
    """That a host was given a unit of these shards; the range wraps around the list's end."""

    first: int
    count: int
    host: int


class Coverage(Record, frozen=True):
    """How many of the training shards some host has, and how many hosts the rarest of them."""

    shards: int
    covered: int
    fewest_hosts: int
    """Of the shards that are covered; 0: none is."""


def coverage_of(shards: int, given: Iterable[Given]) -> Coverage:
    """Return the coverage of a list of so many shards."""
    hosts: defaultdict[int, set[int]] = defaultdict(set)
    for one in given:
        for place in range(one.first, one.first + min(one.count, shards)):
            hosts[place % shards].add(one.host)
    return Coverage(shards, len(hosts), min(map(len, hosts.values()), default=0))


def rounds_of_a_pass(shards: int, units: int, shards_per_unit: int) -> int:
    """Return in how many rounds every shard is used at least once."""
    return -(-shards // max(1, units * shards_per_unit))
