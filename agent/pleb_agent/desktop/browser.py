"""Opening a page in the user's browser, in a process that does not depend on ours."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from pleb_shared.errors import PlebError
from pleb_system.processes import start_detached

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NoBrowserError", "open_page"]


class NoBrowserError(PlebError):
    """Nothing on this machine opens pages."""


def open_page(url: str) -> None:
    """Open `url`.

    Raises:
        NoBrowserError: nothing can; the message has the address.
    """
    if sys.platform == "win32":
        os.startfile(url)  # noqa: S606 - the address is our own
        return
    if sys.platform.startswith("linux") and not _has_screen(os.environ):
        raise NoBrowserError(
            "There is no desktop here to show the page on. Open it in a browser, from another PC "
            f"through an SSH tunnel to this port: {url}"
        )
    name = "open" if sys.platform == "darwin" else "xdg-open"
    opener = shutil.which(name)
    if opener is None:
        raise NoBrowserError(f"No program here opens pages ({name} is missing): open {url}")
    start_detached([opener, url])


def _has_screen(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
