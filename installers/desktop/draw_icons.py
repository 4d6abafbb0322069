"""Draws every icon from one geometry: SVG, PNG, .ico and .icns.

Run by hand; what it writes is committed.

    python installers/desktop/draw_icons.py

The sign is a hexagon, one cell of a cluster, with three PCs in it. States differ by shape, so that
they can be told apart without colours: idle is an outline, training is filled, paused has two
bars, offline is a broken outline with a cross, a problem is a triangle. Shapes are polygons that
are added or cut out, so that every renderer (Qt knows no SVG masks) draws the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

ROOT: Final = Path(__file__).resolve().parents[2]
STATES: Final = ROOT / "agent/pleb_agent/tray/icons/hicolor"
PIXELS: Final = ROOT / "agent/pleb_agent/tray/icons/pixels"
APP: Final = ROOT / "installers/desktop/icons"
STATE_SIZES: Final = (16, 22, 24, 32, 48)
PIXEL_SIZES: Final = (22, 48)
"""What the tray sends over D-Bus (`pleb_agent.tray.icons`)."""
APP_SIZES: Final = (16, 22, 24, 32, 48, 64, 128, 256, 512)
ICO_SIZES: Final = (16, 24, 32, 48, 64, 128, 256)
ICNS_SIZES: Final = (16, 32, 64, 128, 256, 512)
OVERSAMPLING: Final = 8
GRID: Final = 24.0
CENTRE: Final = (12.0, 12.0)

Point = tuple[float, float]
Polygon = list[Point]


@dataclass(frozen=True)
class Shape:
    """A polygon on the grid of 24; `cut`: take it away from what is there."""

    points: Polygon
    cut: bool = False


# -- geometry ---------------------------------------------------------------------------


def rounded(corners: Polygon, radius: float) -> Polygon:
    """Return a polygon with round corners (quadratic curves, 8 points each)."""
    points: Polygon = []
    for index, corner in enumerate(corners):
        start = towards(corner, corners[index - 1], radius)
        end = towards(corner, corners[(index + 1) % len(corners)], radius)
        for step in range(9):
            t = step / 8
            weights = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
            trio = (start, corner, end)
            points.append(
                (
                    sum(w * p[0] for w, p in zip(weights, trio, strict=True)),
                    sum(w * p[1] for w, p in zip(weights, trio, strict=True)),
                )
            )
    return points


def towards(start: Point, end: Point, distance: float) -> Point:
    """Return the point so far from the start, at most half way to the end."""
    length = math.dist(start, end)
    share = min(distance / length, 0.5)
    return (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))


def hexagon(radius: float) -> Polygon:
    """Return the corners of a hexagon that stands on a corner."""
    angles = [math.radians(60 * k - 90) for k in range(6)]
    return [(CENTRE[0] + radius * math.cos(a), CENTRE[1] + radius * math.sin(a)) for a in angles]


def circle(x: float, y: float, radius: float) -> Polygon:
    """Return a circle of 32 corners."""
    angles = [2 * math.pi * k / 32 for k in range(32)]
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def bar(start: Point, end: Point, width: float) -> Polygon:
    """Return a straight bar with flat ends."""
    length = math.dist(start, end)
    across = (
        (end[1] - start[1]) / length * width / 2,
        -(end[0] - start[0]) / length * width / 2,
    )
    return [
        (start[0] + across[0], start[1] + across[1]),
        (end[0] + across[0], end[1] + across[1]),
        (end[0] - across[0], end[1] - across[1]),
        (start[0] - across[0], start[1] - across[1]),
    ]


def box(x: float, y: float, width: float, height: float, radius: float) -> Polygon:
    """Return a box with round corners."""
    corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
    return rounded(corners, radius)


# -- the signs --------------------------------------------------------------------------

OUTLINE: Final = [
    Shape(rounded(hexagon(11.2), 2.2)),
    Shape(rounded(hexagon(8.8), 1.6), cut=True),
]
BLOCK: Final = [Shape(rounded(hexagon(11.2), 2.2))]


def three_dots(radius: float, *, cut: bool = False) -> list[Shape]:
    """Return the three PCs, the first on top."""
    distance = 4.4
    angles = [math.radians(120 * k - 90) for k in range(3)]
    return [
        Shape(circle(12 + distance * math.cos(a), 12.3 + distance * math.sin(a), radius), cut=cut)
        for a in angles
    ]


def broken_outline(gap: float) -> list[Shape]:
    """Return the outline's six corners, with a gap in the middle of each side."""
    outer, inner = hexagon(11.2), hexagon(8.8)
    pieces = []
    for index in range(6):
        around = [corner_of(outer, index, gap, 2.2), corner_of(inner, index, gap, 1.6)[::-1]]
        pieces.append(Shape([*around[0], *around[1]]))
    return pieces


def corner_of(corners: Polygon, index: int, gap: float, radius: float) -> Polygon:
    """Return a round corner and the halves of its two sides up to the gap."""
    corner, before, after = corners[index], corners[index - 1], corners[(index + 1) % 6]
    reach = math.dist(corner, after) / 2 - gap / 2
    ends = towards(corner, before, reach), towards(corner, after, reach)
    curve = rounded([before, corner, after], radius)[9:18]
    return [ends[0], *curve, ends[1]]


def cross(reach: float, width: float) -> list[Shape]:
    """Return two crossed bars."""
    low, high = 12 - reach, 12 + reach
    return [
        Shape(bar((low, low), (high, high), width)),
        Shape(bar((low, high), (high, low), width)),
    ]


SIGNS: Final[dict[str, list[Shape]]] = {
    "idle": [*OUTLINE, *three_dots(1.8)],
    "training": [*BLOCK, *three_dots(2.35, cut=True)],
    "paused": [*OUTLINE, Shape(box(8, 7.6, 2.9, 8.8, 0.6)), Shape(box(13.1, 7.6, 2.9, 8.8, 0.6))],
    "offline": [*broken_outline(4.2), *cross(3.4, 2.3)],
    "problem": [
        Shape(rounded([(12, 0.2), (24.2, 22.8), (-0.2, 22.8)], 3.4)),
        Shape(box(10.6, 7.4, 2.8, 7.6, 1.0), cut=True),
        Shape(circle(12, 18.1, 1.75), cut=True),
    ],
}
COLOURS: Final = {
    "idle": "#6b8299",
    "training": "#129a6f",
    "paused": "#c97f10",
    "offline": "#85898f",
    "problem": "#d8433b",
}
"""Middle tones: at least 3:1 on white and on black (WCAG 2.2, 1.4.11)."""
ON_DARK: Final = "#f2f4f6"
ON_LIGHT: Final = "#2b3036"
SYMBOLIC: Final = "#2e3436"
"""What GTK recolours (Adwaita's foreground)."""
APP_COLOUR: Final = ("#17b385", "#0d6f86")
"""From top to bottom."""


# -- painting ---------------------------------------------------------------------------


def mask_of(shapes: list[Shape], size: int) -> Image.Image:
    """Return the coverage of the shapes, L, size x size."""
    large = size * OVERSAMPLING
    mask = Image.new("L", (large, large), 0)
    painter = ImageDraw.Draw(mask)
    for shape in shapes:
        points = [(x * large / GRID, y * large / GRID) for x, y in shape.points]
        painter.polygon(points, fill=0 if shape.cut else 255)
    return mask.resize((size, size), Image.Resampling.BOX)


def painted(shapes: list[Shape], colour: str, size: int) -> Image.Image:
    """Return the sign in one colour, RGBA."""
    image = Image.new("RGBA", (size, size), colour)
    image.putalpha(mask_of(shapes, size))
    return image


def argb_of(image: Image.Image) -> bytes:
    """Return an RGBA picture as ARGB32 in network byte order (StatusNotifierItem, IconPixmap)."""
    red, green, blue, alpha = image.split()
    return Image.merge("RGBA", (alpha, red, green, blue)).tobytes()


def path_data(shapes: list[Shape]) -> str:
    """Return the shapes as one SVG path. Wholes run one way, holes the other (`nonzero`)."""
    parts = []
    for shape in shapes:
        turning = shape.points if is_clockwise(shape.points) != shape.cut else shape.points[::-1]
        parts.append("M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in turning) + "Z")
    return "".join(parts)


def is_clockwise(points: Polygon) -> bool:
    """Whether the corners run clockwise, with y pointing down."""
    pairs = zip(points, points[1:] + points[:1], strict=True)
    return sum((b[0] - a[0]) * (b[1] + a[1]) for a, b in pairs) < 0


def svg_of(shapes: list[Shape], colour: str) -> str:
    """Return the sign in one colour as an SVG file's text."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">'
        f'<path fill="{colour}" d="{path_data(shapes)}"/></svg>\n'
    )


# -- the program's own icon -------------------------------------------------------------

TILE: Final = box(1, 1, 22, 22, 5.6)
APP_SIGN: Final = [
    Shape([(12 + (x - 12) * 0.68, 12 + (y - 12) * 0.68) for x, y in shape.points], cut=shape.cut)
    for shape in SIGNS["training"]
]


def app_icon(size: int) -> Image.Image:
    """Return the sign in white on a tile."""
    top, bottom = (tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in APP_COLOUR)
    tile = Image.new("RGBA", (1, size))
    for y in range(size):
        share = y / max(1, size - 1)
        colour = (round(a + share * (b - a)) for a, b in zip(top, bottom, strict=True))
        tile.putpixel((0, y), (*colour, 255))
    tile = tile.resize((size, size))
    tile.putalpha(mask_of([Shape(TILE)], size))
    sign = painted(APP_SIGN, "#ffffff", size)
    tile.alpha_composite(sign)
    return tile


def app_svg() -> str:
    """Return the program's icon as an SVG file's text."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24">'
        '<defs><linearGradient id="tile" x1="0" y1="0" x2="0" y2="1">'
        f'<stop offset="0" stop-color="{APP_COLOUR[0]}"/>'
        f'<stop offset="1" stop-color="{APP_COLOUR[1]}"/></linearGradient></defs>'
        f'<path fill="url(#tile)" d="{path_data([Shape(TILE)])}"/>'
        f'<path fill="#ffffff" d="{path_data(APP_SIGN)}"/></svg>\n'
    )


# -- writing ----------------------------------------------------------------------------


def write_text(path: Path, text: str) -> None:
    """Write a text file; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def write_png(path: Path, image: Image.Image) -> None:
    """Write a PNG file; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)


def write_states() -> None:
    """Write the icons of the states."""
    PIXELS.mkdir(parents=True, exist_ok=True)
    for state, shapes in SIGNS.items():
        colours = {"": COLOURS[state], "-on-dark": ON_DARK, "-on-light": ON_LIGHT}
        for variant, colour in colours.items():
            name = f"pleb-agent-{state}{variant}"
            write_text(STATES / f"scalable/status/{name}.svg", svg_of(shapes, colour))
            for size in STATE_SIZES:
                image = painted(shapes, colour, size)
                write_png(STATES / f"{size}x{size}/status/{name}.png", image)
                if size in PIXEL_SIZES:
                    (PIXELS / f"{name}-{size}.argb").write_bytes(argb_of(image))
        symbolic = STATES / f"symbolic/status/pleb-agent-{state}-symbolic.svg"
        write_text(symbolic, svg_of(shapes, SYMBOLIC))


def write_app() -> None:
    """Write the program's icons."""
    write_text(APP / "hicolor/scalable/apps/pleb-agent.svg", app_svg())
    for size in APP_SIZES:
        write_png(APP / f"hicolor/{size}x{size}/apps/pleb-agent.png", app_icon(size))
    largest = app_icon(1024)
    smaller = [app_icon(size) for size in ICO_SIZES]
    smaller[-1].save(
        APP / "pleb-agent.ico", sizes=[(s, s) for s in ICO_SIZES], append_images=smaller[:-1]
    )
    largest.save(APP / "pleb-agent.icns", append_images=[app_icon(s) for s in ICNS_SIZES])


if __name__ == "__main__":
    write_states()
    write_app()
