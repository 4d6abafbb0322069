"""Lossless packing of encoded deltas and differences for the way: a zlib stream (RFC 1950).

Codes are not alike in frequency: `int4` shrinks to about .79 of its bytes, `2bit` and `int8` to
.91 to .94. Sequences do not repeat, so Huffman codes alone (RFC 1951, section 3.2.7) save as much
as looking for repetitions does, in a sixth of the time.

What is hashed and compared is never the stream but what it holds: another version of zlib may write
another stream for the same bytes. A reader takes any stream, and no more bytes from it than it
knows there must be.
"""

from __future__ import annotations

import zlib
from typing import Final

from pleb_shared.errors import EncodingError, RefusalCode

__all__ = ["pack", "unpack"]

_WINDOW_BITS: Final = 15
_MEMORY_LEVEL: Final = 9
"""Statistics are gathered over as many bytes as zlib can hold."""


def pack(data: bytes) -> bytes:
    """Return a zlib stream of `data`, of at most `protocol.codec.packed_most(len(data))` bytes."""
    packer = zlib.compressobj(
        1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, strategy=zlib.Z_HUFFMAN_ONLY
    )
    return packer.compress(data) + packer.flush()


def unpack(data: bytes | memoryview, size: int) -> bytes:
    """Return the `size` bytes that the zlib stream `data` holds.

    At most one byte more than that is ever unpacked.

    Raises:
        EncodingError: `malformed`: it is no zlib stream, lacks its end, goes on beyond `size`
            bytes, or something follows it; `wrong_size`: it is whole, but holds fewer bytes.
    """
    unpacker = zlib.decompressobj(_WINDOW_BITS)
    try:
        found = unpacker.decompress(data, size + 1)
    except zlib.error as error:
        message = f"The packed bytes are no zlib stream ({error})."
        raise EncodingError(RefusalCode.MALFORMED, message) from error
    if len(found) > size:
        message = f"More than the {size} bytes of this model's delta are packed."
        raise EncodingError(RefusalCode.MALFORMED, message)
    if not unpacker.eof:
        message = "The packed bytes are a zlib stream without its end."
        raise EncodingError(RefusalCode.MALFORMED, message)
    if unpacker.unused_data:
        message = f"{len(unpacker.unused_data)} bytes follow the packed delta."
        raise EncodingError(RefusalCode.MALFORMED, message)
    if len(found) != size:
        message = f"Only {len(found)} bytes are packed; this model's delta has {size}."
        raise EncodingError(RefusalCode.WRONG_SIZE, message)
    return found
