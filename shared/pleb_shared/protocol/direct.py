"""Results that hosts put into the coordinator's bucket themselves, in parts.

The metadata name the bucket's address, so the root key has signed where results may go; what a host
puts there is named by its upload's token and the part's place, so nobody else names it. All that
the coordinator adds is a query, by which the bucket takes exactly so many bytes under that name.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec

from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Count, Struct

__all__ = ["SEAL_BYTES", "DirectPart", "DirectParts", "part_place", "sealed_part", "upload_place"]

SEAL_BYTES: Final = 32
_PLACES: Final = 20
"""Digits of an offset, so that names sort as numbers."""


class DirectPart(Struct, frozen=True):
    """The next bytes of an upload, and by what the bucket takes them."""

    size: Annotated[int, msgspec.Meta(ge=1, le=LIMITS.upload_part_bytes)]
    """Of the result's bytes; the seal comes to them."""
    query: Annotated[
        str,
        msgspec.Meta(pattern=r"^[A-Za-z0-9%&=._~-]+\Z", max_length=LIMITS.direct_query_characters),
    ]


class DirectParts(Struct, frozen=True):
    """The unsigned response to `GET /uploads/TOKEN/parts`."""

    offset: Count
    """How many bytes are there; the first of `parts` begins here, each other one after another."""
    parts: Annotated[list[DirectPart], msgspec.Meta(max_length=LIMITS.direct_parts)]
    """None: all bytes are there, or they go to the coordinator."""


def upload_place(token: str) -> str:
    """Return where all parts of an upload are in a bucket."""
    return f"uploads/{digest_of(token.encode())}/"


def part_place(token: str, offset: int) -> str:
    """Return where the part that begins at `offset` is in a bucket."""
    return f"{upload_place(token)}{offset:0{_PLACES}}"


def sealed_part(data: bytes) -> bytes:
    """Return a part as it is in a bucket: followed by its SHA-256, which its name does not say."""
    return data + hashlib.sha256(data).digest()
