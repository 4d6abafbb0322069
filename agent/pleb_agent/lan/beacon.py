"""Beacons over UDP multicast: sending ours, hearing those of others."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GROUP", "BeaconSocket"]

GROUP: Final = ("239.255.75.32", 7533)
"""An address that no router passes on (RFC 2365: administratively scoped)."""
_LOG: Final = logging.getLogger("pleb.agent")


class BeaconSocket(asyncio.DatagramProtocol):
    """The socket. `heard` is called with each packet and the address that it came from."""

    def __init__(self, heard: Callable[[bytes, str], None]) -> None:
        self._heard = heard
        self._transport: asyncio.DatagramTransport | None = None

    async def open(self) -> None:
        """Listen to the group.

        Raises:
            OSError: this PC has no network, or does not let us.
        """
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, sock=_group_socket())

    def close(self) -> None:
        """Stop listening."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def send(self, packet: bytes) -> None:
        """Send a packet to the group; without a network nothing happens."""
        if self._transport is not None:
            self._transport.sendto(packet, GROUP)

    @override
    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    @override
    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._heard(data, str(addr[0]))

    @override
    def error_received(self, exc: Exception) -> None:
        _LOG.debug("beacon", extra={"problem": str(exc)})


def _group_socket() -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    try:
        # Several agents of one PC hear the group.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "SO_REUSEPORT"):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        found.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        found.bind(("", GROUP[1]))
        member = struct.pack("4s4s", socket.inet_aton(GROUP[0]), socket.inet_aton("0.0.0.0"))  # noqa: S104 - any interface
        found.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        found.setblocking(False)
    except OSError:
        found.close()
        raise
    return found
