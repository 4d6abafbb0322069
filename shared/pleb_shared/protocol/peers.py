"""Hosts that pass on blobs beyond their local networks, if their users want that (protocol.md 16).

The coordinator tells such hosts of each other. They know one another as members by the key that
those of a local network have (`protocol.lan`), and what they say to each other is the same.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Annotated, Final

import msgspec

from pleb_shared.protocol.unit import Struct

__all__ = ["LEAST_PORT", "Address", "Peer", "Sharing", "public_address"]

LEAST_PORT: Final = 1024
"""Below are the well-known services of others, which nobody is to be sent to."""
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
"""All that IPv6 hosts have on the internet; elsewhere are maps of other address spaces."""
_LONGEST_ADDRESS: Final = 45

Address = IPv4Address | IPv6Address
PeerName = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}\Z")]
"""8 random bytes of a running agent, in hexadecimal."""
Port = Annotated[int, msgspec.Meta(ge=LEAST_PORT, le=65535)]


class Sharing(Struct, frozen=True):
    """A host shares with others on the internet.

    It says no address: that its request came from one is what the coordinator goes by.
    """

    peer: PeerName
    port: Port | None = None
    """Where it answers; None: it only takes."""


class Peer(Struct, frozen=True):
    """Another host that shares, and probably answers."""

    peer: PeerName
    address: Annotated[str, msgspec.Meta(max_length=_LONGEST_ADDRESS)]
    port: Port


def public_address(text: str) -> Address | None:
    """Return an address as the internet has it; None: it is no address, or not of one PC there.

    IPv4 that is written as IPv6 is IPv4. Private, local, shared (RFC 6598) and reserved addresses
    are none, so that nobody is sent to something of a network of their own; nor are those that
    stand for IPv4 addresses (6to4, Teredo, NAT64), behind which could be such a one.
    """
    if len(text) > _LONGEST_ADDRESS:
        return None
    try:
        found: Address = ip_address(text)
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found.scope_id or found not in _GLOBAL_UNICAST or _stands_for_ipv4(found):
            return None
    is_public = found.is_global and not found.is_multicast and not found.is_reserved
    return found if is_public else None


def _stands_for_ipv4(address: IPv6Address) -> bool:
    return address.sixtofour is not None or address.teredo is not None
