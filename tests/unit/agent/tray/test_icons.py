"""The icons: every one is there, in every form, and differs from the others by its shape."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pleb_agent.tray.icons import FOLDER, Shade, icon_of, png_path
from pleb_agent.tray.look import State

SIZES = (16, 22, 24, 32, 48)


def rgba(state: State, shade: Shade, size: int) -> np.ndarray:
    """Return the pixels of an icon's file, [size * size, 4]."""
    with Image.open(png_path(icon_of(state, shade).name, size)) as file:
        assert file.size == (size, size)
        return np.frombuffer(file.convert("RGBA").tobytes(), np.uint8).reshape(-1, 4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shade", Shade)
@pytest.mark.parametrize("state", State)
def test_every_size_is_there(state: State, shade: Shade, size: int) -> None:
    assert rgba(state, shade, size).any()


@pytest.mark.parametrize("shade", Shade)
@pytest.mark.parametrize("state", State)
def test_the_pixels_for_the_bus_are_those_of_the_files(state: State, shade: Shade) -> None:
    for width, height, argb in icon_of(state, shade).pixmaps():
        assert width == height
        pixels = np.frombuffer(argb, np.uint8).reshape(-1, 4)
        assert (pixels[:, [1, 2, 3, 0]] == rgba(state, shade, width)).all()


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(State, 2)))
def test_states_differ_by_shape(one: State, other: State) -> None:
    """A quarter of all pixels that one of the two covers are not covered by the other."""
    shapes = [rgba(state, Shade.DARK, 22)[:, 3] > 127 for state in (one, other)]
    differ, either = shapes[0] ^ shapes[1], shapes[0] | shapes[1]
    assert differ.sum() > 0.25 * either.sum()


@pytest.mark.parametrize("background", [0, 255])
@pytest.mark.parametrize("state", State)
def test_the_icon_in_colour_is_seen_on_black_and_on_white(state: State, background: int) -> None:
    """Contrast of graphics is at least 3:1 (WCAG 2.2, 1.4.11)."""
    pixels = rgba(state, Shade.UNKNOWN, 48)
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
