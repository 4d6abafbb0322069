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
from typing import TYPE_CHECKING, Final

from pleb_shared.errors import EncodingError, RefusalCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["pack", "unpack_parts"]

_WINDOW_BITS: Final = 15
_MEMORY_LEVEL: Final = 9
"""Statistics are gathered over as many bytes as zlib can hold."""
_PACKED_BYTES: Final = 64 * 1024
_UNPACKED_BYTES: Final = 1024 * 1024
"""What is unpacked at once, of what is given at once: it bounds the memory, whatever comes."""


def pack(data: bytes) -> bytes:
    """Return a zlib stream of `data`, of at most `protocol.codec.packed_most(len(data))` bytes."""
    packer = zlib.compressobj(
        1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, strategy=zlib.Z_HUFFMAN_ONLY
    )
    return packer.compress(data) + packer.flush()


def unpack_parts(parts: Iterable[bytes | memoryview], size: int) -> Iterator[bytes]:
    """Yield the `size` bytes that a zlib stream holds, which comes in parts.

    At most one byte more than that is ever unpacked, and a mebibyte at once. What is yielded counts
    only if the iterator ends.

    Raises:
        EncodingError: `malformed`: it is no zlib stream, lacks its end, goes on beyond `size`
            bytes, or something follows it; `wrong_size`: it is whole, but holds fewer bytes.
    """
    unpacker = zlib.decompressobj(_WINDOW_BITS)
    left = size + 1
    for piece in (piece for part in parts for piece in _pieces(part)):
        rest: bytes | memoryview = piece
        more = True
        while more:
            most = min(left, _UNPACKED_BYTES)
            try:
                found = unpacker.decompress(rest, most)
            except zlib.error as error:
                message = f"The packed bytes are no zlib stream ({error})."
                raise EncodingError(RefusalCode.MALFORMED, message) from error
            left -= len(found)
            if not left:
                message = f"More than the {size} bytes of this model's delta are packed."
                raise EncodingError(RefusalCode.MALFORMED, message)
            if unpacker.unused_data:
                message = "More bytes follow the packed delta."
                raise EncodingError(RefusalCode.MALFORMED, message)
            if found:
                yield found
            rest = unpacker.unconsumed_tail
            # all of the input may be taken before all is given out that it holds
            more = bool(rest) or len(found) == most
    if not unpacker.eof:
        message = "The packed bytes are a zlib stream without its end."
        raise EncodingError(RefusalCode.MALFORMED, message)
    if left > 1:
        message = f"Only {size + 1 - left} bytes are packed; this model's delta has {size}."
        raise EncodingError(RefusalCode.WRONG_SIZE, message)


def _pieces(part: bytes | memoryview) -> Iterator[memoryview]:
    view = memoryview(part)
    return (view[at : at + _PACKED_BYTES] for at in range(0, len(view), _PACKED_BYTES))
