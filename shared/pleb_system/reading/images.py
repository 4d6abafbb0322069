"""Images as arrays. Files may be broken or claim too much: memory stays bounded."""

from __future__ import annotations

import io
import struct
import warnings
from typing import TYPE_CHECKING, Final

import numpy as np

from pleb_shared.errors import InputError
from pleb_system.reading.extras import need

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from pleb_system.reading.source import Rows

__all__ = ["IMAGE_ENDINGS", "read_images"]

IMAGE_ENDINGS: Final = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"),
)
_FORMATS: Final = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
_PIXELS: Final = 50_000_000
"""150 MB when decoded. A file of a few bytes can claim any number."""


def read_images(
    name: str, sources: Sequence[tuple[bytes | Path, str]], size: int, channels: int
) -> Rows:
    """Return images uint8 [n, channels, height, width]; each source has its place.

    `size`: height and width to which they are cropped and resized; 0: they are as they are.

    Raises:
        InputError: a file is no image, too large, or of another size than those before it.
    """
    arrays = [_image(source, place, size, channels) for source, place in sources]
    if len({array.shape for array in arrays}) > 1:
        odd = next(n for n, array in enumerate(arrays) if array.shape != arrays[0].shape)
        (_, height, width), (_, other_height, other_width) = arrays[0].shape, arrays[odd].shape
        raise InputError(
            f"{sources[odd][1]} has {other_width} x {other_height} pixels, an image before it "
            f"{width} x {height}: give the size that all shall have as image_size = ... in "
            "[data]."
        )
    return {name: np.stack(arrays)}


def _image(source: bytes | Path, place: str, size: int, channels: int) -> NDArray[np.uint8]:
    image_module = need("PIL.Image", "pillow", "Images")
    fit = need("PIL.ImageOps", "pillow", "Images").fit
    try:
        with warnings.catch_warnings():
            # Our own ceiling is below the size of which it warns.
            warnings.simplefilter("ignore", image_module.DecompressionBombWarning)
            opened = io.BytesIO(source) if isinstance(source, bytes) else source
            with image_module.open(opened, formats=_FORMATS) as image:
                width, height = image.size
                if width * height > _PIXELS:
                    raise InputError(
                        f"{place} has {width} x {height} pixels; at most {_PIXELS} are read: "
                        "make it smaller or leave it out."
                    )
                plain = image.convert("RGB" if channels == 3 else "L")
        if size:
            plain = fit(plain, (size, size), image_module.Resampling.BICUBIC)
        array = np.asarray(plain, np.uint8)
    except (
        *(OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, MemoryError),
        *(OverflowError, TypeError, image_module.DecompressionBombError),
    ) as error:
        if isinstance(error, FileNotFoundError):
            raise InputError(f"{place} does not exist.") from error
        raise InputError(f"{place} cannot be read as an image: {error}.") from error
    return np.ascontiguousarray(np.atleast_3d(array).transpose(2, 0, 1))
