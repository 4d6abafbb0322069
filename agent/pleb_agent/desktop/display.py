"""Whether the display that this process was started on is still there.

A display server that does not accept connections any more means that its session is over: the user
logged out. Sources: X(7) on display names, wl_display_connect(3).
"""

from __future__ import annotations

import re
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["display_address", "display_is_there"]

_X_NAME: Final = re.compile(r"(?P<host>[^:]*):(?P<number>\d+)(\.\d+)?")
_X_PORT: Final = 6000
_SECONDS: Final = 2.0

Address = str | tuple[str, int]
"""A Unix socket's path, or a host and a port."""


def display_address(environment: Mapping[str, str]) -> Address | None:
    """Return where the display server listens; None: there is none, or it is not used here.

    A Wayland session's X server may come and go, so Wayland is tried first.
    """
    wayland, runtime = environment.get("WAYLAND_DISPLAY"), environment.get("XDG_RUNTIME_DIR")
    if wayland and (runtime or wayland.startswith("/")):
        return str(Path(runtime or "/") / wayland)
    match = _X_NAME.fullmatch(environment.get("DISPLAY", ""))
    if match is None:
        return None
    number = int(match["number"])
    if match["host"] in {"", "unix"}:
        return f"/tmp/.X11-unix/X{number}"  # noqa: S108 - X's own place
    return match["host"], _X_PORT + number


def display_is_there(address: Address) -> bool:
    """Return whether a server accepts connections there. Blocks for two seconds at most."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(address)
        except TimeoutError:
            return True  # busy, but there
        except OSError:
            return False
    return True
