"""Which icon shows a state, and its pixels for hosts that do not read files.

`icons/hicolor` is laid out as an icon theme, so that a host which gets its path finds the right
size by name; `icons/pixels` has the same pictures as a bus carries them. The files are made by
`installers/desktop/draw_icons.py`.
"""

from __future__ import annotations

import os
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from pleb_agent.tray.look import State

__all__ = ["FOLDER", "Icon", "Shade", "icon_of", "png_path"]

FOLDER: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "icons")  # noqa: PTH100, PTH118, PTH120 - pathlib takes 1 MB
_PIXMAP_SIZES: Final = (22, 48)


class Shade(StrEnum):
    """What the panel behind the icon looks like."""

    DARK = "on-dark"
    LIGHT = "on-light"
    UNKNOWN = ""
    """The icon in colour can be seen on both."""


class Icon(NamedTuple):
    """An icon by its name in the theme."""

    name: str
    theme_path: str = FOLDER

    def pixmaps(self) -> list[tuple[int, int, bytes]]:
        """Return (width, height, ARGB32 in network byte order), the smallest first."""
        return _pixmaps(self.name)


def icon_of(state: State, shade: Shade) -> Icon:
    """Return the icon of a state on such a panel."""
    return Icon("-".join(part for part in ("pleb-agent", state.value, shade.value) if part))


@lru_cache(maxsize=1)
def _pixmaps(name: str) -> list[tuple[int, int, bytes]]:
    found = []
    for size in _PIXMAP_SIZES:
        path = os.path.join(FOLDER, "pixels", f"{name}-{size}.argb")  # noqa: PTH118 - pathlib takes 1 MB
        with open(path, "rb") as file:  # noqa: PTH123 - likewise
            found.append((size, size, file.read()))
    return found


def png_path(name: str, size: int) -> str:
    """Return the file of an icon; sizes are 16, 22, 24, 32 and 48 pixels."""
    return os.path.join(FOLDER, "hicolor", f"{size}x{size}", "status", f"{name}.png")  # noqa: PTH118 - pathlib takes 1 MB
