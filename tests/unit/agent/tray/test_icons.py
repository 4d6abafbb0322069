"""The icons: every one is there, is read rightly, and differs from the others by its shape."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from pleb_agent.tray.errors import PngError
from pleb_agent.tray.icons import FOLDER, Shade, icon_of, png_path
from pleb_agent.tray.look import State
from pleb_agent.tray.png import Image, read_png

SIZES = (16, 22, 24, 32, 48)


def read(state: State, shade: Shade, size: int) -> Image:
    return read_png(Path(png_path(icon_of(state, shade).name, size)).read_bytes())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shade", Shade)
@pytest.mark.parametrize("state", State)
def test_our_reader_sees_what_pillow_sees(state: State, shade: Shade, size: int) -> None:
    image = read(state, shade, size)
    with Pillow.open(png_path(icon_of(state, shade).name, size)) as file:
        assert (image.width, image.height) == file.size == (size, size)
        assert image.rgba == file.convert("RGBA").tobytes()


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(State, 2)))
def test_states_differ_by_shape(one: State, other: State) -> None:
    """A quarter of all pixels that one of the two covers are not covered by the other."""
    shapes = [
        np.frombuffer(read(state, Shade.DARK, 22).rgba, np.uint8)[3::4] > 127
        for state in (one, other)
    ]
    differ, either = shapes[0] ^ shapes[1], shapes[0] | shapes[1]
    assert differ.sum() > 0.25 * either.sum()


@pytest.mark.parametrize("background", [0, 255])
@pytest.mark.parametrize("state", State)
def test_the_icon_in_colour_is_seen_on_black_and_on_white(state: State, background: int) -> None:
    """Contrast of graphics is at least 3:1 (WCAG 2.2, 1.4.11)."""
    pixels = np.frombuffer(read(state, Shade.UNKNOWN, 48).rgba, np.uint8).reshape(-1, 4)
    colour = pixels[pixels[:, 3] == 255][0, :3]
    lights = sorted([luminance(colour), luminance(np.full(3, background))])
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 3


def luminance(colour: np.ndarray) -> float:
    """Return the relative luminance (WCAG 2.2)."""
    share = colour / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("shade", Shade)
@pytest.mark.parametrize("state", State)
def test_there_is_a_vector_file_and_a_symbolic_one(state: State, shade: Shade) -> None:
    theme = Path(FOLDER) / "hicolor"
    assert (theme / f"scalable/status/{icon_of(state, shade).name}.svg").is_file()
    assert (theme / f"symbolic/status/pleb-agent-{state}-symbolic.svg").is_file()


def png(width: int, height: int, rows: bytes, kind: bytes = b"\x08\x06\x00\x00\x00") -> bytes:
    """Return a PNG of filtered rows; the checksums are not looked at."""
    parts = [(b"IHDR", struct.pack(">II", width, height) + kind), (b"IDAT", zlib.compress(rows))]
    chunks = b"".join(struct.pack(">I", len(d)) + name + d + b"CRCC" for name, d in parts)
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("filter_kind", range(5))
def test_every_filter(filter_kind: int) -> None:
    """Section 9.2: each filter, undone, against Pillow on a picture that has many values."""
    values = np.random.default_rng(filter_kind).integers(0, 256, (4, 5 * 4), dtype=np.uint8)
    rows = b"".join(bytes([filter_kind]) + row.tobytes() for row in values)
    data = png(5, 4, rows)
    found = read_png(data).rgba

    with Pillow.open(io.BytesIO(with_checksums(data))) as file:
        assert found == file.tobytes()


def with_checksums(data: bytes) -> bytes:
    found, at = data[:8], 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        found += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += length + 12
    return found + struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        png(1, 1, bytes(5), kind=b"\x08\x02\x00\x00\x00"),
        png(1, 1, b"\x09" + bytes(4)),
        png(4, 4, b"\x01" + bytes(3)),
        png(1, 1, bytes(5))[:-9],
    ],
)
def test_a_damaged_file_is_told(data: bytes) -> None:
    with pytest.raises(PngError):
        read_png(data)


def test_argb_is_rgba_turned() -> None:
    assert Image(2, 1, bytes([1, 2, 3, 4, 5, 6, 7, 8])).argb() == bytes([4, 1, 2, 3, 8, 5, 6, 7])
