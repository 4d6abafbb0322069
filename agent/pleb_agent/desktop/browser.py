"""Opening a page in the user's browser, in a process that does not depend on ours."""

from __future__ import annotations

import os
import shutil
import sys

from pleb_shared.errors import PlebError
from pleb_system.processes import start_detached

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
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not has_screen:
        raise NoBrowserError(
            "There is no desktop here to show the page on. Open it in a browser, from another PC "
            f"through an SSH tunnel to this port: {url}"
        )
    name = "open" if sys.platform == "darwin" else "xdg-open"
    opener = shutil.which(name)
    if opener is None:
        raise NoBrowserError(f"No program here opens pages ({name} is missing): open {url}")
    start_detached([opener, url])
