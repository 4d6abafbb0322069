"""Reading our own PNG files: 8 bit RGBA, not interlaced.

Source: W3C Portable Network Graphics (PNG) Specification, sections 5, 9 and 11.2.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

from pleb_agent.tray.errors import PngError

__all__ = ["Image", "read_png"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_RGBA_8_BIT: Final = (8, 6, 0, 0, 0)
_PIXEL: Final = 4


class Image(NamedTuple):
    """`rgba`: height x width x 4 bytes."""

    width: int
    height: int
    rgba: bytes

    def argb(self) -> bytes:
        """Return the pixels as A, R, G, B."""
        found = bytearray(len(self.rgba))
        found[0::4] = self.rgba[3::4]
        for channel in range(3):
            found[channel + 1 :: 4] = self.rgba[channel::4]
        return bytes(found)


def read_png(data: bytes) -> Image:
    """Return the image.

    Raises:
        PngError: it is none, or of another kind than 8 bit RGBA without interlacing.
    """
    try:
        chunks = _chunks(data)
        width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
        if tuple(kind) != _RGBA_8_BIT:
            raise PngError("An icon is not an 8 bit RGBA image; install the agent again.")
        rows = zlib.decompress(chunks[b"IDAT"])
        return Image(width, height, _unfiltered(rows, width * _PIXEL, height))
    except (KeyError, IndexError, struct.error, zlib.error) as error:
        raise PngError("An icon's file is damaged; install the agent again.") from error


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks' contents by type; those of one type are joined."""
    if not data.startswith(_SIGNATURE):
        raise PngError("An icon is no PNG file; install the agent again.")
    found: dict[bytes, bytes] = {}
    at = len(_SIGNATURE)
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found[kind] = found.get(kind, b"") + data[at + 8 : at + 8 + length]
        at += length + 12
    return found


def _unfiltered(rows: bytes, stride: int, height: int) -> bytes:
    """Undo the filter of each row (section 9.2)."""
    above, found = bytearray(stride), bytearray()
    for start in range(0, height * (stride + 1), stride + 1):
        row = bytearray(rows[start + 1 : start + 1 + stride])
        kind = rows[start]
        for at in range(stride) if kind else ():
            left = row[at - _PIXEL] if at >= _PIXEL else 0
            corner = above[at - _PIXEL] if at >= _PIXEL else 0
            row[at] = (row[at] + _predicted(kind, left, above[at], corner)) & 0xFF
        found += row
        above = row
    return bytes(found)


def _predicted(kind: int, left: int, above: int, corner: int) -> int:
    match kind:
        case 1:
            return left
        case 2:
            return above
        case 3:
            return (left + above) // 2
        case 4:
            return _paeth(left, above, corner)
        case _:
            raise PngError("An icon's file is damaged; install the agent again.")


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda value: abs(guess - value))
