"""Which hosts that share on the internet are named to one of them. Pure.

Near ones come first, so that bytes travel a short way: the more leading bits two addresses have in
common, the nearer they are likely to be. Among a few near ones and a few drawn ones those are
named that were given the shards which the asking host needs now.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pleb_shared.protocol.peers import Address, Peer

__all__ = ["MOST_CANDIDATES", "Candidate", "Places", "choose", "common_bits", "is_one_site"]

_NEAR: Final = 8
"""Candidates that are near."""
_DRAWN: Final = 4
"""Others, of each kind of address: so that no near one is asked by all."""
MOST_CANDIDATES: Final = _NEAR + 2 * _DRAWN
_SITE_BITS: Final = {4: 32, 6: 64}
"""What addresses of one local network have in common: its PCs share there already."""


@dataclass(frozen=True)
class Candidate:
    """A host that may be named. `bits`: how many its address and the asking host's begin alike."""

    host: int
    peer: Peer
    bits: int


def common_bits(first: Address, second: Address) -> int:
    """Return how many bits two addresses begin alike; -1: they are of different kinds."""
    if first.version != second.version:
        return -1
    return first.max_prefixlen - (int(first) ^ int(second)).bit_length()


def is_one_site(first: Address, second: Address) -> bool:
    """Whether two addresses are of one local network."""
    return common_bits(first, second) >= _SITE_BITS[first.version]


@dataclass
class Places:
    """Hosts by their addresses, in order, so that near ones are found without going through all.

    `kinds`: numbers of addresses with their hosts, by the kind of address (4 or 6).
    """

    kinds: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: {4: [], 6: []})

    def add(self, host: int, address: Address) -> None:
        """Put a host at its address; it must be at none."""
        insort(self.kinds[address.version], (int(address), host))

    def remove(self, host: int, address: Address) -> None:
        """Take a host away."""
        order = self.kinds[address.version]
        place = bisect_left(order, (int(address), host))
        if place < len(order) and order[place] == (int(address), host):
            del order[place]

    def around(self, address: Address, draw: Callable[[int], int]) -> list[int]:
        """Return hosts near an address, and some drawn ones that it can reach.

        A host that came by IPv4 is given no IPv6: it would probably have come by that if it had
        it. `draw(n)` gives a number below n.
        """
        found: dict[int, None] = {}
        for version in (6, 4) if address.version == 6 else (4,):
            order = self.kinds[version]
            if version == address.version:
                place = bisect_left(order, (int(address), 0))
                first = max(0, min(place - _NEAR // 2, len(order) - _NEAR))
                found |= dict.fromkeys(host for _, host in order[first : first + _NEAR])
            for _ in range(min(_DRAWN, len(order))):
                found[order[draw(len(order))][1]] = None
        return list(found)


def choose(
    candidates: Sequence[Candidate], shards: Mapping[int, Collection[int]], wanted: Sequence[int]
) -> list[Peer]:
    """Return the peers to name.

    Args:
        candidates: in a drawn order, which decides between equal ones.
        shards: the first shards of the last units of those that may be named.
        wanted: the first shards of the units that the asking host gets now.
    """
    able = [one for one in candidates if one.host in shards]

    def rank(one: Candidate) -> tuple[int, int]:
        return -sum(first in shards[one.host] for first in wanted), -one.bits

    named: dict[tuple[str, int], Peer] = {}  # two devices of one PC are one peer
    for one in sorted(able, key=rank):
        named.setdefault((one.peer.address, one.peer.port), one.peer)
    return list(named.values())[: LIMITS.peers]
