"""The parts of a blob: a Merkle tree, so that each part can be checked before the whole is there.

A blob of more than `LIMITS.blob_part_bytes` has parts of so many bytes; the last one may be
shorter. The tree is that of RFC 9162, 2.1.1, over them: a leaf is SHA-256(0x00 || part), a node
SHA-256(0x01 || left || right), so that neither can pass for the other. Whoever signs a blob's
digest signs the tree's root beside it; its leaves then come from anywhere.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import Refusal, RefusalCode
from pleb_shared.protocol.ids import digest_of
from pleb_shared.protocol.limits import LIMITS
from pleb_shared.protocol.unit import Blob

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "LEAF_BYTES",
    "blob_of",
    "leaf_of",
    "leaves_of",
    "part_count",
    "part_place",
    "read_leaves",
    "root_of",
]

LEAF_BYTES: Final = 32
_PART_BYTES: Final = LIMITS.blob_part_bytes


def part_count(size: int) -> int:
    """Return how many parts a blob of `size` bytes has: at least one, which may be empty."""
    return max(1, -(-size // _PART_BYTES))


def part_place(size: int, number: int) -> tuple[int, int]:
    """Return where part `number` of a blob of `size` bytes begins and ends."""
    start = number * _PART_BYTES
    return start, min(size, start + _PART_BYTES)


def leaf_of(part: bytes | memoryview) -> bytes:
    """Return the hash of a part, 32 bytes."""
    leaf = hashlib.sha256(b"\x00")
    leaf.update(part)
    return leaf.digest()


def leaves_of(data: bytes | memoryview) -> list[bytes]:
    """Return the leaves of a blob that is in memory, in order."""
    view, size = memoryview(data), len(data)
    places = (part_place(size, number) for number in range(part_count(size)))
    return [leaf_of(view[start:end]) for start, end in places]


def root_of(leaves: Sequence[bytes]) -> str:
    """Return the root of the tree over `leaves`, of which there is at least one, in hexadecimal.

    A node without a neighbour moves up as it is. That is the tree of RFC 9162, whose left half is
    always the largest power of two.
    """
    level = list(leaves)
    while len(level) > 1:
        pairs = zip(level[0::2], level[1::2], strict=False)
        above = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs]
        level = above if len(level) % 2 == 0 else [*above, level[-1]]
    return level[0].hex()


def blob_of(data: bytes | memoryview) -> Blob:
    """Return the name of these bytes."""
    root = root_of(leaves_of(data)) if len(data) > _PART_BYTES else None
    return Blob(digest=digest_of(data), size=len(data), root=root)


def read_leaves(data: bytes, blob: Blob) -> list[bytes]:
    """Return the leaves of a blob from the bytes in which they travel, one after the other.

    Raises:
        Refusal: `wrong_digest`: they are not those of the signed root.
    """
    leaves = [data[at : at + LEAF_BYTES] for at in range(0, len(data), LEAF_BYTES)]
    fits = len(data) == LEAF_BYTES * part_count(blob.size)
    if not fits or root_of(leaves) != blob.root:
        message = f"The part hashes of blob {blob.digest[:12]} are not those of its signed root."
        raise Refusal(RefusalCode.WRONG_DIGEST, message)
    return leaves
