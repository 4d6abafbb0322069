"""Which agents are near, as their beacons say. Pure: times are seconds of a monotonic clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["MOST_NEIGHBOURS", "Neighbour", "Neighbours", "beacon_interval"]

MOST_NEIGHBOURS: Final = 64
"""That are remembered; a classroom has a few dozen PCs, and more help nobody."""
_INTERVAL_SECONDS: Final = 60.0
_FORGET_AFTER: Final = 3.5
"""Intervals without a beacon."""
_BEACONS_PER_INTERVAL: Final = 32
"""That all agents of a network may send together, so that none is kept busy by reading them."""


@dataclass(frozen=True)
class Neighbour:
    """Another agent. `keys`: those of the projects that both are members of."""

    peer: bytes
    address: str
    port: int
    keys: tuple[bytes, ...]
    seen_at: float

    @property
    def url(self) -> str:
        """Where it answers."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"http://{host}:{self.port}"


def beacon_interval(neighbours: int) -> float:
    """Return the seconds from one beacon to the next: longer where many send them."""
    return _INTERVAL_SECONDS * max(1.0, neighbours / _BEACONS_PER_INTERVAL)


class Neighbours:
    """The table of neighbours; those that have not been heard for a while are forgotten."""

    def __init__(self) -> None:
        self._known: dict[bytes, Neighbour] = {}

    def heard(self, neighbour: Neighbour) -> bool:
        """Remember a neighbour; return whether it is a new one. One without keys is forgotten."""
        before = self._known.pop(neighbour.peer, None)
        if not neighbour.keys:
            return False
        if len(self._known) >= MOST_NEIGHBOURS:
            return False
        self._known[neighbour.peer] = neighbour
        return before is None

    def sharing(self, keys: Collection[bytes], now: float) -> list[Neighbour]:
        """Return the neighbours that have one of these keys."""
        oldest = now - _FORGET_AFTER * beacon_interval(len(self._known))
        self._known = {peer: one for peer, one in self._known.items() if one.seen_at >= oldest}
        return [one for one in self._known.values() if not set(keys).isdisjoint(one.keys)]

    def find(self, peer: bytes) -> Neighbour | None:
        """Return what is known of a neighbour."""
        return self._known.get(peer)

    def __len__(self) -> int:
        """Return how many are known."""
        return len(self._known)
