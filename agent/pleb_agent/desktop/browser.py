"""Opening a page in the user's browser, in a process that does not depend on ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from pleb_shared.errors import PlebError

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
    name = "open" if sys.platform == "darwin" else "xdg-open"
    opener = shutil.which(name)
    if opener is None:
        raise NoBrowserError(f"No program here opens pages ({name} is missing): open {url}")
    subprocess.Popen(
        [opener, url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
