"""Names of stored blobs with the roots over their parts, and the leaves that hosts check with."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Final

from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.parts import (
    blob_of,
    leaf_of,
    part_count,
    part_place,
    root_of,
)
from pleb_shared.protocol.unit import Blob

if TYPE_CHECKING:
    from pleb_coordinator.blobs.store import Blobs

__all__ = ["LeafCache", "leaves_in", "name_of", "stored"]

_KEPT_BYTES: Final = 32 * 2**20
"""Leaves of a terabyte of blobs."""


def stored(blobs: Blobs, data: bytes) -> Blob:
    """Store these bytes and return their name."""
    blobs.put(data)
    return blob_of(data)


def leaves_in(blobs: Blobs, digest: str) -> list[bytes]:
    """Return the leaves of a stored blob, which is read part by part.

    Raises:
        Refusal: `unknown_blob`.
    """
    size = blobs.size(digest)
    places = (part_place(size, number) for number in range(part_count(size)))
    return [leaf_of(blobs.read(digest, start, end)) for start, end in places]


def name_of(blobs: Blobs, digest: str) -> Blob:
    """Return the name of a stored blob. Raises `Refusal` unknown_blob."""
    size = blobs.size(digest)
    large = size > LIMITS.blob_part_bytes
    root = root_of(leaves_in(blobs, digest)) if large else None
    return Blob(digest=digest, size=size, root=root)


class LeafCache:
    """The leaves of blobs that were asked for lately, so that a blob is not read for each host."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._reading = Lock()
        """One blob is read at a time: who asks for many must not keep the disk from the others."""

    def get(self, digest: str) -> bytes:
        """Return the leaves of a blob, one after the other. Raises `Refusal` unknown_blob."""
        with self._reading:
            found = self._kept.pop(digest, None)
            if found is None:
                found = b"".join(leaves_in(self._blobs, digest))
                self._bytes += len(found)
            self._kept[digest] = found
            while self._bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._bytes -= len(self._kept.popitem(last=False)[1])
            return found
