"""Who is independent of whom: accounts, teams and networks as voices.

Two hosts of one account, of one team, or seen in one network within the last weeks may be one
person's, so they count as one voice. It follows through others: if A and B share an account, and
B and C a network, the three are one voice. A network is

- a public one: /24 of IPv4, /48 of IPv6 (what a provider gives to one site);
- all addresses of carrier-grade NAT (RFC 6598) together, all private ones together, all loopback
  ones together, and all that are no address: none of these identifies anybody, and a person can
  have as many of them as they like, so each kind is one voice;
- one of the operator's own (`networks.own`), such as a campus: it says nothing about who
  somebody is, so PCs in it are told apart by account and team alone.

A host's last few networks count, so that the IPv4 and the IPv6 of one PC are one voice, and a
laptop does not become somebody else in a café.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from pleb_coordinator.core.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "NETWORKS_KEPT",
    "NETWORKS_SECONDS",
    "Network",
    "Party",
    "holders",
    "identifies",
    "identifies_site",
    "independent",
    "is_renamed",
    "network_of",
    "voices",
]

NETWORKS_KEPT: Final = 4
"""How many of a host's networks are remembered: home and office, IPv4 and IPv6."""
NETWORKS_SECONDS: Final = 30 * 24 * 3600.0
"""For how long a network that a host was seen in counts."""

_OWN: Final = "own:"
_UNKNOWN: Final = "unknown"
_LONGEST_ADDRESS: Final = 64
_CARRIER: Final = IPv4Network("100.64.0.0/10")
"""Shared address space of carrier-grade NAT (RFC 6598)."""

Network = IPv4Network | IPv6Network
"""A network as its operator configures it."""


class Party(Record, frozen=True):
    """A host as far as it matters for whose voice it is."""

    host: int
    account: str
    team: str = ""
    """The household or lab that it belongs to; empty: none."""
    networks: frozenset[str] = frozenset()
    """The names (`network_of`) of networks that it was seen in lately."""


def identifies_site(network: str) -> bool:
    """Whether the name is that of one public site, rather than of a kind of addresses."""
    return "/" in network and identifies(network)


def holders(account: str, network: str) -> list[str]:
    """Return whose shares of a round a host's units count for: its account's, and its network's."""
    return [account, *filter(identifies, [network])]


def independent(first: Party, second: Party) -> bool:
    """Whether two hosts may confirm each other: nothing suggests that one person runs both."""
    return _marks(first).isdisjoint(_marks(second))


def voices(parties: Sequence[Party]) -> int:
    """Return how many independent voices a group has: its components under "not independent"."""
    parents: dict[str, str] = {}  # a forest: the marks of one voice are a tree, its root included

    def root_of(mark: str) -> str:
        while (parent := parents.setdefault(mark, mark)) != mark:
            mark = parent
        return mark

    for party in parties:
        first, *others = _marks(party)
        root = root_of(first)
        for other in others:
            parents[root_of(other)] = root
    return sum(mark == parent for mark, parent in parents.items())


def identifies(network: str) -> bool:
    """Whether hosts that share the network of that name are one voice."""
    return network != "" and not network.startswith(_OWN)


def network_of(address: str, own: Sequence[Network] = ()) -> str:
    """Return the name of the network of an address.

    Args:
        address: as the connection has it; a string that is no address is "unknown".
        own: the operator's own networks; the first that contains the address names it.
    """
    # What a proxy's header says may be long and always new: such a text is not remembered.
    return _network(address, tuple(own)) if len(address) <= _LONGEST_ADDRESS else _UNKNOWN


@lru_cache(maxsize=4096)
def _network(address: str, own: tuple[Network, ...]) -> str:
    try:
        parsed: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return _UNKNOWN
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if (found := next((network for network in own if parsed in network), None)) is not None:
        return f"{_OWN}{found}"
    if parsed.is_loopback:
        return "loopback"
    if parsed in _CARRIER:
        return "carrier"
    if not parsed.is_global:
        return "private"
    length = 24 if isinstance(parsed, IPv4Address) else 48
    return str(ip_network((parsed, length), strict=False))


def is_renamed(network: str, own: Sequence[Network]) -> bool:
    """Whether hosts that were seen in a network of that name may be in another one by now.

    So it is when `own` has changed; it is asked at the start, since the configuration is read then.
    """
    if network.startswith(_OWN):
        return network.removeprefix(_OWN) not in map(str, own)
    if "/" not in network:
        return any(not found.is_global for found in own)
    public = ip_network(network)
    return any(found.version == public.version and found.overlaps(public) for found in own)


def _marks(party: Party) -> set[str]:
    """Return what other hosts of the same voice have in common with the host."""
    marks = {f"network {name}" for name in party.networks if identifies(name)}
    marks.add(f"account {party.account}")
    if party.team:
        marks.add(f"team {party.team}")
    return marks
