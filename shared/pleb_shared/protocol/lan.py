"""What agents of one local network say to one another (docs/protocol.md 13). Pure.

The coordinator gives every host of a project that is in good standing the same key, a new one each
day. Whoever knows it is a member: beacons and requests carry an HMAC by it. It opens nothing but
blobs, which are checked by whoever gets them, so a member that lies is only of no use.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pleb_shared.protocol.ids import Digest
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Count, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "BEACON_BYTES",
    "BLOCK_PARTS",
    "Beacon",
    "Coming",
    "HaveReply",
    "HaveRequest",
    "LanKey",
    "SignedHeaders",
    "bitmap",
    "from_bitmap",
    "lan_key",
    "lan_period",
    "owner",
    "read_beacon",
    "request_mac",
    "write_beacon",
]

_PERIOD_SECONDS: Final = 24 * 3600
_MAGIC: Final = b"PLEB\x01"
_HEADER: Final = struct.Struct(">5sB8sHQB")
_MAC_BYTES: Final = 16
_MOST_MACS: Final = 32
BEACON_BYTES: Final = _HEADER.size + _MOST_MACS * _MAC_BYTES
"""No beacon is longer."""
BLOCK_PARTS: Final = 4
"""Parts of a blob that one host gets for all, side by side."""


class LanKey(Struct, frozen=True):
    """The key of a project's members on a local network, for a day."""

    key: Digest
    """32 bytes in hexadecimal."""
    period: Count


def lan_period(now: float) -> int:
    """Return the number of the day."""
    return int(now // _PERIOD_SECONDS)


def lan_key(secret: bytes, project: str, period: int, number: int = 0) -> LanKey:
    """Return the key of a project's members; `secret` is the coordinator's own.

    `number`: of a private project's newest key, with which this one is replaced, too.
    """
    text = f"pleb lan key\n{project}\n{period}\n{number}".encode()
    return LanKey(key=hmac.digest(secret, text, "sha256").hex(), period=period)


# -- beacons -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Beacon:
    """Says to the local network where a host's blobs can be had.

    `peer`: 8 random bytes of the process. `asks`: others are to say at once where they are.
    """

    peer: bytes
    port: int
    time: int
    asks: bool = False


def write_beacon(beacon: Beacon, keys: Iterable[bytes]) -> bytes:
    """Return the packet, with a MAC for each of the projects' keys: no name of one is in it."""
    shown = list(keys)[:_MOST_MACS]
    header = _HEADER.pack(
        _MAGIC, int(beacon.asks), beacon.peer, beacon.port, beacon.time, len(shown)
    )
    return header + b"".join(_beacon_mac(key, header) for key in shown)


def read_beacon(packet: bytes, keys: Iterable[bytes], now: float) -> tuple[Beacon, list[bytes]]:
    """Return a beacon and those of our keys that its sender has; none: it is no neighbour.

    Raises:
        ValueError: it is no beacon, or an old one.
    """
    if not _HEADER.size <= len(packet) <= BEACON_BYTES:
        raise ValueError("not a beacon's length")
    header, rest = packet[: _HEADER.size], packet[_HEADER.size :]
    magic, asks, peer, port, time, count = _HEADER.unpack(header)
    if magic != _MAGIC or len(rest) != count * _MAC_BYTES or not port:
        raise ValueError("not a beacon")
    if abs(time - now) > LIMITS.clock_tolerance_seconds:
        raise ValueError("an old beacon")
    macs = {rest[at : at + _MAC_BYTES] for at in range(0, len(rest), _MAC_BYTES)}
    common = [key for key in keys if _beacon_mac(key, header) in macs]
    return Beacon(peer, port, time, bool(asks)), common


def _beacon_mac(key: bytes, header: bytes) -> bytes:
    return hmac.digest(key, b"pleb lan beacon\n" + header, "sha256")[:_MAC_BYTES]


# -- requests ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SignedHeaders:
    """What a request's MAC covers beside its line and body: who asks whom, and when."""

    server: str
    """The peer that is asked, as it announced itself, in hexadecimal: of no use to another."""
    peer: str
    port: int
    time: int


def request_mac(
    key: bytes, headers: SignedHeaders, method: str, path: str, byte_range: str, body: bytes
) -> str:
    """Return the MAC of a request in hexadecimal."""
    lines = (
        "pleb lan request",
        headers.server,
        headers.peer,
        headers.port,
        headers.time,
        method,
        path,
        byte_range,
        hashlib.sha256(body).hexdigest(),
    )
    return hmac.digest(key, "\n".join(map(str, lines)).encode(), "sha256").hex()


Bitmap = Annotated[str, msgspec.Meta(max_length=2 * LIMITS.leaves_bytes // 32 // 8)]


class HaveRequest(Struct, frozen=True):
    """Asks which of these blobs a peer has; whoever asks wants them, and will have them soon."""

    digests: Annotated[list[Digest], msgspec.Meta(max_length=LIMITS.lan_blobs)]
    seen: Count | None = None
    """How many parts of them the peer had at the last answer; it waits a moment for more. None: it
    answers at once."""


class Coming(Struct, frozen=True):
    """A blob that a peer is fetching.

    `parts` are the bits of those that it has, `now` of those that it is getting from elsewhere.
    """

    digest: Digest
    parts: Bitmap
    now: Bitmap = "0"


class HaveReply(Struct, frozen=True):
    """What the peer has of them."""

    whole: Annotated[list[Digest], msgspec.Meta(max_length=LIMITS.lan_blobs)] = []
    coming: Annotated[list[Coming], msgspec.Meta(max_length=LIMITS.lan_blobs)] = []


def bitmap(numbers: Iterable[int]) -> str:
    """Return the bits of these numbers, in hexadecimal: bit n of the whole number is n's."""
    bits = 0
    for number in numbers:
        bits |= 1 << number
    return f"{bits:x}"


def from_bitmap(text: str, count: int) -> set[int]:
    """Return the numbers below `count` whose bits are set. Raises `ValueError`."""
    bits = int(text or "0", 16)
    return {number for number in range(count) if bits >> number & 1}


def owner(peers: Sequence[bytes], digest: str, part: int) -> bytes:
    """Return which of the peers that want a blob gets a part for all (rendezvous hashing).

    Hosts that know different peers may disagree; who waits for another always waits for one of a
    higher hash, so they never wait in a circle.
    """
    block = f"{digest}/{part // BLOCK_PARTS}".encode()
    return max(peers, key=lambda peer: hashlib.sha256(peer + block).digest())
